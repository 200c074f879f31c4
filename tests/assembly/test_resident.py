"""The resident module: the soup's bits after any history, one read a step, nothing claimed after a failure."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from stockpot import ingredients, materialize, uniform
from stockpot.assembly import ResidentSoup
from stockpot.errors import BlendError, IncompatibleError
from stockpot.recipes import ensemble, greedy, single
from stockpot.types import Coefficients, Incumbent, Ingredient, Score, Soup

NAMES = "abcd"


class Model(torch.nn.Module):
    """Parameters, a 0-d buffer, an integer buffer, an empty tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(5, 7))
        self.b = torch.nn.Parameter(torch.zeros(3))
        self.empty = torch.nn.Parameter(torch.zeros(0, 2))
        self.register_buffer("scale", torch.zeros(()))
        self.register_buffer("steps", torch.zeros(1, dtype=torch.int64))


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16, torch.float16], ids=str)
def members(request, tmp_path_factory) -> tuple[Ingredient, ...]:
    folder = tmp_path_factory.mktemp("members")
    for number, name in enumerate(NAMES):
        generator = torch.Generator().manual_seed(number)
        state = {
            key: torch.randn(tensor.shape, generator=generator).to(request.param)
            for key, tensor in Model().state_dict().items()
        }
        save_file(state | {"steps": torch.tensor([number])}, folder / f"{name}.safetensors")
    return ingredients(folder / "*.safetensors")


def assert_holds(module: torch.nn.Module, soup: Soup) -> None:
    """The module's tensors are the blend from scratch, in the module's own dtype, to the bit."""
    expected = materialize(soup)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, expected[name].to(tensor.dtype)), name
        assert torch.equal(torch.signbit(tensor), torch.signbit(expected[name])), name


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.sampled_from(["step", "known", "other"])), max_size=10),
    st.sampled_from([0, 2**20]),
)
def test_any_history_is_a_blend_from_scratch(members, steps, budget_bytes) -> None:
    """Accepted or not; asked, or known to the journal and never asked; with other soups in between; sums on disk."""
    module = Model()
    resident = ResidentSoup(module, budget_bytes=budget_bytes)
    incumbent = Incumbent(single(members[0]), Score(0.0))
    for number, accepted, kind in steps:
        soup = uniform([*incumbent.soup.ingredients, members[number]])
        if kind == "other":
            other = Soup(members[:2], Coefficients.of([0.3, 0.7]), "weighted")
            resident.load(other)
            assert_holds(module, other)
        if kind != "known":
            resident.load(soup, against=incumbent)
            assert_holds(module, soup)
        if accepted:
            incumbent = Incumbent(soup, Score(0.0))
    resident.close()


def test_one_read_a_step_accepted_or_not(members) -> None:
    resident = ResidentSoup(Model())
    incumbent = Incumbent(uniform(members[:1]), Score(0.0))
    resident.load(uniform(members[:2]), against=incumbent)
    reads = [resident.n_checkpoints_read]
    assert reads == [2]  # the first of the running sum, and the candidate
    for number, accepted in ((2, False), (3, True), (2, True), (1, False), (0, False)):
        soup = uniform([*incumbent.soup.ingredients, members[number]])
        resident.load(soup, against=incumbent)
        reads.append(resident.n_checkpoints_read)
        if accepted:
            incumbent = Incumbent(soup, Score(0.0))
    assert reads == [2, 3, 4, 5, 6, 7]


def test_greedy_over_all_reads_two_per_ingredient_and_no_more(members) -> None:
    """k single models from scratch, then k - 1 steps, the first of which reads its incumbent, too."""
    module = Model()
    resident = ResidentSoup(module)

    def evaluate(soup: Soup, *, against: Incumbent | None = None) -> Score:
        resident.load(soup, against=against)
        return Score(float(module.w.detach().sum()))

    greedy(members, evaluate)
    assert resident.n_checkpoints_read == 2 * len(members)


def test_what_is_there_is_not_read_again(members) -> None:
    resident = ResidentSoup(Model())
    for _ in range(3):
        resident.load(uniform(members))
    assert resident.n_checkpoints_read == len(members)


@pytest.mark.parametrize("on_the_running_path", [False, True])
def test_after_a_failure_nothing_is_claimed(members, tmp_path, on_the_running_path) -> None:
    module = Model()
    resident = ResidentSoup(module)
    state = {name: tensor.float() for name, tensor in materialize(single(members[0])).items()}
    dtype = materialize(single(members[0]))["w"].dtype
    state["w"][4, 6] = float("nan")  # late in the file, so that much is assigned before it is found
    state = {name: tensor if name == "steps" else tensor.to(dtype) for name, tensor in state.items()}
    state["steps"] = torch.tensor([9])
    save_file(state, tmp_path / "sick.safetensors")
    (sick,) = ingredients(tmp_path / "sick.safetensors")
    good = uniform(members[:2])
    against = Incumbent(good, Score(0.0)) if on_the_running_path else None
    resident.load(good, against=Incumbent(single(members[0]), Score(0.0)) if against else None)
    with pytest.raises(BlendError, match="sick"):
        resident.load(uniform([*members[:2], sick]), against=against)
    resident.load(good)
    assert_holds(module, good)
    better = uniform(members[:3])
    resident.load(better, against=against)
    assert_holds(module, better)


def test_closed_and_used_again(members) -> None:
    module = Model()
    resident = ResidentSoup(module)
    incumbent = Incumbent(single(members[0]), Score(0.0))
    resident.load(uniform(members[:2]), against=incumbent)
    resident.close()
    resident.load(uniform([members[0], members[2]]), against=incumbent)
    assert_holds(module, uniform([members[0], members[2]]))


def test_a_candidate_that_does_not_fit_the_first(members, tmp_path) -> None:
    save_file({"w": torch.zeros(5, 8), "b": torch.zeros(3)}, tmp_path / "odd.safetensors")
    (odd,) = ingredients(tmp_path / "odd.safetensors")
    resident = ResidentSoup(Model())
    with pytest.raises(IncompatibleError):
        resident.load(uniform([members[0], odd]), against=Incumbent(single(members[0]), Score(0.0)))


def test_ensembles_are_refused(members) -> None:
    with pytest.raises(BlendError, match="logits"):
        ResidentSoup(Model()).load(ensemble(members))


class Pair(torch.nn.Module):
    def __init__(self, *, is_tied: bool) -> None:
        super().__init__()
        self.inner = torch.nn.Parameter(torch.zeros(4))
        self.outer = self.inner if is_tied else torch.nn.Parameter(torch.zeros(4))


@pytest.mark.parametrize("is_tied_in_model", [True, False])
def test_tied_in_the_file(tmp_path, is_tied_in_model) -> None:
    """Both names get the values, whether the model ties them or keeps two copies."""
    paths: list[Path] = []
    for number in range(2):
        tensor = torch.full((4,), float(number + 1))
        paths.append(tmp_path / f"{number}.pt")
        torch.save({"inner": tensor, "outer": tensor}, paths[-1])
    module = Pair(is_tied=is_tied_in_model)
    ResidentSoup(module).load(uniform(ingredients(*paths)))
    assert module.inner.tolist() == module.outer.tolist() == [1.5] * 4
    assert (module.inner is module.outer) is is_tied_in_model


def test_a_tied_name_of_another_shape_in_the_model(tmp_path) -> None:
    tensor = torch.ones(4)
    torch.save({"inner": tensor, "outer": tensor}, tmp_path / "0.pt")
    module = Pair(is_tied=False)
    module.outer = torch.nn.Parameter(torch.zeros(5))
    with pytest.raises(IncompatibleError) as caught:
        ResidentSoup(module).load(single(ingredients(tmp_path / "0.pt")[0]))
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["outer"]
