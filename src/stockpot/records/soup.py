"""soup.json: one soup, what it was made of and how it was written."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from stockpot._version import __version__
from stockpot.errors import BlendError, RecordError
from stockpot.records._json import PathLike, Schema, parsed, read_json, record_file, write_json
from stockpot.records.output import Output, output_problems, upgraded_from_1
from stockpot.types import Coefficients, CurvePoint, Ingredient, PairedGain, Score, Soup, Step

__all__ = ["SCHEMA", "Fingerprint", "SoupRecord", "read_soup", "read_soup_record", "soup_file", "write_soup"]

#: Version of the schema of soup.json.
SCHEMA = 2

_FILE = "soup.json"
_SCHEMA = Schema(SCHEMA, {1: upgraded_from_1})


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells a changed checkpoint without reading it.

    Args:
        n_bytes: of its weight files.
        header_digest: SHA-256 over their headers.
        modified_ns: when the newest of them was modified, in nanoseconds since 1970; kept where there is no digest.
    """

    n_bytes: int | None = None
    header_digest: str | None = None
    modified_ns: int | None = None


@dataclass(frozen=True, slots=True)
class SoupRecord:
    """What soup.json says.

    Args:
        soup: coefficients, ingredients and the acceptance log.
        output: how it was written, as JSON values; `stockpot.records.output_of` gives the checked form. Empty for an
            ensemble.
        fingerprints: one per ingredient.
        stockpot: the version that wrote it.
        notes: remarks on how it came about: what else was made and not taken.
    """

    soup: Soup
    output: Mapping[str, Any] = field(default_factory=dict, hash=False)
    fingerprints: tuple[Fingerprint, ...] = ()
    stockpot: str = __version__
    notes: tuple[str, ...] = ()


def write_soup(
    soup: Soup,
    path: PathLike,
    *,
    output: Output | Mapping[str, Any],
    fingerprints: Sequence[Fingerprint] = (),
    final_folder: PathLike | None = None,
    stockpot: str = __version__,
    notes: Sequence[str] = (),
) -> None:
    """Writes soup.json, whole or not at all.

    Local sources are stored relative to the folder of the record, so that ingredients and soup can be moved together.

    Args:
        soup: what to record.
        path: the file, or the folder to hold `soup.json`.
        output: how the soup was written; a mapping of JSON values where there are no weights.
        fingerprints: one per ingredient, or none.
        final_folder: where the record will lie once its temporary folder is renamed; None: where it is written.
        stockpot: version that made the soup, where an old record is written again.
        notes: remarks on how it came about.

    Raises:
        RecordError: a value that JSON cannot hold; the key is named.
        OutputError: the file cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> soup = Soup((Ingredient("a", "hub/a"), Ingredient("b", "hub/b")), Coefficients.equal(2), "uniform")
        >>> with TemporaryDirectory() as folder:
        ...     write_soup(soup, folder, output={"dtype": "F32"})
        ...     read_soup(folder) == soup
        True
    """
    file = soup_file(path)
    folder = file.parent if final_folder is None else Path(final_folder)
    mapping = asdict(output) if isinstance(output, Output) else output
    write_json(file, _entries(SoupRecord(soup, mapping, tuple(fingerprints), stockpot, tuple(notes)), folder), _SCHEMA)


def read_soup(path: PathLike) -> Soup:
    """The soup of a record: a `soup.json` or the folder that holds one. See `read_soup_record`."""
    return read_soup_record(path).soup


def read_soup_record(path: PathLike) -> SoupRecord:
    """Reads and checks soup.json.

    Args:
        path: the file, or its folder.

    Returns:
        The record, local sources resolved against the folder it lies in.

    Raises:
        RecordError: no such file, not JSON, an unknown schema, or wrong keys (all of them listed).
    """
    file = soup_file(path)
    content = read_json(file, _SCHEMA)
    if "rows" in content and "ingredients" not in content:
        raise RecordError(f"{file} is a table of results, no soup", fix="give the folder of one of its soups")
    return _soup_record(parsed(file, content, _SoupFile, problems=output_problems(content.get("output"))), file)


def soup_file(path: PathLike) -> Path:
    """The soup.json that a path means: itself, or the one in a folder."""
    return record_file(path, _FILE)


# The file's shape is kept apart from the types in memory: those may change while old files stay readable.


@dataclass(frozen=True, slots=True)
class _IngredientEntry:
    name: str
    source: str
    settings: dict[str, Any]
    digest: str | None
    key: str | None
    bytes: int | None = None
    header_digest: str | None = None
    modified_ns: int | None = None


@dataclass(frozen=True, slots=True)
class _PairedEntry:
    difference: float
    stderr: float | None = None
    p: float | None = None
    n_changed: int | None = None


@dataclass(frozen=True, slots=True)
class _CurveEntry:
    label: str
    stopping_loss: float
    training_loss: float | None = None
    kept: bool = False


@dataclass(frozen=True, slots=True)
class _ScoreEntry:
    value: float | None  # null: abandoned (nan is not JSON)
    stderr: float | None = None
    n_examples: int | None = None
    n_evaluated: int | None = None
    at_most: float | None = None
    metric: str = "score"
    higher_is_better: bool = True
    paired: _PairedEntry | None = None


@dataclass(frozen=True, slots=True)
class _StepEntry:
    ingredient: int  # index into ingredients followed by candidates
    score: _ScoreEntry
    accepted: bool
    label: str | None = None


@dataclass(frozen=True, slots=True)
class _CoefficientsEntry:
    rows: tuple[tuple[float, ...], ...]
    groups: tuple[tuple[str, ...], ...] | None


@dataclass(frozen=True, slots=True)
class _SoupFile:
    stockpot: str
    recipe: str
    combine: Literal["weights", "logits"]
    logit_scale: float
    ingredients: tuple[_IngredientEntry, ...]
    coefficients: _CoefficientsEntry
    candidates: tuple[_IngredientEntry, ...]  # tried, but not in the soup
    steps: tuple[_StepEntry, ...]
    output: dict[str, Any]
    curve: tuple[_CurveEntry, ...] | None = None
    approximate: bool | None = None
    notes: tuple[str, ...] | None = None


def _entries(record: SoupRecord, folder: Path) -> _SoupFile:
    soup = record.soup
    candidates = list(dict.fromkeys(s.ingredient for s in soup.steps if s.ingredient not in soup.ingredients))
    tried = [*soup.ingredients, *candidates]
    prints = record.fingerprints or (Fingerprint(),) * len(soup.ingredients)
    return _SoupFile(
        stockpot=record.stockpot,
        recipe=soup.recipe,
        combine=soup.combine,
        logit_scale=soup.logit_scale,
        ingredients=tuple(_ingredient_entry(i, f, folder) for i, f in zip(soup.ingredients, prints, strict=True)),
        coefficients=_CoefficientsEntry(soup.coefficients.rows, soup.coefficients.groups),
        candidates=tuple(_ingredient_entry(i, Fingerprint(), folder) for i in candidates),
        steps=tuple(
            _StepEntry(tried.index(s.ingredient), _score_entry(s.score), s.accepted, s.label or None)
            for s in soup.steps
        ),
        output=dict(record.output),
        curve=tuple(_CurveEntry(**asdict(point)) for point in soup.curve) or None,
        approximate=soup.approximate or None,
        notes=record.notes or None,
    )


def _ingredient_entry(ingredient: Ingredient, fingerprint: Fingerprint, folder: Path) -> _IngredientEntry:
    source, settings = _portable(ingredient.source, folder), dict(ingredient.settings)
    # A digest knows more: copied files are the same ones.
    modified_ns = fingerprint.modified_ns if ingredient.digest is None else None
    prints = (fingerprint.n_bytes, fingerprint.header_digest, modified_ns)
    return _IngredientEntry(ingredient.name, source, settings, ingredient.digest, ingredient.key, *prints)


def _score_entry(score: Score) -> _ScoreEntry:
    paired = None if score.paired is None else _PairedEntry(**asdict(score.paired))
    return _ScoreEntry(**{**asdict(score), "value": None if score.is_abandoned else score.value, "paired": paired})


def _soup_record(entry: _SoupFile, file: Path) -> SoupRecord:
    tried = tuple(_ingredient(e, file.parent) for e in (*entry.ingredients, *entry.candidates))
    lost = [f"steps[{i}]: {s.ingredient}" for i, s in enumerate(entry.steps) if not 0 <= s.ingredient < len(tried)]
    if lost:
        raise RecordError(f"{file} names ingredients beyond the {len(tried)} it lists", problems=lost)
    steps = tuple(Step(tried[s.ingredient], _score(s.score), s.accepted, s.label or "") for s in entry.steps)
    ingredients = tried[: len(entry.ingredients)]
    try:
        coefficients = Coefficients(entry.coefficients.rows, entry.coefficients.groups)
        curve = tuple(CurvePoint(**asdict(point)) for point in entry.curve or ())
        how = (entry.recipe, entry.combine, entry.logit_scale)
        soup = Soup(ingredients, coefficients, *how, steps, curve, bool(entry.approximate))
    except BlendError as exc:
        raise RecordError(f"{file} holds no valid soup: {exc.message}", fix="write it again") from exc
    prints = tuple(Fingerprint(e.bytes, e.header_digest, e.modified_ns) for e in entry.ingredients)
    return SoupRecord(soup, entry.output, prints, entry.stockpot, entry.notes or ())


def _ingredient(entry: _IngredientEntry, folder: Path) -> Ingredient:
    return Ingredient(entry.name, _located(entry.source, folder), entry.settings, entry.digest, entry.key)


def _score(entry: _ScoreEntry) -> Score:
    paired = None if entry.paired is None else PairedGain(**asdict(entry.paired))
    return Score(**{**asdict(entry), "value": math.nan if entry.value is None else entry.value, "paired": paired})


def _portable(source: str, folder: Path) -> str:
    """A local source seen from `folder`, always with a leading `./` or `../` so that no hub id looks like it."""
    path = Path(os.path.expanduser(source))  # noqa: PTH111 - Path's own raises where there is no such user
    if not (path.is_absolute() or source.startswith(("./", "../")) or path.exists()):
        return source
    # Only the parent is resolved: a link's own name ('latest', a hub cache's file name) is what the user knows it by.
    named = path.resolve() if path.name in {"", ".."} else path.parent.resolve() / path.name
    try:
        relative = Path(os.path.relpath(named, folder.resolve())).as_posix()
    except ValueError:  # another drive on Windows: there is no relative path
        return named.as_posix()
    return relative if relative.startswith("../") or relative == ".." else f"./{relative}"


def _located(source: str, folder: Path) -> str:
    """The inverse of `_portable`: relative to the working directory when `folder` is, else absolute."""
    if not source.startswith(("./", "../")) and source != "..":
        return source
    target = os.path.normpath(folder.resolve() / source)
    return Path(target if folder.is_absolute() else os.path.relpath(target)).as_posix()
