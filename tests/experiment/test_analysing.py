"""`analyse` on tiny real models: every part against what the soups themselves score; nothing is predicted twice."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from stockpot import ingredients, uniform
from stockpot.assembly import materialize
from stockpot.errors import ConfigError
from stockpot.experiment.analysing import AnalysisOptions, analyse
from stockpot.recipes import single
from stockpot.records import Analysis, read_analysis, write_analysis
from stockpot.tasks import load_task
from tiny_models import tiny_classifier, tiny_fine_tunes, tiny_task

SMALL = AnalysisOptions(grid=3, line_points=3, most_pairs=2, orders=2)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("space")
    tiny_fine_tunes(home, tiny_classifier(home / "base"), 3, scale=0.3)
    tiny_task(home, n=60)
    return home


@pytest.fixture(scope="session")
def whole(home: Path) -> Analysis:
    runs = ingredients(home / "run-*")
    return analyse(runs, home / "out", task=home / "task.yaml", initialisation=str(home / "base"), options=SMALL)


@pytest.fixture
def task(home: Path):
    return load_task(home / "task.yaml", home / "run-0")


def test_the_record_says_what_was_found(home: Path, whole: Analysis) -> None:
    assert read_analysis(home / "out") == whole
    assert whole.notes == ()
    assert whole.metric == "accuracy"


def test_lengths_are_those_of_the_tensors(home: Path, whole: Analysis) -> None:
    import torch

    runs = ingredients(home / "run-*")
    base, first = (materialize(uniform([one])) for one in (ingredients(home / "base")[0], runs[0]))
    squares = [
        float((first[n].double() - base[n].double()).square().sum()) for n in base if base[n].is_floating_point()
    ]
    assert whole.geometry is not None
    assert whole.geometry.norms[0] == pytest.approx(math.sqrt(sum(squares)))
    assert isinstance(next(iter(base.values())), torch.Tensor)


def test_the_plane_passes_through_its_corners(home: Path, whole: Analysis, task) -> None:
    assert whole.plane is not None
    assert len(whole.plane.points) == 9
    named = {point.name: point for point in whole.plane.named}
    start = named["initialisation"]
    assert (start.x, start.y) == (0.0, 0.0)
    assert set(named) == {*whole.plane.corners, "midpoint", "uniform soup"}
    one, two = (named[name] for name in whole.plane.corners[1:])
    assert one.y == pytest.approx(0.0, abs=1e-9)
    middle = named["midpoint"]
    assert (middle.x, middle.y) == pytest.approx(((one.x + two.x) / 2, (one.y + two.y) / 2))
    runs = {run.name: run for run in ingredients(home / "run-*")}
    two_best = uniform([runs[name] for name in whole.plane.corners[1:]])
    assert middle.measured["held_out"].score == task.evaluate(two_best).value


def test_the_line_ends_where_it_says(whole: Analysis) -> None:
    assert whole.line is not None
    assert whole.plane is not None
    assert whole.line.alphas == (0.0, 0.5, 1.0)
    named = {point.name: point for point in whole.plane.named}
    ends = whole.line.measured["test"]
    assert ends[0] == named["initialisation"].measured["test"]
    assert ends[-1] == named["uniform soup"].measured["test"]


def test_pairs_and_counts_meet(home: Path, whole: Analysis) -> None:
    assert whole.pairs is not None
    assert whole.count is not None
    assert len(whole.pairs) == 2
    curves = {curve.method: curve for curve in whole.count}
    assert set(curves) == {"best", "uniform", "greedy", "ensemble"}
    assert curves["uniform"].counts == (1, 2, 3)
    assert whole.plane is not None
    all_of_them = next(point for point in whole.plane.named if point.name == "uniform soup")
    assert curves["uniform"].means["test"][-1] == pytest.approx(all_of_them.measured["test"].score)
    assert curves["uniform"].sds["test"][-1] == 0.0  # the same three, whatever the order
    assert curves["best"].means["test"][0] == curves["greedy"].means["test"][0]


def test_reliability_holds_every_example_once(whole: Analysis, task) -> None:
    assert whole.reliability is not None
    assert {curve.method for curve in whole.reliability} == {"best", "uniform", "ensemble"}
    assert {sum(curve.counts) for curve in whole.reliability} == {task.n_examples("test")}


def test_a_second_call_predicts_nothing_and_keeps_other_parts(home: Path, whole: Analysis, monkeypatch) -> None:
    monkeypatch.setattr(
        "stockpot.tasks.text.TextClassification.predict", lambda *_, **__: pytest.fail("predicted a second time")
    )
    runs = ingredients(home / "run-*")
    only = replace(SMALL, parts=("plane",))
    again = analyse(runs, home / "out", task=home / "task.yaml", initialisation=str(home / "base"), options=only)
    assert again == whole


def test_without_a_task_there_is_geometry(home: Path, tmp_path: Path) -> None:
    found = analyse(ingredients(home / "run-*"), tmp_path / "o")
    assert found.geometry is not None
    assert found.geometry.is_centred
    assert found.plane is None
    assert "plane is left out: it needs --task" in found.notes


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (AnalysisOptions(parts=("plain",)), "no such part: plain"),
        (AnalysisOptions(parts=("plane",)), "plane needs --task"),
        (AnalysisOptions(grid=2), "grid is 2"),
        (AnalysisOptions(orders=0), "orders is 0, not at least 1"),
        (AnalysisOptions(most_pairs=0), "pairs is 0, not at least 1"),
    ],
)
def test_what_cannot_be_asked_for(home: Path, tmp_path: Path, options: AnalysisOptions, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        analyse(ingredients(home / "run-*"), tmp_path / "o", options=options)
    assert says in "\n".join(caught.value.problems)


def test_a_start_without_head_gives_the_geometry_of_what_it_has(home: Path, whole: Analysis, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(home / "base" / "model.safetensors")
    bare = {name.removeprefix("bert."): value for name, value in tensors.items() if not name.startswith("classifier")}
    save_file(bare, tmp_path / "bare.safetensors")
    start = str(tmp_path / "bare.safetensors")
    made = analyse(ingredients(home / "run-*"), tmp_path / "out", initialisation=start)
    assert made.geometry is not None
    assert whole.geometry is not None
    shared = [i for i, name in enumerate(whole.geometry.groups) if not name.startswith("classifier")]
    assert made.geometry.group_norms == tuple(whole.geometry.group_norms[i] for i in shared)
    assert made.notes[-1] == f"lengths and angles are those of the {len(shared)} tensors that the initialisation has"
    with pytest.raises(ConfigError, match=r"plane needs an --initialisation with every tensor"):
        analyse(
            ingredients(home / "run-*"), tmp_path / "out", task=home / "task.yaml", initialisation=start,
            options=AnalysisOptions(parts=("plane",)),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [("dtype", "in the ingredients' dtype; this one has another"), ("extra", "tensors alone; this one has more too")],
)
def test_a_start_that_cannot_be_mixed_with_the_runs_gives_the_geometry_all_the_same(
    home: Path, whole: Analysis, tmp_path: Path, change: str, says: str
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(home / "base" / "model.safetensors")
    if change == "dtype":
        tensors = {name: value.double() for name, value in tensors.items()}
    else:
        tensors["more"] = torch.ones(3)
    save_file(tensors, tmp_path / "start.safetensors")
    start = str(tmp_path / "start.safetensors")
    made = analyse(ingredients(home / "run-*"), tmp_path / "out", initialisation=start)
    assert made.geometry == whole.geometry
    assert not any(note.startswith("lengths and angles") for note in made.notes)
    with pytest.raises(ConfigError, match=says):
        analyse(
            ingredients(home / "run-*"), tmp_path / "out", task=home / "task.yaml", initialisation=start,
            options=AnalysisOptions(parts=("plane",)),
        )  # fmt: skip


def test_a_start_of_another_network_is_refused(home: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"w": torch.ones(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match="no tensor has the name"):
        analyse(ingredients(home / "run-*"), tmp_path / "out", initialisation=str(tmp_path / "other.safetensors"))


def test_the_best_run_given_twice_still_spans_a_plane_with_another(home: Path, tmp_path: Path) -> None:
    import shutil

    for name in ("run-0", "run-1", "run-2"):
        shutil.copytree(home / name, tmp_path / name)
        shutil.copytree(home / name, tmp_path / f"{name}-again")
    options = AnalysisOptions(parts=("plane",), grid=3)
    made = analyse(
        ingredients(tmp_path / "run-*"), tmp_path / "out", task=home / "task.yaml",
        initialisation=str(home / "base"), options=options,
    )  # fmt: skip
    assert made.plane is not None
    assert made.plane.corners[1].removesuffix("-again") != made.plane.corners[2].removesuffix("-again")


class TestBetween:
    """Models of the user's choice."""

    def test_two_ingredients_make_the_line_and_need_no_start(self, home: Path, tmp_path: Path, task) -> None:
        options = replace(SMALL, parts=("line",), between=("run-2", "run-0"))
        made = analyse(ingredients(home / "run-*"), tmp_path / "o", task=home / "task.yaml", options=options)
        assert made.line is not None
        assert made.line.ends == ("run-2", "run-0")
        runs = {run.name: run for run in ingredients(home / "run-*")}
        path = [single(runs["run-2"]), uniform([runs["run-2"], runs["run-0"]]), single(runs["run-0"])]
        assert [point.score for point in made.line.measured["held_out"]] == [task.evaluate(one).value for one in path]

    def test_with_the_start_two_make_the_plane(self, home: Path, whole: Analysis, tmp_path: Path) -> None:
        assert whole.plane is not None
        options = replace(SMALL, parts=("plane",), between=whole.plane.corners[1:])
        arguments = {"task": home / "task.yaml", "initialisation": str(home / "base")}
        same = analyse(ingredients(home / "run-*"), tmp_path / "o", options=options, **arguments)
        assert same.plane is not None
        for one, two in zip(same.plane.named, whole.plane.named, strict=True):
            assert (one.name, one.measured) == (two.name, two.measured)
            assert (one.x, one.y) == pytest.approx((two.x, two.y))

    def test_a_written_soup_may_be_a_corner(self, home: Path, tmp_path: Path, task) -> None:
        from stockpot import write

        runs = ingredients(home / "run-*")
        write(uniform(runs), tmp_path / "soup")
        soup = str(tmp_path / "soup")
        options = replace(SMALL, parts=("plane", "line"), between=("run-0", soup, "run-1"))
        made = analyse(runs, tmp_path / "o", task=home / "task.yaml", options=options)
        assert made.plane is not None
        assert made.line is not None
        assert made.plane.corners == ("run-0", "soup", "run-1")  # records hold no absolute path
        assert made.line.ends == ("run-0", "soup")
        points = {point.name: point for point in made.plane.named}
        # All of it lies where it is written, so its projection is itself.
        assert (points["uniform soup"].x, points["uniform soup"].y) == pytest.approx(
            (points["soup"].x, points["soup"].y), rel=1e-4, abs=1e-5
        )
        assert points["soup"].measured["test"].score == task.score(task.predict(uniform(runs), "test")).value

    @pytest.mark.parametrize(
        ("between", "says"),
        [
            (("run-0",), "a plane through three: got run-0"),
            (("run-0", "run-0"), "a plane through three: got run-0, run-0"),
            (("run-0", "run-1", "run-2", "x"), "got run-0, run-1, run-2, x"),
            (("run-0", "run-9"), "no such ingredient, file or folder: run-9"),
            (("run-0", "initialisation"), "no such ingredient, file or folder: initialisation"),
        ],
    )
    def test_what_cannot_be_chosen(self, home: Path, tmp_path: Path, between: tuple[str, ...], says: str) -> None:
        options = AnalysisOptions(parts=("line",), between=between)
        with pytest.raises(ConfigError) as caught:
            analyse(ingredients(home / "run-*"), tmp_path / "o", task=home / "task.yaml", options=options)
        assert says in str(caught.value)
        assert not (tmp_path / "o").exists()

    def test_a_plane_through_two_needs_the_start(self, home: Path, tmp_path: Path) -> None:
        options = AnalysisOptions(parts=("plane",), between=("run-0", "run-1"))
        with pytest.raises(ConfigError) as caught:
            analyse(ingredients(home / "run-*"), tmp_path / "o", task=home / "task.yaml", options=options)
        assert "plane needs --initialisation" in str(caught.value)


def test_splits_may_be_named_without_their_kind(home: Path, tmp_path: Path) -> None:
    arguments = {"task": home / "task.yaml", "initialisation": str(home / "base")}
    options = AnalysisOptions(parts=("plane",), grid=3, splits=("typos",))
    made = analyse(ingredients(home / "run-*"), tmp_path / "out", options=options, **arguments)
    assert made.plane is not None
    assert list(made.plane.points[0].measured) == ["shift:typos"]
    for wrong, says in (({"splits": ("nothing",)}, "no such split: nothing"), ({"seed": -3}, "seed is -3")):
        with pytest.raises(ConfigError) as caught:
            analyse(ingredients(home / "run-*"), tmp_path / "out", options=replace(options, **wrong), **arguments)
        assert says in str(caught.value)


def test_one_ingredient_is_too_few(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to be compared with"):
        analyse(ingredients(home / "run-0"), tmp_path / "o")


def test_pictures_and_lines_tell_barriers_and_both_gains(whole: Analysis) -> None:
    pytest.importorskip("matplotlib")
    from stockpot.reports import figures
    from stockpot.reports.analysis import analysis_lines
    from stockpot.reports.style import style

    assert whole.line is not None
    assert whole.pairs is not None
    with style():
        line = figures.line(whole.line)
        angles = figures.angles(whole.pairs, whole.correlations or (), "accuracy")
    texts = [text.get_text() for text in line.legends[0].get_texts()]
    assert texts[0] == f"held-out ({whole.line.barriers['held_out']:.3f})"
    assert line.axes[0].get_xlabel() == "alpha (0: initialisation, 1: uniform soup)"
    above, below = (axes.lines[1].get_ydata().tolist() for axes in angles.axes)
    pair = whole.pairs[0]
    assert above[0] == pair.soup["held_out"] - sum(pair.individuals["held_out"]) / 2
    assert below[0] == pair.soup["held_out"] - max(pair.individuals["held_out"])
    told = analysis_lines(whole)
    assert [text.split(" (")[0] for text in told[1:]] == [
        f"angle and gain of the soup over the {other} of the two" for other in ("mean", "better")
    ]
    assert told[0].startswith("barrier of the loss from initialisation to uniform soup: held-out ")


def test_every_picture_is_drawn(whole: Analysis, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from stockpot.reports.drawing import draw_folder

    write_analysis(whole, tmp_path)
    drawn = draw_folder(tmp_path, tmp_path / "figures")
    names = {file.stem for file in drawn.files}
    assert names == {
        "geometry", "landscape", "line", "angles", "soup-ensemble", "soup-ensemble-loss", "count", "reliability",
    }  # fmt: skip
    for file in drawn.files:
        text = file.read_text()
        assert "<svg" in text
        assert "nan" not in text.lower().split("<metadata")[0]


def test_the_page_shows_it(whole: Analysis, tmp_path: Path) -> None:
    from stockpot.reports.page import page_document

    write_analysis(whole, tmp_path)
    ids = {figure["id"].split("-")[0] for figure in page_document(tmp_path)["figures"]}
    assert ids == {"landscape", "line", "angles", "soup", "count", "reliability", "geometry"}


def test_numbers_survive_the_file(whole: Analysis, tmp_path: Path) -> None:
    write_analysis(whole, tmp_path)
    first = (tmp_path / "analysis.json").read_bytes()
    write_analysis(read_analysis(tmp_path), tmp_path)
    assert (tmp_path / "analysis.json").read_bytes() == first
    assert json.loads(first)["schema"] == 1
    assert np.isfinite(json.loads(first)["geometry"]["norms"]).all()
