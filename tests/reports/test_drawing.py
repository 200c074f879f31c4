"""The pictures hold the records' numbers, come out with equal bytes, and take any name as text."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from stockpot.errors import RecordError
from stockpot.records import Cell, Results, Row, write_results
from stockpot.reports import figures
from stockpot.reports.drawing import draw_folder
from stockpot.reports.style import save, style
from stockpot.types import Coefficients, Ingredient, Score, Soup, Step

HOSTILE = "$x_1$ <script>&_" + "long" * 30
SCORES = {"test": Cell(0.75, 0.01, 9), "shift:a": Cell(0.5, 0.02, 9), "shift_mean": Cell(0.6, 0.03, 9)}
ROW = Row("greedy", 2, 1, SCORES)
RESULTS = Results("accuracy", True, (ROW,))


def test_figure1_shows_the_recorded_scores():
    with style():
        axes = figures.figure1(figures.marks_of_results(RESULTS), "accuracy").axes[0]
    (point,) = axes.containers
    assert point.lines[0].get_xydata().tolist() == [[0.75, 0.6]]
    across, up = (bar.get_segments()[0] for bar in point.lines[2])
    assert across[:, 0].tolist() == pytest.approx([0.74, 0.76])
    assert up[:, 1].tolist() == pytest.approx([0.57, 0.63])


def test_acceptance_and_coefficients_show_the_soup():
    a, b = Ingredient("a", "hub/a"), Ingredient(HOSTILE, "hub/b")
    steps = (Step(a, Score(0.7, 0.1, 10), True), Step(b, Score(0.6, 0.1, 10), False))
    soup = Soup((a, b), Coefficients(((0.25, 0.75),)), "greedy", steps=steps)
    with style():
        stairs = figures.acceptance(soup).axes[0]
        bars = figures.coefficients(soup).axes[0]
    assert stairs.lines[0].get_ydata().tolist() == [0.7, 0.7]
    assert [patch.get_width() for patch in bars.patches] == [0.25, 0.75]


def test_layers_keep_their_numbers_in_the_heat_map():
    def drawn(names: list[str]):
        rows = tuple((i / 100, 1 - i / 100) for i in range(len(names)))
        soup = Soup(
            (Ingredient("a", "a"), Ingredient("b", "b")), Coefficients(rows, tuple((n,) for n in names)), "learned"
        )
        with style():
            axes = figures.coefficients(soup).axes[0]
        return [label.get_text() for label in axes.get_yticklabels()], axes.collections[0].get_array().reshape(-1, 2)

    parts = ("attention.output.dense.bias", "attention.output.dense.weight", "output.dense.weight")
    names = [*sorted(f"bert.encoder.layer.{i}.{part}" for i in range(12) for part in parts), "classifier.weight"]
    labels, values = drawn(names)
    assert labels == [*(f"layer.{i}" for i in range(12)), "classifier"]
    shown = sorted(names, key=lambda name: (not name.startswith("bert"), int((name.split(".") + ["0"] * 9)[3])))
    assert values[:, 0].tolist() == [names.index(name) / 100 for name in shown]

    labels, values = drawn(names[:4])  # few tensors: each by its name
    assert labels == [*(f"layer.0.{part}" for part in parts), f"layer.1.{parts[0]}"]
    assert values[:, 1].tolist() == [1.0, 0.99, 0.98, 0.97]


def test_settings_that_span_a_decade_get_a_logarithmic_axis():
    chosen = {"a": {"lr": 1e-5, "epochs": 1, "seed": 1}, "b": {"lr": 1e-3, "epochs": 3, "seed": 2}}
    with style():
        panels = figures.settings(chosen, {"a": 0.5, "b": 0.6}, "accuracy").axes
    assert [(axes.get_xlabel(), axes.get_xscale()) for axes in panels] == [("lr", "log"), ("epochs", "linear")]
    assert panels[0].lines[0].get_xydata().tolist() == [[1e-5, 0.5], [1e-3, 0.6]]


def test_equal_records_give_equal_bytes_and_any_name_is_text(tmp_path: Path):
    mark = figures.Mark(HOSTILE[:20], {"test": 0.5, "shift_mean": 0.4})
    for name in ("a.svg", "b.svg"):
        with style():
            figure = figures.figure1([mark], HOSTILE)
        save(figure, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    tree = ElementTree.parse(tmp_path / "a.svg")
    assert HOSTILE[:20] in ["".join(text.itertext()) for text in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert not list(tree.iter("{http://www.w3.org/2000/svg}script"))


def test_a_folder_is_drawn_as_far_as_its_records_go(tmp_path: Path):
    write_results(RESULTS, tmp_path)
    drawn = draw_folder(tmp_path)
    assert [file.name for file in drawn.files] == ["figure1.svg", "shifts.svg"]
    of_analysis = {
        "geometry",
        "landscape",
        "line",
        "angles",
        "soup-ensemble",
        "soup-ensemble-loss",
        "count",
        "reliability",
    }
    assert set(drawn.left_out) == {"calibration", "acceptance", "coefficients", "settings", *of_analysis}


def test_a_folder_without_records_is_refused(tmp_path: Path):
    with pytest.raises(RecordError, match=r"no results\.json"):
        draw_folder(tmp_path)
