"""results.json: every method on every split, and what that means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stockpot.records._json import PathLike, Schema, parsed, read_json, record_file, write_json
from stockpot.types import Score

__all__ = [
    "METHODS",
    "RESULTS_SCHEMA",
    "Cell",
    "Comparison",
    "Individual",
    "Results",
    "Row",
    "SelectionOptimism",
    "read_results",
    "write_results",
]

#: Version of the schema of results.json. Optional keys do not raise it.
RESULTS_SCHEMA = 1
#: The methods every experiment compares, in the order of the table; others may follow them.
METHODS = (
    "initialisation", "best", "second_best", "mean_individual", "uniform", "greedy", "greedy_random",
    "learned", "learned_by_layer", "ensemble", "greedy_ensemble",
)  # fmt: skip

_FILE = "results.json"
_SCHEMA = Schema(RESULTS_SCHEMA)


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of the table with its uncertainty.

    Args:
        value: in the metric's natural unit (accuracy: 0 to 1); for several orders their mean.
        stderr: standard error of `value`, same unit; None when the evaluation gave none.
        n: examples behind it; None when the evaluation did not say.
        sd: standard deviation over `n_orders` random orders.
        n_orders: number of random orders that `value` is the mean of.

    Example:
        >>> Cell.of(Score(0.743, stderr=0.01, n_examples=2000))
        Cell(value=0.743, stderr=0.01, n=2000, sd=None, n_orders=None)
    """

    value: float
    stderr: float | None
    n: int | None
    sd: float | None = None
    n_orders: int | None = None

    @classmethod
    def of(cls, score: Score) -> Cell:
        """The cell that shows a whole score."""
        return cls(score.value, score.stderr, score.n_examples)


@dataclass(frozen=True, slots=True)
class Row:
    """One method of the table.

    Args:
        method: its name, one of `METHODS` or a later one.
        n_ingredients: checkpoints in it; a mean where the row is a mean.
        inference_cost: forward passes per example: 1 for one model, k for an ensemble of k.
        scores: split -> cell; splits are `held_out`, `test`, `shift:NAME` and `shift_mean`, in the order of the table.
        ingredients: names of the checkpoints in it.
        metrics: other metrics by name, split -> cell each; `ece`, `nll` and `brier` as they come, and with the suffix
            `_scaled` at the row's temperature.
        temperature: that minimises the held-out NLL of logits / temperature; a mean where the row is a mean.
        approximate: True where the search was cut short by a budget; else None.

    Example:
        >>> Row("greedy", 2, 1, {"test": Cell(0.75, 0.01, 2000)}, ("a", "b")).scores["test"].value
        0.75
    """

    method: str
    n_ingredients: float
    inference_cost: int
    scores: Mapping[str, Cell] = field(hash=False)
    ingredients: tuple[str, ...] = ()
    metrics: Mapping[str, Mapping[str, Cell]] | None = field(default=None, hash=False)
    temperature: float | None = None
    approximate: bool | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Paired difference of two methods on the same examples.

    Args:
        method, against: names of the rows.
        split: `test`, `shift_mean` or another split.
        difference: value(method) - value(against), in the metric's natural unit and direction.
        stderr: paired standard error of `difference`.
        n: examples both were measured on.
        p: two-sided p value of "no difference", where a test was made.
        n_changed: examples that count differently in the two, where that is known.
        test: "mcnemar_exact", "paired_normal" or "paired_bootstrap".
    """

    method: str
    against: str
    split: str
    difference: float
    stderr: float | None
    n: int | None
    p: float | None
    n_changed: int | None = None
    test: str | None = None


@dataclass(frozen=True, slots=True)
class Individual:
    """One ingredient on its own.

    Args:
        name: of the ingredient.
        scores: split -> cell, as in a `Row`.
        settings: what it was fine-tuned with, where that is known.
    """

    name: str
    scores: Mapping[str, Cell] = field(hash=False)
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class SelectionOptimism:
    """How much a method's held-out score promises too much, because the method was chosen on that split.

    Args:
        method: name of the row.
        value: expected held-out score less true score, in the metric's unit; for losses, true less held-out.
        stderr: its standard error; None where there are too few examples.
        n_candidates: models and soups that were compared on the held-out split.
    """

    method: str
    value: float
    stderr: float | None
    n_candidates: int


@dataclass(frozen=True, slots=True)
class Results:
    """What results.json says: every method on every split, and what that means.

    Args:
        metric: name of the metric of all cells.
        higher_is_better: its direction.
        rows: one per method.
        comparisons: paired differences.
        sentence: the summary, computed by `stockpot.reports.table.summary_sentence`.
        experiment: canonical identity of the experiment, or its digest.
        notes: remarks that belong under the table.
        optimism: of methods chosen on the held-out split, where it was estimated.
        individuals: every ingredient on its own, in the order given.

    Example:
        >>> results = Results("accuracy", True, (Row("best", 1, 1, {"test": Cell(0.74, 0.01, 2000)}),))
        >>> results.row("best").n_ingredients, results.row("greedy")
        (1, None)
    """

    metric: str
    higher_is_better: bool
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...] = ()
    sentence: str = ""
    experiment: Mapping[str, Any] | str = field(default="", hash=False)
    notes: tuple[str, ...] = ()
    optimism: tuple[SelectionOptimism, ...] | None = None
    individuals: tuple[Individual, ...] | None = None

    def row(self, method: str) -> Row | None:
        """The row of one method, None when it was not measured."""
        return next((row for row in self.rows if row.method == method), None)


def write_results(results: Results, path: PathLike) -> None:
    """Writes results.json, whole or not at all, to a file or into a folder; equal results give equal bytes.

    Raises:
        RecordError: a value that JSON cannot hold (nan included); the key is named.
        OutputError: the file cannot be written.
    """
    write_json(record_file(path, _FILE), results, _SCHEMA)


def read_results(path: PathLike) -> Results:
    """Reads and checks results.json; `path` is the file or its folder.

    Raises:
        RecordError: no such file, not JSON, an unknown schema, or wrong keys (all of them listed).
    """
    file = record_file(path, _FILE)
    return parsed(file, read_json(file, _SCHEMA), Results)
