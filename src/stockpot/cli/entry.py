"""The way in and the ways out: streams, exit codes, and a short cut for the plainest command."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

from stockpot.cli.console import MOST_PROBLEMS, print_error
from stockpot.errors import StockpotError

__all__ = ["INTERRUPTED", "NOTHING_WRITTEN", "exit_code", "main", "plain_mix"]

INTERRUPTED = 130
#: What to say after Ctrl-C, and what to do then.
NOTHING_WRITTEN = ("interrupted; nothing was written", "run the same command again")


def main() -> NoReturn:
    """Runs the command line; every way out ends in an exit code."""
    _open_closed_streams()
    if isinstance(sys.stdout, TextIOWrapper):
        # A name that the terminal's encoding lacks must not end a command after hours.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(exit_code(sys.argv[1:]))


def plain_mix(arguments: Sequence[str]) -> tuple[list[str], Path] | None:
    """Sources and folder of a line that is `mix SOURCES... -o FOLDER` and no more; None for every other line.

    Such a line needs no parser, and importing ours takes longer than mixing some models does.

    Example:
        >>> plain_mix(["mix", "a", "-o", "soup", "b"])
        (['a', 'b'], PosixPath('soup'))
        >>> plain_mix(["mix", "a", "-o", "soup", "--force"]) is None
        True
    """
    if list(arguments[:1]) != ["mix"]:
        return None
    sources, folders, rest = [], [], iter(arguments[1:])
    for argument in rest:
        if argument in {"-o", "--out"}:
            folders.append(next(rest, ""))
        else:
            sources.append(argument)
    is_plain = len(folders) == 1 and sources and all(text and not text.startswith("-") for text in sources + folders)
    return (sources, Path(folders[0])) if is_plain else None


def _run(arguments: list[str]) -> None:
    plain = plain_mix(arguments)
    if plain is None:
        from stockpot.cli.app import app

        app(arguments)
        return
    from stockpot.cli.mixing import mix_into

    try:
        mix_into(*plain)
    except KeyboardInterrupt:
        message, fix = NOTHING_WRITTEN
        print_error(message, fix=fix)
        sys.exit(INTERRUPTED)


def _open_closed_streams() -> None:
    """Somewhere to write where the shell has closed stdout or stderr (`>&-`)."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - open as long as the process is
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123


def exit_code(arguments: list[str]) -> int:
    """Runs a command line; what it means: 0 done, 2 a mistake the user can mend, 130 interrupted."""
    debug = "--debug" in arguments
    try:
        # --debug is taken wherever it stands: after a failure one appends it to the line.
        _run([a for a in arguments if a != "--debug"])
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
            import traceback

            traceback.print_exception(error)
        print_error(error.message, problems=error.problems, fix=error.fix, most=None if debug else MOST_PROBLEMS)
        return error.exit_code
    except ImportError as error:  # one that is missing is told by its extra: this is inside what is installed
        if debug or (error.name or "").partition(".")[0] == "stockpot":  # that would be a defect of ours
            raise
        print_error(
            f"an installed package does not import: {error}",
            fix="see which with --debug, and install it again, or what it needs",
        )
        return 2
    except BrokenPipeError:  # `stockpot ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if debug or error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        print_error(f"no space left: {error}", fix="free some space and run the same command again")
        return 2
    return 0
