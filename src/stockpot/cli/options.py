"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from stockpot.errors import ConfigError

if TYPE_CHECKING:
    from stockpot.config import AcceptanceConfig

__all__ = [
    "Evaluate",
    "Fresh",
    "Initialisation",
    "Key",
    "MinimumGain",
    "OptionalOut",
    "Recalibrate",
    "Significance",
    "Sources",
    "Task",
    "Workers",
    "acceptance_of",
]

Sources: TypeAlias = Annotated[
    list[str], typer.Argument(help="Checkpoints: files, folders or globs (quoted ones too), in this order.")
]
Task: TypeAlias = Annotated[
    Path | None, typer.Option("--task", help="task.yaml: model family, data and metric.", show_default=False)
]
Evaluate: TypeAlias = Annotated[
    str | None,
    typer.Option("--evaluate", help="Your own `module:function`, soup -> float.", show_default=False),
]
Initialisation: TypeAlias = Annotated[
    str | None, typer.Option("--initialisation", help="Checkpoint of the shared start.", show_default=False)
]
Key: TypeAlias = Annotated[
    str | None, typer.Option("--key", help="Which state dict inside a wrapped .pt file.", show_default=False)
]
OptionalOut: TypeAlias = Annotated[
    Path | None, typer.Option("--out", "-o", help="Output folder; continued if it is there.", show_default=False)
]
Fresh: TypeAlias = Annotated[
    bool, typer.Option("--fresh", help="Start over; what is there stays until the new result is whole.")
]
Workers: TypeAlias = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Worker processes; default: one per GPU, else per core.", show_default=False),
]

Significance: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--significance",
        help="Greedy and pruned believe only changes whose paired test has at most this p, e.g. 0.05; needs --task.",
        show_default=False,
    ),
]
Recalibrate: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--recalibrate",
        min=1,
        help="Make running statistics (BatchNorm) anew over so many training batches, for every model.",
        show_default=False,
    ),
]
MinimumGain: TypeAlias = Annotated[
    float,
    typer.Option("--minimum-gain", min=0.0, help="What a step of greedy or pruned must gain, in the metric's unit."),
]


def acceptance_of(significance: float | None, minimum_gain: float) -> AcceptanceConfig:
    """The rule of the recipes that go step by step.

    Raises:
        ConfigError: no probability.
    """
    from stockpot.config import AcceptanceConfig

    if significance is not None and not 0.0 < significance < 1.0:
        raise ConfigError(f"--significance {significance} is no p between 0 and 1", fix="give 0.05, say")
    return AcceptanceConfig(significance=significance, minimum_gain=minimum_gain)
