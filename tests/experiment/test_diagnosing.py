"""Planted faults on real small transformers, each found with its ingredients; their healthy twins raise no alarm."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from planted import change, found, look, moved  # noqa: E402
from stockpot import ingredients  # noqa: E402
from stockpot.errors import OutputError  # noqa: E402
from stockpot.experiment.diagnosing import diagnose  # noqa: E402
from stockpot.records import read_diagnosis  # noqa: E402
from tiny_models import LABELS, tiny_classifier, tiny_task  # noqa: E402

Tensors = dict[str, "torch.Tensor"]


@pytest.mark.parametrize("start", [True, False])
def test_healthy_runs_raise_no_alarm(home: Path, start: bool) -> None:
    result = look(start=start)
    assert found(result) == {}
    assert result.drop == ()
    assert result.recipe == "greedy"
    assert read_diagnosis("d") == result


def test_healthy_runs_with_a_task_hear_of_the_held_out_set_alone(home: Path) -> None:
    """A hundred examples, nearly all of them right: too few, and too easy."""
    assert set(found(look(task=True))) <= {"held_out_too_small", "saturated"}


def test_another_architecture_is_refused(home: Path) -> None:
    change("run-2", lambda tensors: tensors.update(extra=torch.ones(3)))
    result = look()
    assert found(result) == {"architecture": ("run-2",)}
    assert result.is_refused
    assert result.recipe is None


def test_another_vocabulary_is_refused(home: Path) -> None:
    name = "bert.embeddings.word_embeddings.weight"
    change("run-1", lambda tensors: tensors.update({name: torch.cat([tensors[name], tensors[name][:2]])}))
    assert found(look()) == {"vocabulary": ("run-1",)}


def test_another_number_of_labels_is_refused(home: Path) -> None:
    shutil.rmtree("run-3")
    tiny_classifier(Path("run-3"), labels=[*LABELS, "more"])
    assert found(look()) == {"labels": ("run-3",)}


@pytest.mark.parametrize("start", [True, False])
def test_a_head_that_began_elsewhere(home: Path, start: bool) -> None:
    generator = torch.Generator().manual_seed(0)

    def other(tensors: Tensors) -> None:
        head = tensors["classifier.weight"]
        tensors["classifier.weight"] = torch.randn(head.shape, generator=generator) * head.std()

    change("run-1", other)
    assert found(look(start=start)) == {"heads": ("run-1",)}


def test_labels_in_another_order(home: Path) -> None:
    order = torch.tensor([2, 0, 1, *range(3, len(LABELS))])

    def permuted(tensors: Tensors) -> None:
        for name in ("classifier.weight", "classifier.bias"):
            tensors[name] = tensors[name][order].contiguous()

    change("run-2", permuted)
    result = look()
    assert found(result) == {"label_order": ("run-2",)}
    assert result.drop == ("run-2",)


@pytest.mark.parametrize("start", [True, False])
def test_another_initialisation(home: Path, start: bool) -> None:
    shutil.rmtree("run-0")
    tiny_classifier(Path("run-0"), seed=9)
    assert found(look(start=start)) == {"start": ("run-0",)}


def test_the_odd_one_is_named_even_if_it_comes_first(home: Path) -> None:
    change("run-0", lambda tensors: tensors.update(extra=torch.ones(3)))
    assert found(look(start=False)) == {"architecture": ("run-0",)}


def test_other_dtypes_are_refused_as_what_they_are(home: Path) -> None:
    change("run-1", lambda tensors: {name: tensor.bfloat16() for name, tensor in tensors.items()})
    assert found(look()) == {"dtype": ("run-1",)}


def headless(prefix: str = "") -> None:
    """The base as a pre-trained model is: no classifier, and maybe no name of the task's class before the others."""
    file = Path("base/model.safetensors")
    kept = {name: tensor for name, tensor in load_file(file).items() if not name.startswith("classifier")}
    save_file({name.removeprefix(prefix): tensor for name, tensor in kept.items()}, file, {"format": "pt"})


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_an_initialisation_without_head_is_compared_where_it_can_be(home: Path, prefix: str) -> None:
    headless(prefix)
    result = look()
    assert found(result) == {}
    assert result.skipped[0].startswith("movement of classifier.")
    load = load_file("run-1/model.safetensors")
    base = load_file("base/model.safetensors")
    near = {name: base.get(name.removeprefix(prefix), tensor) + 1e-6 * tensor for name, tensor in load.items()}
    change("run-1", lambda _: near)
    assert found(look()) == {"barely_moved": ("run-1",)}


def test_an_initialisation_of_another_network_is_said_to_be_no_help(home: Path) -> None:
    save_file({"w": torch.ones(3)}, "base/model.safetensors")
    result = look()
    assert found(result) == {}
    assert "shares no tensor with the ingredients: it has other names" in result.skipped[0]
    save_file({name: torch.ones(1, 7) for name in load_file("run-0/model.safetensors")}, "base/model.safetensors")
    assert "equal names have other shapes" in look().skipped[0]


def recast(folder: str, dtype: torch.dtype) -> None:
    change(folder, lambda tensors: {name: tensor.to(dtype) for name, tensor in tensors.items()})


@pytest.mark.parametrize("folders", [("base",), ("run-0", "run-1", "run-2", "run-3")])
def test_a_start_in_another_dtype_is_compared_all_the_same(home: Path, folders: tuple[str, ...]) -> None:
    for folder in folders:
        recast(folder, torch.bfloat16)
    result = look()
    assert found(result) == {}
    assert result.skipped == ("scores, midpoints, overlap: no --task",)
    base, dtype = load_file("base/model.safetensors"), load_file("run-1/model.safetensors")["classifier.bias"].dtype
    change("run-1", lambda _: {name: (tensor * (1 + 1e-6)).to(dtype) for name, tensor in base.items()})
    assert found(look()) == {"barely_moved": ("run-1",)}


def test_an_initialisation_with_nan_is_a_finding_and_the_runs_are_still_compared(home: Path) -> None:
    file = Path("base/model.safetensors")
    tensors = load_file(file)
    tensors["classifier.bias"] *= float("nan")
    save_file(tensors, file, {"format": "pt"})
    shutil.rmtree("run-0")
    tiny_classifier(Path("run-0"), seed=9)
    assert found(look()) == {"initialisation_not_finite": (), "start": ("run-0",)}


def test_an_ingredient_may_be_called_initialisation(home: Path) -> None:
    Path("run-0").rename("initialisation")
    result = diagnose(ingredients("run-*", "initialisation"), initialisation="base")
    assert found(result) == {}
    assert "initialisation" in result.ingredients


def test_a_wrong_initialisation_is_not_blamed_on_the_runs(home: Path) -> None:
    tiny_classifier(Path("base"), seed=77)
    result = look()
    assert found(result) == {"initialisation": ()}
    assert (result.drop, result.recipe) == ((), "greedy")


def test_an_initialisation_with_more_than_the_runs_have_is_compared(home: Path) -> None:
    file = Path("base/model.safetensors")
    save_file({**load_file(file), "cls.predictions.bias": torch.ones(3)}, file, {"format": "pt"})
    assert found(look()) == {}
    change("run-1", moved_from(load_file(file), 0.001))
    assert found(look()) == {"barely_moved": ("run-1",)}


def moved_from(base: Tensors, factor: float) -> Callable[[Tensors], None]:
    def edit(tensors: Tensors) -> None:
        for name, tensor in tensors.items():
            tensors[name] = base[name] + factor * (tensor - base[name])

    return edit


def test_an_output_that_cannot_be_made_is_said_first(home: Path) -> None:
    Path("file").write_text("")
    with pytest.raises(OutputError, match="cannot write file"):
        diagnose(ingredients("run-*"), out="file")


def test_a_run_with_nan(home: Path) -> None:
    change("run-3", lambda tensors: tensors.update({"classifier.bias": tensors["classifier.bias"] * float("nan")}))
    result = look()
    assert found(result) == {"not_finite": ("run-3",)}
    assert result.drop == ("run-3",)


def test_a_run_that_went_too_far(home: Path) -> None:
    for run in ("run-1", "run-2", "run-3"):
        change(run, moved(0.1))
    assert found(look()) == {"diverged": ("run-0",)}


def test_a_run_that_barely_moved(home: Path) -> None:
    change("run-1", moved(0.01))
    assert found(look()) == {"barely_moved": ("run-1",)}


@pytest.mark.parametrize(
    ("factor", "expected"), [(60.0, {"diverged": ("run-1",)}), (0.002, {"barely_moved": ("run-1",)}), (1.0, {})]
)
def test_of_two_runs_the_odd_one_is_told_by_the_length_of_the_start(
    home: Path, factor: float, expected: dict[str, tuple[str, ...]]
) -> None:
    for run in ("run-2", "run-3"):
        shutil.rmtree(run)
    change("run-1", moved(factor))
    assert found(look()) == expected


def test_of_two_runs_that_went_unequal_ways_neither_is_blamed(home: Path) -> None:
    for run in ("run-2", "run-3"):
        shutil.rmtree(run)
    change("run-1", moved(0.08))
    result = look()
    assert found(result) == {"uneven": ("run-1", "run-0")}
    assert result.drop == ()


def test_without_a_start_the_far_run_is_told_by_its_distance_to_the_others(home: Path) -> None:
    for run in ("run-1", "run-2", "run-3"):
        change(run, moved(0.1))
    result = look(start=False)
    assert found(result) == {"diverged": ("run-0",)}
    assert result.skipped == ("who barely moved: no --initialisation", "scores, midpoints, overlap: no --task")


def test_runs_that_predict_the_same_are_near_duplicates(home: Path) -> None:
    def padded(tensors: Tensors) -> None:  # rows of positions that no text reaches
        tensors["bert.embeddings.position_embeddings.weight"][-4:] += 0.5

    shutil.rmtree("run-3")
    shutil.copytree("run-1", "run-3")
    change("run-3", padded)
    result = look(task=True)
    assert found(result)["near_duplicates"] == ("run-1", "run-3")
    assert "equal score" in next(one for one in result.findings if one.kind == "near_duplicates").evidence[0]


@pytest.mark.parametrize(("n", "expected"), [(60, True), (6000, False)])
def test_a_held_out_split_too_small_to_tell(home: Path, n: int, expected: bool) -> None:
    tiny_task(home, n=n, shifts=False)
    assert ("held_out_too_small" in found(look(task=True))) is expected


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize("factor", [12.0, 20.0, 100.0])
def test_a_run_that_went_far_is_no_stranger(home: Path, start: bool, factor: float) -> None:
    change("run-2", moved(factor))
    result = look(start=start)
    assert found(result) == {"diverged": ("run-2",)}
    assert result.drop == ("run-2",)
    assert " times the median " in result.findings[0].evidence[0]


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_a_run_that_went_somewhat_farther_raises_no_alarm(home: Path, start: bool, factor: float) -> None:
    change("run-2", moved(factor))
    assert found(look(start=start)) == {}


def test_of_two_runs_without_a_start_the_one_that_holds_the_other_went_far(home: Path) -> None:
    for run in ("run-2", "run-3"):
        shutil.rmtree(run)
    result = look(start=False)
    assert found(result) == {}
    assert result.skipped[1].startswith("who went far, near-duplicates: two runs alone")
    change("run-1", moved(60.0))
    assert found(look(start=False)) == {"diverged": ("run-1",)}


def of_another_start(*runs: str) -> None:
    """The same runs, begun from other weights."""
    base = load_file("base/model.safetensors")
    other = load_file(tiny_classifier(Path("other"), seed=77) / "model.safetensors")
    for run in runs:
        change(run, lambda tensors: {name: other[name] + tensor - base[name] for name, tensor in tensors.items()})


def test_two_groups_of_starts_are_told_apart(home: Path) -> None:
    of_another_start("run-1", "run-3")
    result = look(start=False)
    assert found(result) == {"start": ("run-1", "run-3")}
    (finding,) = result.findings
    assert finding.evidence[:2] == ("run-0, run-2 belong together", "run-1, run-3 belong together")
    assert finding.fix.endswith("leave out run-1, run-3; or run-1, run-3 by themselves")
    assert "greedy of the other 2" in result.recommendation


def test_the_larger_group_of_starts_is_kept(home: Path) -> None:
    of_another_start("run-0", "run-2", "run-3")
    shutil.copytree("run-1", "run-4")
    change("run-4", moved(1.5))
    result = look(start=False)
    assert found(result)["start"] == ("run-1", "run-4")


def test_the_group_of_the_best_run_is_kept_where_scores_are_known(home: Path) -> None:
    of_another_start("run-0", "run-2")  # which know nothing of the task any more
    result = look(start=False, task=True)
    assert found(result)["start"] == ("run-0", "run-2")
    assert "basin" not in found(result)
    assert set(result.drop) == {"run-0", "run-2"}


def test_a_wrong_initialisation_and_an_odd_run_are_both_told(home: Path) -> None:
    of_another_start("run-1")
    tiny_classifier(Path("base"), seed=5)
    assert found(look()) == {"initialisation": (), "start": ("run-1",)}


def test_runs_that_are_near_only_as_seen_from_a_stranger_are_no_duplicates(home: Path) -> None:
    for run in ("run-0", "run-2", "run-3"):
        change(run, moved(0.05))
    of_another_start("run-1")
    assert found(look(start=False)) == {"start": ("run-1",)}


def test_duplicates(home: Path) -> None:
    shutil.rmtree("run-3")
    shutil.copytree("run-1", "run-3")
    result = look()
    assert found(result) == {"duplicates": ("run-1", "run-3")}
    assert result.drop == ("run-3",)


def test_near_duplicates(home: Path) -> None:
    shutil.rmtree("run-3")
    shutil.copytree("run-1", "run-3")
    change("run-3", moved(1.001))
    assert found(look()) == {"near_duplicates": ("run-1", "run-3")}


def test_a_run_in_another_basin(home: Path) -> None:
    """The same function with the pooler's signs turned: as good on its own, useless half-way."""

    def mirrored(tensors: Tensors) -> None:
        for name in ("bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight"):
            tensors[name] = -tensors[name]

    change("run-2", mirrored)
    result = look(task=True)
    assert "unequal" not in found(result)
    assert found(result)["basin"] == ("run-2",)
    assert "run-2" in result.drop


def test_several_runs_with_nan_are_one_finding(home: Path) -> None:
    for run in ("run-1", "run-3"):
        change(run, lambda tensors: tensors.update({"classifier.bias": tensors["classifier.bias"] * float("nan")}))
    result = look()
    assert found(result) == {"not_finite": ("run-1", "run-3")}
    assert len(result.findings) == 1
    assert result.drop == ("run-1", "run-3")


def test_runs_are_named_by_dtype(home: Path) -> None:
    for run in ("run-1", "run-2"):
        recast(run, torch.bfloat16)
    recast("run-3", torch.float16)
    (finding,) = look().findings
    assert finding.evidence == ("BF16: run-1, run-2", "F32: run-0", "F16: run-3")


@pytest.mark.parametrize(("every", "expected"), [(0, True), (5, False)])
def test_a_held_out_set_that_is_solved(home: Path, every: int, expected: bool) -> None:
    """The runs know the task; where every fifth label is wrong there is something left to get wrong."""
    header, *rows = Path("rows.tsv").read_text().splitlines()
    if every:
        rows = [row if i % every else f"{LABELS[i % 3]}\t{row.split(chr(9))[1]}" for i, row in enumerate(rows)]
    Path("rows.tsv").write_text("\n".join([header, *rows]) + "\n")
    result = look(task=True)
    assert ("saturated" in found(result)) is expected
    assert ("chooses by chance" in result.recommendation) is expected


def test_individuals_too_unequal(home: Path) -> None:
    def biased(tensors: Tensors) -> None:
        tensors["classifier.bias"] += 8.0 * torch.eye(len(LABELS))[0]

    change("run-1", biased)
    assert found(look(task=True))["unequal"] == ("run-1",)


def test_held_out_and_test_that_share_rows(home: Path) -> None:
    task = json.loads(Path("task.yaml").read_text())
    task["data"]["test"] = {"file": "test.tsv"}
    lines = Path("rows.tsv").read_text().splitlines()
    Path("test.tsv").write_text("\n".join(lines) + "\n")
    Path("task.yaml").write_text(json.dumps(task))
    result = look(task=True)
    (overlap,) = [finding for finding in result.findings if finding.kind == "overlap"]
    assert overlap.evidence[0].startswith("100 of 300 test texts are held-out texts")
    assert result.checked[-3:] == ("scores", "overlap", "midpoints")
    assert "take the shared examples out" in result.recommendation
    assert "uniform beside it" in result.recommendation


def test_a_task_without_test_split_says_that_overlap_was_not_looked_at(home: Path) -> None:
    tiny_task(home, n=300, shifts=False, test=False)
    result = look(task=True)
    assert "overlap" not in result.checked
    assert "overlap: the task has no test split" in result.skipped


def test_running_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=3)
    torch.manual_seed(0)
    model = transformers.ResNetForImageClassification(config)
    model.save_pretrained("base")
    for number in range(3):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.01 * torch.randn(parameter.shape))
        model.save_pretrained(f"run-{number}")
    assert found(diagnose(ingredients("run-*"), initialisation="base")).keys() == {"running_statistics"}
