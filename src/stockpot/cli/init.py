"""`stockpot init`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["init"]


def init(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of fine-tuned models, and of data; default: this one.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = Path("task.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> None:
    """Write a task.yaml for the models and data in a folder, or say what is missing. Asks nothing.

    Example: stockpot init runs -o task.yaml
    """
    from stockpot.cli.console import print_line, print_notes
    from stockpot.config import load_task_config
    from stockpot.errors import ConfigError, OutputError
    from stockpot.outputs import write_text_atomically
    from stockpot.scouting import MISSING, draft_task, scout

    if out.exists() and not force:
        raise OutputError(f"{out} is there already", fix="name another file with -o, or replace it with --force")
    if not out.resolve().parent.is_dir():
        raise OutputError(f"{out.parent}: no such folder", fix="make it, or name another file with -o")
    folders = folders or [Path()]
    scene = scout(folders)
    draft = draft_task(scene, out)
    if not (scene.models or scene.tables or scene.images or scene.task):
        raise ConfigError(
            f"found neither models nor data in {', '.join(map(str, folders))}",
            problems=list(scene.foreign),
            fix="name the folder that holds the runs: model folders with config.json and weights",
        )
    print_notes(scene.foreign)
    write_text_atomically(out, draft.text())
    for line in draft.guesses:
        print_line(line)
    if draft.missing:
        raise ConfigError(
            f"{out} is written, but not complete", problems=draft.missing, fix=f"fill in what it marks with {MISSING}"
        )
    load_task_config(out)
    print_line(f"wrote {out}; next: stockpot compare {_sources(scene.runs)} --task {shlex.quote(str(out))}")


def _sources(models: Sequence[Path]) -> str:
    """The models as arguments (RUNS, where none was found): a pattern where they are all that lies in one folder."""
    parents = {model.parent for model in models}
    if len(models) > 1 and len(parents) == 1:
        (parent,) = parents
        if {path for path in parent.iterdir() if path.is_dir() and not path.name.startswith(".")} == set(models):
            return _quoted(parent / "*")
    return " ".join(map(_quoted, models)) or "RUNS"


def _quoted(path: Path) -> str:
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)  # else the command line takes it for an option
