from __future__ import annotations

import pytest

from fakes import FakeCheckpoint
from stockpot.errors import BlendError, IncompatibleError
from stockpot.kernel import blended_specs, check_compatible, parse_dtype
from stockpot.types import FLOAT_DTYPES, Checkpoint, TensorSpec


def made(source: str, tied: dict[str, str] | None = None, **tensors: tuple[str, tuple[int, ...]]) -> FakeCheckpoint:
    """A checkpoint of zeros; `__` in a name stands for a dot."""
    filled = {
        name.replace("__", "."): (dtype, bytes(TensorSpec(dtype, shape).nbytes), shape)
        for name, (dtype, shape) in tensors.items()
    }
    return FakeCheckpoint(filled, tied=tied, source=source)


def test_the_fake_is_a_checkpoint() -> None:
    assert isinstance(made("a"), Checkpoint)


def test_equal_layouts_are_compatible_whatever_their_file_order() -> None:
    check_compatible([made("a", x=("F32", (2,)), y=("I64", ())), made("b", y=("I64", ()), x=("F32", (2,)))])


def test_every_mismatch_is_listed_with_both_sides() -> None:
    first = made("lr3e-5", head__weight=("BF16", (1000, 8)), head__bias=("BF16", (1000,)), body=("F32", (1,)))
    second = made("lr1e-4", head__weight=("BF16", (100, 8)), body=("F16", (1,)), extra=("F32", (1,)))
    with pytest.raises(IncompatibleError) as caught:
        check_compatible([first, second, first])
    assert caught.value.problems == (
        "head.weight: [1000, 8] BF16 in 'lr3e-5' but [100, 8] BF16 in 'lr1e-4'",
        "head.bias: in 'lr3e-5' but missing in 'lr1e-4'",
        "body: [1] F32 in 'lr3e-5' but [1] F16 in 'lr1e-4'",
        "extra: in 'lr1e-4' but missing in 'lr3e-5'",
    )
    assert "4 mismatches" in str(caught.value)
    assert "--only" in str(caught.value)


def test_shapes_of_one_size_do_not_pass() -> None:
    with pytest.raises(IncompatibleError, match=r"x: \[2, 3\] F32 in 'one' but \[3, 2\] F32 in 'two'"):
        check_compatible([made("a", x=("F32", (2, 3))), made("b", x=("F32", (3, 2)))], ["one", "two"])


def test_a_long_list_is_cut_in_print_only() -> None:
    tensors = {f"t{i}": ("F32", (i,)) for i in range(30)}
    with pytest.raises(IncompatibleError) as caught:
        check_compatible([made("a", **tensors), made("b", other=("F32", ()))])
    assert len(caught.value.problems) == 31
    assert str(caught.value).count("missing") == 20
    assert "... and 11 more" in str(caught.value)


@pytest.mark.parametrize(("one", "two", "has"), [("", "module.", "b"), ("model.", "", "a")])
def test_a_prefix_that_explains_all_is_one_line(one: str, two: str, has: str) -> None:
    names = ["encoder.weight", "weight", "bias"]
    sides = [
        FakeCheckpoint({p + n: ("F32", bytes(4), (1,)) for n in names}, source=s) for p, s in ((one, "a"), (two, "b"))
    ]
    with pytest.raises(IncompatibleError, match=f"all 3 names start with '{one or two}' in '{has}'") as caught:
        check_compatible(sides)
    assert len(caught.value.problems) == 1
    assert "prefix" in str(caught.value.fix)


def test_a_tie_on_one_side_only_is_a_mismatch() -> None:
    tied = made("a", {"lm_head.weight": "wte.weight"}, wte__weight=("F32", (2,)))
    untied = made("b", wte__weight=("F32", (2,)), lm_head__weight=("F32", (2,)))
    with pytest.raises(IncompatibleError) as caught:
        check_compatible([tied, untied])
    line = "lm_head.weight is tied to wte.weight in 'a' but stored separately in 'b'"
    assert caught.value.problems == (line,)
    with pytest.raises(
        IncompatibleError, match=r"lm_head.weight is stored separately in 'b' but tied to wte.weight in 'a'"
    ):
        check_compatible([untied, tied])


def test_a_tied_name_may_be_left_out_and_may_be_the_stored_one() -> None:
    tied = made("a", {"lm_head": "wte"}, wte=("F32", (2,)))
    silent = made("b", wte=("F32", (2,)))
    mirrored = made("c", {"wte": "lm_head"}, lm_head=("F32", (2,)))
    check_compatible([tied, silent, tied])
    check_compatible([silent, tied])
    check_compatible([tied, mirrored])


def test_a_shared_tensor_that_differs_is_one_problem() -> None:
    one = made("a", {"lm_head": "wte"}, wte=("F32", (2,)))
    two = made("b", {"lm_head": "wte"}, wte=("F32", (3,)))
    with pytest.raises(IncompatibleError) as caught:
        check_compatible([one, two])
    assert caught.value.problems == ("wte: [2] F32 in 'a' but [3] F32 in 'b'",)


def test_ties_to_different_tensors_are_a_mismatch() -> None:
    one = made("a", {"z": "x"}, x=("F32", (2,)), y=("F32", (2,)))
    two = made("b", {"z": "y"}, x=("F32", (2,)), y=("F32", (2,)))
    with pytest.raises(IncompatibleError, match="z is tied to x in 'a' but tied to y in 'b'"):
        check_compatible([one, two])


def test_only_excuses_what_is_not_blended() -> None:
    one = made("a", body__w=("F32", (2,)), head__w=("F32", (2,)))
    two = made("b", body__w=("F32", (2,)), head__w=("F32", (3,)), head__b=("F32", ()))
    check_compatible([one, two], only=["body.*"])
    with pytest.raises(IncompatibleError):
        check_compatible([one, two], only=["*.w"])
    three = made("c", body__w=("F32", (2,)), body__new=("F32", (2,)))
    with pytest.raises(IncompatibleError, match=r"body.new: in 'c' but missing in 'a'"):
        check_compatible([one, three], only=["body.*"])


def test_nothing_to_blend_is_said() -> None:
    with pytest.raises(BlendError, match="nothing to blend"):
        check_compatible([])
    with pytest.raises(BlendError, match="1 labels for 2 checkpoints"):
        check_compatible([made("a"), made("b")], ["a"])


def test_blended_specs_follow_the_first_file() -> None:
    first = made("a", z=("F32", (2,)), ids=("I64", (3,)), a=("BF16", ()), empty=("F16", (0, 4)))
    specs = blended_specs([first, first])
    assert list(specs.items()) == list(first.specs.items())
    wide = blended_specs([first], dtype="fp64")
    assert [str(spec) for spec in wide.values()] == ["[2] F64", "[3] I64", "[] F64", "[0, 4] F64"]
    some = blended_specs([first], dtype="fp64", only=["z", "ids"])
    assert [str(spec) for spec in some.values()] == ["[2] F64", "[3] I64", "[] BF16", "[0, 4] F16"]


def test_only_names_the_nearest_tensor() -> None:
    first = made("a", encoder__weight=("F32", ()), decoder__weight=("F32", ()))
    with pytest.raises(BlendError, match=r"'encoder.wieght' matches none of the 2 tensors") as caught:
        blended_specs([first], only=["encoder.wieght", "decoder.*"])
    assert "did you mean 'encoder.weight'?" in str(caught.value.fix)
    with pytest.raises(BlendError):
        blended_specs([first], only=[])


def test_only_finds_a_tensor_by_its_tied_name_and_by_a_name_with_brackets() -> None:
    tied = made("a", {"lm_head": "wte"}, wte=("F32", ()), other=("F32", ()))
    assert [s.dtype for s in blended_specs([tied], "bf16", ["lm_head"]).values()] == ["BF16", "F32"]
    brackets = FakeCheckpoint({"block[0]": ("F32", bytes(4), ())})
    assert blended_specs([brackets], "bf16", ["block[0]"])["block[0]"].dtype == "BF16"


@pytest.mark.parametrize(
    ("text", "dtype"),
    [("fp32", "F32"), ("float32", "F32"), ("F32", "F32"), ("BF16", "BF16"), ("torch.bfloat16", "BF16"), ("fp16", "F16")]
    + [
        ("float16", "F16"),
        ("fp64", "F64"),
        ("fp8_e4m3", "F8_E4M3"),
        ("float8_e4m3fn", "F8_E4M3"),
        ("fp8_e5m2", "F8_E5M2"),
    ]
    + [(dtype, dtype) for dtype in sorted(FLOAT_DTYPES)],
)
def test_dtypes_have_many_spellings(text: str, dtype: str) -> None:
    assert parse_dtype(text) == dtype


@pytest.mark.parametrize("text", ["", "int8", "I64", "bf61"])
def test_an_unknown_dtype_is_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(BlendError, match="unknown dtype") as caught:
        parse_dtype(text)
    assert "known are fp64, fp32, fp16, bf16" in str(caught.value)
