"""The application: every command, with Ctrl-C answered in our words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, ParamSpec

import typer

from stockpot._version import __version__
from stockpot.cli.analyse import analyse
from stockpot.cli.compare import compare
from stockpot.cli.console import print_error
from stockpot.cli.diagnose import diagnose
from stockpot.cli.entry import INTERRUPTED, NOTHING_WRITTEN
from stockpot.cli.figures import figures
from stockpot.cli.init import init
from stockpot.cli.mix import mix
from stockpot.cli.rebuild import rebuild
from stockpot.cli.report import report
from stockpot.cli.run import run
from stockpot.cli.soup import soup
from stockpot.cli.sweep import sweep
from stockpot.cli.table import table
from stockpot.cli.verify import verify

__all__ = ["app", "interruptible"]

_P = ParamSpec("_P")


def interruptible(command: Callable[_P, None]) -> Callable[_P, None]:
    """The command, with Ctrl-C answered in our words (typer would say "Aborted!" and exit with 1)."""

    @wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            message, fix = _after_interrupt(command.__name__, kwargs)
            print_error(message, fix=fix)
            raise typer.Exit(INTERRUPTED) from None

    return run


def _after_interrupt(command: str, options: Mapping[str, object]) -> tuple[str, str]:
    """What was kept, and how to go on."""
    if command == "verify":
        return "interrupted; nothing was changed", "run the same command again"
    if command in {"mix", "rebuild"} or (command == "table" and options.get("figures") is None):
        return NOTHING_WRITTEN
    if command == "compare" and options.get("out") is None:
        return "interrupted; nothing was kept", "give -o FOLDER: then the same command continues where it was"
    if command in {"figures", "table"}:
        return "interrupted; some pictures may be written, whole or not", "run the same command again"
    return "interrupted; what was computed is kept", "run the same command again: it continues where it was"


app = typer.Typer(
    name="stockpot",
    help="One better model from many fine-tuned ones: model soups with honest comparison.",
    no_args_is_help=True,
    rich_markup_mode="rich",  # "markdown" costs 0.12 s of imports for every --help
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (mix, soup, compare, init, run, sweep, analyse, diagnose, table, figures, report, rebuild, verify):
    app.command()(interruptible(command))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stockpot {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks, and every problem of a long list.")] = False,
) -> None:
    pass
