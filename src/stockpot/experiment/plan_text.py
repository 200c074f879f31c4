"""A plan in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stockpot.config import RunSettings
from stockpot.experiment.planning import Plan

__all__ = ["plan_lines"]


def plan_lines(plan: Plan) -> Iterator[str]:
    """What an experiment will do and cost, one fact a line.

    Args:
        plan: see `stockpot.experiment.planning.plan`.
    """
    averages = plan.n_ingredients - len(plan.runs)
    yield f"{plan.name}: {len(plan.runs)} runs" + (f", {averages} moving averages" if averages else "")
    yield from (f"  {line}" for line in _settings(plan.runs))
    yield "examples: " + ", ".join(f"{name} {_number(n)}" for name, n in plan.examples.items())
    yield f"fine-tuning: {_number(plan.steps)} steps, {_number(plan.training_examples)} examples forward and backward"
    total = None if None in plan.forward.values() else sum(n for n in plan.forward.values() if n is not None)
    yield f"evaluation, at most: {_number(total)} examples forward"
    yield from (f"  {stage}: {_number(n)}" for stage, n in plan.forward.items())
    if plan.learned_examples != 0:
        yield f"learned soups, at most: {_number(plan.learned_examples)} examples forward and backward"
    yield f"network: {_number(plan.parameters)} parameters"
    yield f"disk: {_size(plan.disk_bytes)}"
    yield (
        f"memory without activations: {_size(plan.worker_bytes)} for each run under way, "
        f"{_size(plan.evaluation_bytes)} for evaluation"
    )
    yield from (f"not known here: {note}" for note in plan.notes)
    yield from (f"warning: {note}" for note in plan.warnings)


def _settings(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is drawn, as its range over the runs; what is the same in all runs, once."""
    same = []
    for name in dict.fromkeys(name for run in runs for name in run):
        if name == "seed" or (name == "warmup_ratio" and all(run.get("warmup_steps") for run in runs)):
            continue  # steps of warm-up, where given, count instead of a share
        values = [run.get(name, RunSettings.model_fields[name].default) for run in runs]
        if all(value == values[0] for value in values):
            if values[0] not in (None, []):
                same.append(f"{name} {values[0]}")
        elif all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            yield f"{name}: {_value(min(values))} to {_value(max(values))}"
        else:
            counts = Counter(map(str, values))
            yield f"{name}: " + ", ".join(f"{value} in {n}" for value, n in counts.items())
    yield f"all: {', '.join(same)}"


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _number(n: int | None) -> str:
    return "unknown" if n is None else f"{n:,}"


def _size(n_bytes: int | None) -> str:
    if n_bytes is None:
        return "unknown"
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.1f} MB"
