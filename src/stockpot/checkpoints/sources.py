"""From paths, globs and ingredients to one tuple of ingredients: nothing heavy is opened."""

from __future__ import annotations

import glob
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stockpot.checkpoints.locating import holds_weights, is_training_state, is_weight_file, locate
from stockpot.errors import CheckpointError
from stockpot.types import Ingredient

__all__ = ["ingredients"]

Source = str | os.PathLike[str] | Ingredient
#: What lies beside checkpoints and is none: a glob may match it without a word.
_OBVIOUSLY_NO_CHECKPOINT = frozenset(
    {".md", ".json", ".jsonl", ".yaml", ".yml", ".txt", ".csv", ".tsv", ".log", ".py", ".png", ".pdf", ".html", ".sh"}
)


def ingredients(*sources: Source | Iterable[Source], key: str | None = None) -> tuple[Ingredient, ...]:
    """Checkpoints by reference, in the order given; a glob stands for its matches, sorted.

    A glob passes over README.md, *.json, *.log and the like; any other match without weights is an error, so that no
    ingredient is missing without a word.

    Args:
        sources: paths of files or folders, globs (also quoted ones), ingredients, or iterables of these.
        key: which state dict to take inside wrapped PyTorch files; ingredients that are passed keep their own.

    Returns:
        At least one ingredient. Names are the shortest endings of the paths that tell them apart; a path given again
        is named with "#2". `settings` come from the folder's run.json where there is one.

    Raises:
        CheckpointError: no source, a source that is not there or holds no weights, a glob without a match; all listed.

    Example:
        >>> ingredients(Ingredient("a", "runs/a"))[0].name
        'a'
        >>> ingredients()
        Traceback (most recent call last):
        ...
        stockpot.errors.CheckpointError: no ingredients
        fix: give at least one checkpoint
    """
    problems: list[CheckpointError] = []
    found = [entry for source in _flattened(sources) for entry in _expanded(source, problems)]
    if problems:
        raise _joined(problems)
    if not found:
        raise CheckpointError("no ingredients", fix="give at least one checkpoint")
    names = iter(_names([entry for entry in found if not isinstance(entry, Ingredient)]))
    named = [entry if isinstance(entry, Ingredient) else _ingredient(next(names), entry, key) for entry in found]
    return tuple(named)


def _flattened(sources: Iterable[Source | Iterable[Source]]) -> Iterator[Source]:
    for source in sources:
        if isinstance(source, str | os.PathLike | Ingredient):
            yield source
        else:
            yield from _flattened(source)


def _joined(problems: Sequence[CheckpointError]) -> CheckpointError:
    if len(problems) == 1:
        return problems[0]
    lines = [line for problem in problems for line in str(problem).splitlines()]
    return CheckpointError(f"{len(problems)} sources cannot be used", problems=lines)


def _expanded(source: Source, problems: list[CheckpointError]) -> list[str | Ingredient]:
    """The paths behind one source; what is wrong with it goes to `problems`."""
    if isinstance(source, Ingredient):
        return [source]
    text = os.fspath(source)
    # A path that exists is meant as it stands, whatever brackets are in its name.
    is_pattern = glob.has_magic(text) and not os.path.exists(os.path.expanduser(text))  # noqa: PTH110, PTH111
    found: list[str | Ingredient] = []
    try:
        found += _matches(text) if is_pattern else [text]
    except CheckpointError as exc:
        problems.append(exc)
    problems += [problem for path in found if (problem := _problem_with(str(path)))]
    return found


def _problem_with(path: str) -> CheckpointError | None:
    if not path.strip():
        return CheckpointError("a source is an empty name", fix="check the variable or pattern it came from")
    try:
        path.encode()
    except UnicodeEncodeError:  # names are written into soup.json
        return CheckpointError(f"{path!a}: the name is not valid Unicode", fix="rename it")
    try:
        locate(path)
    except CheckpointError as exc:
        return exc
    return None


def _matches(pattern: str) -> list[str]:
    found = sorted(glob.glob(os.path.expanduser(pattern), recursive=True))  # noqa: PTH111, PTH207 - patterns, no paths
    matches = [match for match in found if not _is_obviously_none(Path(match))]
    without = [match for match in matches if not holds_weights(Path(match))]
    if without:
        raise CheckpointError(
            f"{pattern}: {len(without)} of {len(matches)} matches hold no weights",
            problems=without,
            fix="narrow the pattern, or name the checkpoints one by one",
        )
    if not matches:
        what = f"its {len(found)} matches are no checkpoints" if found else "matches nothing"
        raise CheckpointError(f"{pattern}: {what}", fix="check the pattern, and the folder it starts from")
    return matches


def _is_obviously_none(path: Path) -> bool:
    if path.is_dir() or holds_weights(path):
        return False
    return path.suffix.lower() in _OBVIOUSLY_NO_CHECKPOINT or is_training_state(path)


def _ingredient(name: str, source: str, key: str | None) -> Ingredient:
    return Ingredient(name, source, settings=_settings(Path(source).expanduser()), key=key)


def _settings(path: Path) -> Mapping[str, Any]:
    """The settings in the folder's run.json; a file of that name that says something else is somebody else's."""
    try:
        record = json.loads((path / "run.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    settings = record.get("settings") if isinstance(record, dict) else None
    return settings if isinstance(settings, dict) else {}


def _names(sources: Sequence[str]) -> list[str]:
    """The shortest path endings that differ where the paths do; repetitions are numbered."""
    paths = [Path(os.path.realpath(os.path.expanduser(source))) for source in sources]  # noqa: PTH111
    shown = [Path(os.path.abspath(os.path.expanduser(source))) for source in sources]  # noqa: PTH100, PTH111
    first_shown = dict(reversed([*zip(paths, shown, strict=True)]))
    endings = _shortest_endings({path: _parts(first_shown[path]) for path in dict.fromkeys(paths)})
    seen: Counter[str] = Counter()
    names: list[str] = []
    for path in paths:
        seen[endings[path]] += 1
        names.append(endings[path] if seen[endings[path]] == 1 else f"{endings[path]}#{seen[endings[path]]}")
    return names


def _parts(path: Path) -> tuple[str, ...]:
    """Folder names and the stem; the suffix comes back only where nothing else differs (see _shortest_endings)."""
    is_file = is_weight_file(path) and not path.is_dir()
    return (*path.parts[:-1], path.stem) if is_file else path.parts


def _shortest_endings(parts_by_path: Mapping[Path, tuple[str, ...]]) -> dict[Path, str]:
    twins = Counter(parts_by_path.values())
    whole = {path: parts if twins[parts] == 1 else path.parts for path, parts in parts_by_path.items()}
    depths = dict.fromkeys(whole, 1)
    while True:
        endings = {path: "/".join(parts[-depths[path] :]) for path, parts in whole.items()}
        counts = Counter(endings.values())
        clashing = [path for path in whole if counts[endings[path]] > 1 and depths[path] < len(whole[path])]
        if not clashing:
            return endings
        for path in clashing:
            depths[path] += 1
