"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

__all__ = ["Evaluate", "Fresh", "Initialisation", "Key", "OptionalOut", "Sources", "Task", "Workers"]

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
    int | None, typer.Option("--workers", min=1, help="Worker processes; default: the cores.", show_default=False)
]
