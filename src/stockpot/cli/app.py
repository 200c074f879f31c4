"""The application and its exit codes: 0 done, 2 a mistake the user can mend, 130 interrupted."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import wraps
from io import TextIOWrapper
from typing import Annotated, NoReturn, ParamSpec

import typer

from stockpot._version import __version__
from stockpot.cli.compare import compare
from stockpot.cli.console import MOST_PROBLEMS, print_error
from stockpot.cli.mix import mix
from stockpot.cli.rebuild import rebuild
from stockpot.cli.run import run
from stockpot.cli.soup import soup
from stockpot.cli.sweep import sweep
from stockpot.cli.table import table
from stockpot.cli.verify import verify
from stockpot.errors import StockpotError

__all__ = ["app", "interruptible", "main"]

_P = ParamSpec("_P")
INTERRUPTED = 130


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
    if command in {"mix", "rebuild", "table"}:
        return "interrupted; nothing was written", "run the same command again"
    if command == "compare" and options.get("out") is None:
        return "interrupted; nothing was kept", "give -o FOLDER: then the same command continues where it was"
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
for command in (mix, soup, compare, run, sweep, table, rebuild, verify):
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


def main() -> NoReturn:
    """Runs the command line; every way out ends in an exit code."""
    _open_closed_streams()
    if isinstance(sys.stdout, TextIOWrapper):
        # A name that the terminal's encoding lacks must not end a command after hours.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(_exit_code(sys.argv[1:]))


def _open_closed_streams() -> None:
    """Somewhere to write where the shell has closed stdout or stderr (`>&-`)."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - open as long as the process is
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123


def _exit_code(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    try:
        # --debug is taken wherever it stands: after a failure one appends it to the line.
        app([a for a in arguments if a != "--debug"])
    except SystemExit as leaving:  # typer's own way out, of a usage error too; or a user's function calls sys.exit
        if leaving.code is None or isinstance(leaving.code, int):
            return leaving.code or 0
        print_error(str(leaving.code))
        return 1
    except KeyboardInterrupt:  # while the command line itself is read
        print_error("interrupted before anything was done", fix="run the same command again")
        return INTERRUPTED
    except StockpotError as error:
        if debug:
            traceback.print_exception(error)
        print_error(error.message, problems=error.problems, fix=error.fix, most=None if debug else MOST_PROBLEMS)
        return error.exit_code
    except BrokenPipeError:  # `stockpot ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if debug or error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        print_error(f"no space left: {error}", fix="free some space and run the same command again")
        return 2
    return 0
