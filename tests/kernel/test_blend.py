from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from fakes import FakeCheckpoint, float_checkpoint
from stockpot.errors import BlendError, IncompatibleError
from stockpot.kernel import blend, blended_specs
from stockpot.types import FLOAT_DTYPES, Checkpoint, Coefficients

FLOATS = sorted(FLOAT_DTYPES)
SHAPES: list[tuple[int, ...]] = [(), (0,), (3, 0), (1,), (5,), (2, 3), (7,), (2, 2, 2)]
LAWFUL = settings(deadline=None, derandomize=True, max_examples=150)


def blended(checkpoints: Sequence[Checkpoint], coefficients: Coefficients, **options: object) -> dict[str, bytes]:
    """All tensors of a blend, put together from chunks that must come in order and leave nothing out."""
    result: dict[str, bytes] = {}
    for chunk in blend(checkpoints, coefficients, **options):  # type: ignore[arg-type]
        result.setdefault(chunk.name, b"")
        assert chunk.start == len(result[chunk.name])
        assert list(result)[-1] == chunk.name
        result[chunk.name] += bytes(chunk.data)
    options.pop("chunk_elements", None)
    only, dtype = options.get("only"), options.get("dtype")
    specs = blended_specs(checkpoints, dtype, only)  # type: ignore[arg-type]
    assert {name: spec.nbytes for name, spec in specs.items()} == {name: len(data) for name, data in result.items()}
    assert list(result) == list(checkpoints[0].specs)
    return result


def finite_codes(dtype: str, n: int) -> st.SearchStrategy[bytes]:
    form = reference.FORMATS[dtype]
    code = st.builds(lambda m, s: m | s, st.integers(0, form.largest_code), st.sampled_from([0, form.sign_bit]))
    return st.lists(code, min_size=n, max_size=n).map(lambda codes: reference.from_codes(codes, dtype))


@st.composite
def stacks(draw: Callable, dtypes: Sequence[str] = FLOATS) -> tuple[str, tuple[int, ...], list[bytes]]:
    """A dtype, a shape, and the same tensor of 1 to 5 ingredients, any finite codes."""
    dtype, shape = draw(st.sampled_from(dtypes)), draw(st.sampled_from(SHAPES))
    n = int(np.prod(shape))
    return dtype, shape, draw(st.lists(finite_codes(dtype, n), min_size=1, max_size=5))


def checkpoints_of(dtype: str, shape: tuple[int, ...], tensors: list[bytes]) -> list[FakeCheckpoint]:
    return [FakeCheckpoint({"x": (dtype, data, shape)}, source=str(i)) for i, data in enumerate(tensors)]


@st.composite
def rows(draw: Callable, k: int) -> list[float]:
    kind = draw(st.sampled_from(["equal", "common", "one", "any", "some_equal"]))
    if kind == "equal":
        return [1.0 / k] * k
    if kind == "common":
        return [draw(st.sampled_from([1.0, -0.5, 0.1, 1 / 3]))] * k
    if kind == "one":
        return [1.0 if i == k // 2 else 0.0 for i in range(k)]
    if kind == "some_equal":
        used = draw(st.lists(st.booleans(), min_size=k, max_size=k))
        return [1.0 / max(sum(used), 1) if use else 0.0 for use in used]
    number = st.one_of(st.sampled_from([0.0, 1.0, -1.0]), st.floats(-2, 2))
    return draw(st.lists(number, min_size=k, max_size=k))


@LAWFUL
@given(st.data())
def test_matches_the_reference_to_the_bit(data: st.DataObject) -> None:
    dtype, shape, tensors = data.draw(stacks())
    row = data.draw(rows(len(tensors)))
    output = data.draw(st.sampled_from([None, *FLOATS]))
    chunk_elements = data.draw(st.sampled_from([1, 2, 3, 100]))
    checkpoints = checkpoints_of(dtype, shape, tensors)
    options = {"dtype": output, "chunk_elements": chunk_elements}
    try:
        expected = reference.reference_blend(tensors, dtype, row, output)
    except OverflowError:
        with pytest.raises(BlendError):
            blended(checkpoints, Coefficients.of(row), **options)
    else:
        assert blended(checkpoints, Coefficients.of(row), **options)["x"] == expected


@pytest.mark.parametrize("dtype", FLOATS)
def test_matches_the_reference_on_values_like_those_of_networks(dtype: str) -> None:
    random = np.random.default_rng(1)
    values = random.normal(0, 0.05, (5, 400))
    tensors = [reference.from_codes([reference.code_of(float(v), dtype) for v in row], dtype) for row in values]
    checkpoints = checkpoints_of(dtype, (20, 20), tensors)
    for row, output in itertools.product([[0.2] * 5, [0.5, 0.3, 0.0, 0.4, -0.2], [0.3] * 5], [None, "BF16", "F32"]):
        got = blended(checkpoints, Coefficients.of(row), dtype=output, chunk_elements=64)["x"]
        assert got == reference.reference_blend(tensors, dtype, row, output)


@LAWFUL
@given(stacks(), st.integers(0, 4))
def test_coefficient_one_is_the_identity(stack: tuple[str, tuple[int, ...], list[bytes]], which: int) -> None:
    dtype, shape, tensors = stack
    which %= len(tensors)
    row = [1.0 if i == which else 0.0 for i in range(len(tensors))]
    assert blended(checkpoints_of(dtype, shape, tensors), Coefficients.of(row))["x"] == tensors[which]


@LAWFUL
@given(stacks([d for d in FLOATS if d != "F64"]), st.integers(1, 9))
def test_copies_blend_to_the_original(stack: tuple[str, tuple[int, ...], list[bytes]], k: int) -> None:
    dtype, shape, tensors = stack
    checkpoint = checkpoints_of(dtype, shape, tensors)[0]
    assert blended([checkpoint] * k, Coefficients.equal(k))["x"] == tensors[0]


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_the_order_does_not_show(dtype: str) -> None:
    random = np.random.default_rng(2)
    magnitudes = random.choice([-1, 1], (4, 200)) * random.uniform(0.01, 1.0, (4, 200))
    tensors = [reference.from_codes([reference.code_of(float(v), dtype) for v in row], dtype) for row in magnitudes]
    checkpoints = checkpoints_of(dtype, (200,), tensors)
    orders = itertools.permutations(checkpoints)
    assert len({blended(order, Coefficients.equal(4))["x"] for order in orders}) == 1


def test_is_linear_where_float64_is_exact() -> None:
    random = np.random.default_rng(3)
    x, y = (random.integers(-999, 999, 50).astype("<f4") for _ in range(2))
    got = np.frombuffer(
        blended([float_checkpoint(x=x), float_checkpoint(x=y)], Coefficients.of([3.0, -0.25]))["x"], "<f4"
    )
    assert np.array_equal(got, 3 * x - y / 4)


def test_signs_of_zero() -> None:
    zeros = [float_checkpoint(x=[-0.0, -0.0]), float_checkpoint(x=[-0.0, 0.0])]

    def signs(*row: float) -> list[bool]:
        return np.signbit(np.frombuffer(blended(zeros, Coefficients.of(row))["x"], "<f4")).tolist()

    assert signs(0.5, 0.5) == [True, False]
    assert signs(0.0, 1.0) == [True, False]
    assert signs(0.7, 0.3) == [True, False]
    assert signs(0.0, 0.0) == [False, False]


def test_third_of_three_is_exact_and_not_scaled_before_the_sum() -> None:
    values = np.array([1.0, 3.0, 1e-3, 7.0], "<f8")
    checkpoint = FakeCheckpoint({"x": ("F64", values, (4,))})
    assert blended([checkpoint] * 3, Coefficients.equal(3))["x"] == values.tobytes()


def test_integers_and_booleans_come_from_the_first() -> None:
    def made(source: str, step: int, flag: int) -> FakeCheckpoint:
        tensors = {"step": ("I64", np.array([2**60 + step, 5], "<i8"), (2,)), "w": ("F32", bytes(4), ())}
        return FakeCheckpoint(tensors | {"flag": ("BOOL", bytes([flag, 1, 1]), (3,))}, source=source)

    differences: list[tuple[str, str]] = []
    checkpoints = [made("a", 1, 0), made("b", 2, 0), made("c", 1, 1)]
    got = blended(
        checkpoints,
        Coefficients.of([0.0, 0.5, 0.5]),
        chunk_elements=1,
        on_difference=lambda tensor, label: differences.append((tensor, label)),
    )
    assert got["step"] == np.array([2**60 + 1, 5], "<i8").tobytes()
    assert got["flag"] == bytes([0, 1, 1])
    assert differences == [("step", "b"), ("flag", "c")]


def test_only_leaves_the_rest_to_the_first_unread_elsewhere() -> None:
    one = FakeCheckpoint({"body": ("F16", np.ones(3, "<f2"), (3,)), "head": ("F16", np.full(2, np.nan, "<f2"), (2,))})
    two = FakeCheckpoint({"body": ("F16", np.zeros(3, "<f2"), (3,)), "head": ("F32", bytes(20), (5,))})
    got = blended([one, two], Coefficients.equal(2), only=["bo*"], dtype="fp32")
    assert got["body"] == np.full(3, 0.5, "<f4").tobytes()
    assert got["head"] == np.full(2, np.nan, "<f2").tobytes()
    assert two.bytes_read == {"body": 6}


def test_a_shared_tensor_is_read_under_either_name() -> None:
    one = FakeCheckpoint({"wte": ("F32", np.array([1.0], "<f4"), (1,))}, tied={"lm_head": "wte"})
    two = FakeCheckpoint({"lm_head": ("F32", np.array([3.0], "<f4"), (1,))}, tied={"wte": "lm_head"})
    assert blended([one, two], Coefficients.equal(2)) == {"wte": np.array([2.0], "<f4").tobytes()}
    assert blended([two, one], Coefficients.equal(2)) == {"lm_head": np.array([2.0], "<f4").tobytes()}


def test_groups_have_rows_of_their_own() -> None:
    one = FakeCheckpoint({n: ("F32", np.full(2, 1.0, "<f4"), (2,)) for n in "xyz"} | {"i": ("I64", bytes(8), ())})
    two = FakeCheckpoint({n: ("F32", np.full(2, 2.0, "<f4"), (2,)) for n in "xyz"} | {"i": ("I64", bytes(8), ())})
    by_layer = Coefficients(((1.0, 0.0), (0.25, 0.75)), (("x",), ("y", "z")))
    got = blended([one, two], by_layer)
    assert [np.frombuffer(got[n], "<f4")[0] for n in "xyz"] == [1.0, 1.75, 1.75]


def test_groups_that_do_not_fit_are_all_listed() -> None:
    tensors = {n: ("F32", bytes(4), ()) for n in ("x", "y", "z")}
    checkpoint = FakeCheckpoint(tensors, tied={"t": "x"})
    with pytest.raises(BlendError) as caught:
        blend([checkpoint], Coefficients(((1.0,), (1.0,)), (("x", "nope"), ("x", "t", "y"))))
    assert caught.value.problems == (
        "nope: in group 0, but there is no such tensor",
        "x: in group 1 and in group 0",
        "t: in group 1, but it is tied to x; name that one",
        "z: in no group",
    )


def test_headers_are_checked_before_anything_is_read() -> None:
    one, two = float_checkpoint("a", x=[1.0]), float_checkpoint("b", x=[1.0, 2.0])
    with pytest.raises(IncompatibleError):
        blend([one, two], Coefficients.equal(2))
    with pytest.raises(BlendError, match="2 coefficients for 1 ingredients"):
        blend([one], Coefficients.equal(2))
    with pytest.raises(BlendError, match="unknown dtype"):
        blend([one], Coefficients.equal(1), dtype="fp31")
    with pytest.raises(BlendError, match="nothing to blend"):
        blend([], Coefficients.equal(2))
    assert not one.bytes_read


def test_each_tensor_is_read_once() -> None:
    checkpoints = [float_checkpoint(x=np.ones(10), y=np.ones(3)) for _ in range(3)]
    blended(checkpoints, Coefficients.of([0.0, 0.3, 0.7]), chunk_elements=4)
    assert [dict(c.bytes_read) for c in checkpoints] == [{"x": 40, "y": 12}] * 3


def test_an_empty_tensor_gives_one_empty_chunk() -> None:
    checkpoint = FakeCheckpoint({"e": ("F32", b"", (0, 4)), "i": ("I8", b"", (0,))})
    chunks = [(c.name, c.spec.shape, c.start, len(c.data)) for c in blend([checkpoint], Coefficients.equal(1))]
    assert chunks == [("e", (0, 4), 0, 0), ("i", (0,), 0, 0)]
