"""One look for every picture: readable in print at column width, safe for the colour-blind, equal bytes each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.errors import MissingExtraError, OutputError
from stockpot.reports.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "COLUMN_INCHES", "FORMATS", "new_figure", "save", "short", "style"]

#: Width of a column of a two-column paper.
COLUMN_INCHES = 3.3
FORMATS = ("svg", "png", "pdf")
#: Okabe and Ito, 2008, in the order of use; then four that the colour-blind, too, can tell from these and each other.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
    "#6600CC", "#773311", "#BB55FF", "#554444",
)  # fmt: skip
_RC: dict[str, Any] = {
    "font.size": 8, "axes.labelsize": 8, "axes.titlesize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
    "legend.fontsize": 7, "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False,
    "axes.linewidth": 0.7, "lines.linewidth": 1.2, "lines.markersize": 4.5, "savefig.dpi": 300,
    "svg.hashsalt": "stockpot", "svg.fonttype": "none", "pdf.fonttype": 42,
    "text.parse_math": False,  # a run may be called "$x$"
    "text.usetex": False,
}  # fmt: skip
_NO_DATE = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}


@contextmanager
def style() -> Iterator[None]:
    """Our settings of matplotlib, and no others, while a figure is made or saved.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ModuleNotFoundError as exc:
        if exc.name != "matplotlib":
            raise
        raise MissingExtraError("matplotlib", extra="report", needed_for="drawing figures") from exc
    with matplotlib.rc_context():
        matplotlib.rcParams.update({k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")})
        matplotlib.rcParams.update(_RC)
        yield


def new_figure(height: float, width: float = COLUMN_INCHES) -> Figure:
    """An empty figure of so many inches, whose parts make room for each other; call it within `style`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path) -> None:
    """Writes a figure; the ending says the format. Equal figures give equal bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    kind = path.suffix.removeprefix(".")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with style():
            figure.savefig(path, format=kind, metadata=_NO_DATE[kind])
    except OSError as exc:
        raise OutputError(
            f"{path} cannot be written: {exc.strerror or exc}", fix="name another folder for the pictures"
        ) from exc


def short(text: object, most: int = 24) -> str:
    """The text on one line, its middle left out where it is long.

    Example:
        >>> short("a-very-long-name-of-a-run", 11)
        'a-ver…a-run'
    """
    shown = printable(text)
    half = (most - 1) // 2
    return shown if len(shown) <= most else f"{shown[:half]}…{shown[-half:]}"
