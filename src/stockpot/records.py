"""What a finished command leaves behind: soup.json (one soup) and results.json (the table), read and written.

Both are plain JSON with a schema number. Equal values give equal bytes: no times, hosts, absolute paths, worker counts;
mappings whose order means nothing are sorted; floats are written so that they read back to the bit. Keys that a reader
does not know are ignored, a change of meaning raises the schema number. `docs/reference/records.md` lists every key.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias, TypeVar

from stockpot._version import __version__
from stockpot.errors import BlendError, RecordError
from stockpot.outputs import write_text_atomically
from stockpot.types import Coefficients, CurvePoint, Ingredient, PairedGain, Score, Soup, Step

__all__ = [
    "METHODS",
    "SCHEMA",
    "Cell",
    "Comparison",
    "Fingerprint",
    "Results",
    "Row",
    "SoupRecord",
    "read_results",
    "read_soup",
    "read_soup_record",
    "write_results",
    "write_soup",
]

#: Version of both records' schemas.
SCHEMA = 1
#: The methods every experiment compares, in the order of the table; others may follow them.
METHODS = (
    "initialisation", "best", "second_best", "mean_individual", "uniform", "greedy", "greedy_random",
    "learned", "learned_by_layer", "ensemble", "greedy_ensemble",
)  # fmt: skip

_SOUP_FILE = "soup.json"
_RESULTS_FILE = "results.json"
_T = TypeVar("_T")
PathLike: TypeAlias = str | os.PathLike[str]


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

    Example:
        >>> Row("greedy", 2, 1, {"test": Cell(0.75, 0.01, 2000)}, ("a", "b")).scores["test"].value
        0.75
    """

    method: str
    n_ingredients: float
    inference_cost: int
    scores: Mapping[str, Cell] = field(hash=False)
    ingredients: tuple[str, ...] = ()


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
    """

    method: str
    against: str
    split: str
    difference: float
    stderr: float | None
    n: int | None
    p: float | None


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

    def row(self, method: str) -> Row | None:
        """The row of one method, None when it was not measured."""
        return next((row for row in self.rows if row.method == method), None)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells a changed checkpoint without reading it: bytes and headers' SHA-256 of its weight files."""

    n_bytes: int | None = None
    header_digest: str | None = None


@dataclass(frozen=True, slots=True)
class SoupRecord:
    """What soup.json says.

    Args:
        soup: coefficients, ingredients and the acceptance log.
        output: how it was written: dtype, only, max_shard_size, donor, files (name -> SHA-256), integer_differences.
        fingerprints: one per ingredient.
        stockpot: the version that wrote it.
    """

    soup: Soup
    output: Mapping[str, Any] = field(default_factory=dict, hash=False)
    fingerprints: tuple[Fingerprint, ...] = ()
    stockpot: str = __version__


def write_soup(
    soup: Soup,
    path: PathLike,
    *,
    output: Mapping[str, Any],
    fingerprints: Sequence[Fingerprint] = (),
    final_folder: PathLike | None = None,
) -> None:
    """Writes soup.json, whole or not at all.

    Local sources are stored relative to the folder of the record, so that ingredients and soup can be moved together.

    Args:
        soup: what to record.
        path: the file, or the folder to hold `soup.json`.
        output: how the soup was written, JSON values only.
        fingerprints: one per ingredient, or none.
        final_folder: where the record will lie once its temporary folder is renamed; None: where it is written.

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
    file = _file(path, _SOUP_FILE)
    folder = file.parent if final_folder is None else Path(final_folder)
    _write_json(file, _soup_file(SoupRecord(soup, output, tuple(fingerprints)), folder))


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
    file = _file(path, _SOUP_FILE)
    return _soup_record(_read_json(file, _SoupFile), file)


def write_results(results: Results, path: PathLike) -> None:
    """Writes results.json, whole or not at all, to a file or into a folder; equal results give equal bytes.

    Raises:
        RecordError: a value that JSON cannot hold (nan included); the key is named.
        OutputError: the file cannot be written.
    """
    _write_json(_file(path, _RESULTS_FILE), results)


def read_results(path: PathLike) -> Results:
    """Reads and checks results.json; `path` is the file or its folder.

    Raises:
        RecordError: no such file, not JSON, an unknown schema, or wrong keys (all of them listed).
    """
    return _read_json(_file(path, _RESULTS_FILE), Results)


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


def _soup_file(record: SoupRecord, folder: Path) -> _SoupFile:
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
        steps=tuple(_step_entry(s, tried) for s in soup.steps),
        output=dict(record.output),
        curve=tuple(_CurveEntry(**asdict(point)) for point in soup.curve) or None,
    )


def _ingredient_entry(ingredient: Ingredient, fingerprint: Fingerprint, folder: Path) -> _IngredientEntry:
    source, settings = _portable(ingredient.source, folder), dict(ingredient.settings)
    prints = (fingerprint.n_bytes, fingerprint.header_digest)
    return _IngredientEntry(ingredient.name, source, settings, ingredient.digest, ingredient.key, *prints)


def _step_entry(step: Step, tried: Sequence[Ingredient]) -> _StepEntry:
    return _StepEntry(tried.index(step.ingredient), _score_entry(step.score), step.accepted, step.label or None)


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
        soup = Soup(ingredients, coefficients, entry.recipe, entry.combine, entry.logit_scale, steps, curve)
    except BlendError as exc:
        raise RecordError(f"{file} holds no valid soup: {exc.message}", fix="write it again") from exc
    prints = tuple(Fingerprint(e.bytes, e.header_digest) for e in entry.ingredients)
    return SoupRecord(soup, entry.output, prints, entry.stockpot)


def _ingredient(entry: _IngredientEntry, folder: Path) -> Ingredient:
    return Ingredient(entry.name, _located(entry.source, folder), entry.settings, entry.digest, entry.key)


def _score(entry: _ScoreEntry) -> Score:
    paired = None if entry.paired is None else PairedGain(**asdict(entry.paired))
    return Score(**{**asdict(entry), "value": math.nan if entry.value is None else entry.value, "paired": paired})


def _portable(source: str, folder: Path) -> str:
    """A local source seen from `folder`, always with a leading `./` or `../` so that no hub id looks like it."""
    path = Path(source)
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


def _file(path: PathLike, name: str) -> Path:
    path = Path(path)
    return path if path.suffix == ".json" and not path.is_dir() else path / name


def _write_json(file: Path, record: object) -> None:
    content = {"schema": SCHEMA, **_plain(record, file.name)}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        text.encode()
    except UnicodeEncodeError as exc:  # a file name that is not UTF-8 reaches Python as lone surrogates
        line = text.count("\n", 0, exc.start)
        raise RecordError(f"{text.splitlines()[line].strip()!r} is not valid Unicode", fix="rename the file") from exc
    write_text_atomically(file, text)


def _plain(value: Any, where: str) -> Any:
    """JSON values of a record, free of nan; optional fields that are None are left out."""
    if is_dataclass(value):
        return _plain_fields(value, where)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, f"{where}: {key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise RecordError(f"{where} is {value}, which JSON cannot hold", fix="record only finite numbers")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    kind = type(value).__name__
    raise RecordError(f"{where} is a {kind} that JSON cannot hold", fix="use texts, numbers, lists, texts as keys")


#: Mappings of free form: their order means nothing, so it must not show in the bytes.
_UNORDERED = frozenset({"settings", "output", "experiment"})


def _plain_fields(record: Any, where: str) -> dict[str, Any]:
    content = {}
    for f in fields(record):
        value = getattr(record, f.name)
        if value is None and f.default is None:
            continue
        item = _plain(value, f"{where}: {f.name}")
        content[f.name] = _sorted(item) if f.name in _UNORDERED else _whole(item) if f.name == "n_ingredients" else item
    return content


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number


def _read_json(file: Path, shape: type[_T]) -> _T:
    try:
        text = file.read_bytes().decode()
    except UnicodeDecodeError as exc:
        raise RecordError(f"{file} is not UTF-8 text: byte {exc.start}", fix="restore the file") from exc
    except OSError as exc:
        raise RecordError(f"{file} cannot be read: {exc.strerror or exc}", fix="give the record or its folder") from exc
    _check_schema(_parse(text, file), file)
    return _validated(text, shape, file)


def _parse(text: str, file: Path) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_number, parse_float=_finite)
    except json.JSONDecodeError as exc:
        where = f"line {exc.lineno}, column {exc.colno}"
        raise RecordError(f"{file} is not JSON: {exc.msg} in {where}", fix="restore the file or make it again") from exc
    except (ValueError, RecursionError) as exc:
        raise RecordError(f"{file} is not a record: {exc}", fix="restore the file or make it again") from exc


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    return value if math.isfinite(value := float(text)) else _refuse_number(text)


def _check_schema(content: Any, file: Path) -> None:
    if not isinstance(content, dict) or "schema" not in content:
        raise RecordError(f"{file} has no 'schema': it is no record", fix="give a soup.json or results.json")
    found = content["schema"]
    if found != SCHEMA or isinstance(found, bool):
        message = f"{file} has schema {found!r}, but stockpot {__version__} reads schema {SCHEMA}"
        raise RecordError(message, fix="install the stockpot that wrote it, or a newer one")


def _validated(text: str, shape: type[_T], file: Path) -> _T:
    from pydantic import TypeAdapter, ValidationError  # 0.15 s: only those who read a record pay

    try:
        return TypeAdapter(shape).validate_json(text, strict=True)
    except ValidationError as exc:
        problems = [_problem(error["loc"], error) for error in exc.errors(include_url=False)]
        message = f"{file} is not a whole record: {len(problems)} wrong keys"
        raise RecordError(message, problems=problems, fix="restore it or make it again") from exc


def _problem(location: Sequence[int | str], error: Mapping[str, Any]) -> str:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    if error["type"] == "missing":
        return f"{where}: missing"
    found = repr(error["input"])
    return f"{where}: {error['msg'].removeprefix('Input ')}, not {found if len(found) <= 60 else found[:57] + '...'}"
