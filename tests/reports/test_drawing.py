"""The pictures hold the records' numbers, come out with equal bytes, and take any name as text."""

from __future__ import annotations

import itertools
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from stockpot.errors import RecordError
from stockpot.records import Cell, Results, Row, write_results
from stockpot.reports import figures
from stockpot.reports.drawing import draw_folder
from stockpot.reports.style import COLOURS, save, style
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


def legend(figure) -> list[str]:
    (found,) = figure.legends
    return [*found.get_title().get_text().split("\n"), *(text.get_text() for text in found.get_texts())]


def test_a_far_initialisation_is_named_with_its_scores_and_a_near_one_is_shown():
    def drawn(start: float):
        scores = {"test": Cell(start, 0.01, 9), "shift:a": Cell(0.5, 0.02, 9), "shift_mean": Cell(0.6, 0.03, 9)}
        other = {**SCORES, "test": Cell(0.70, 0.01, 9)}
        rows = (Row("initialisation", 1, 1, scores), Row("best", 1, 1, other), ROW)
        marks = figures.marks_of_results(Results("accuracy", True, rows))
        with style():
            return figures.figure1(marks, "accuracy"), figures.shifts(marks, "accuracy")

    far, near = drawn(0.64), drawn(0.66)  # the others span 0.70 to 0.75
    bars = "bars: one standard error"
    assert legend(far[0]) == [bars, "not shown: initialisation (0.64, 0.6)", "best individual", "greedy soup"]
    assert legend(near[0]) == [bars, "best individual", "greedy soup", "initialisation"]
    for one, two in zip(far, near, strict=True):  # the methods look the same with it and without
        looks = [[mark[0].get_color() for mark in figure.axes[0].containers] for figure in (one, two)]
        assert looks[0] == looks[1][:2]


def test_bars_are_named_only_where_there_are_some():
    with style():
        bare = figures.figure1([figures.Mark("a", {"test": 0.5, "shift_mean": 0.4})], "accuracy")
    assert legend(bare) == ["", "a"]


def test_a_shared_label_stands_beside_the_middle_of_the_panels():
    marks = [figures.Mark(f"m{i}", {"test": 0.5, **{f"shift:{j}": 0.1 * j for j in range(6)}}) for i in range(9)]
    with style():
        figure = figures.shifts(marks, "accuracy")
        figure.draw_without_rendering()
    boxes = [axes.get_position() for axes in figure.axes]
    middle = (max(box.y1 for box in boxes) + min(box.y0 for box in boxes)) / 2
    assert middle > 0.55  # the legend stands below
    assert figure._supylabel.get_position()[1] == pytest.approx(middle, abs=0.005)


#: Linear RGB as protanopes, deuteranopes and tritanopes see it (Machado, Oliveira and Fernandes, 2009, severity 1).
SEEN = {
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]


def cielab(colour: str, seen: object) -> np.ndarray:
    encoded = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    white = np.array([0.95047, 1.0, 1.08883])
    t = np.array(TO_XYZ) @ np.clip(np.array(seen) @ linear, 0, 1) / white
    x, y, z = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("kind", SEEN)
def test_no_two_colours_look_alike_to_anyone(kind: str):
    places = [cielab(colour, SEEN[kind]) for colour in COLOURS]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(places, 2)) > 10


def test_acceptance_and_coefficients_show_the_soup():
    a, b = Ingredient("a", "hub/a"), Ingredient(HOSTILE, "hub/b")
    steps = (Step(a, Score(0.7, 0.1, 10), True), Step(b, Score(0.6, 0.1, 10), False))
    soup = Soup((a, b), Coefficients(((0.25, 0.75),)), "greedy", steps=steps)
    with style():
        stairs = figures.acceptance(soup).axes[0]
        bars = figures.coefficients(soup).axes[0]
    assert stairs.lines[0].get_ydata().tolist() == [0.7, 0.7]
    assert "bars: one standard error" in legend(stairs.figure)
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


def test_a_missing_number_is_left_out_and_counted():
    chosen = {"a": {"wd": 0.2, "aug": "x"}, "b": {"wd": None, "aug": None}, "c": {"wd": 0.0, "aug": "x"}}
    with style():
        panels = figures.settings(chosen, {"a": 0.5, "b": 0.6, "c": 0.7}, "accuracy").axes
    assert [axes.get_xlabel() for axes in panels] == ["wd\n(1 without)", "aug"]
    assert panels[0].lines[0].get_xydata().tolist() == [[0.2, 0.5], [0.0, 0.7]]
    assert [label.get_text() for label in panels[1].get_xticklabels()] == ["x", "None"]


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
