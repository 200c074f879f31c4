"""The files that one name means: a file, a folder of shards, or a pattern."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from stockpot.errors import DataError

__all__ = ["check_no_sets", "is_pattern", "shards"]

_SETS = ("train", "validation", "valid", "val", "dev", "test")
#: How `datasets` numbers the files of one set.
_NUMBERED = re.compile(r"(?P<start>.*-)(?P<number>\d{5})(?P<end>-of-(?P<n>\d{5})\b.*)")
_SET = re.compile(rf"(?<![a-z])({'|'.join(_SETS)})(?![a-z])")
_SAME_SET = {"valid": "validation", "val": "validation", "dev": "validation"}


def is_pattern(path: Path) -> bool:
    """Whether a path that does not exist is a pattern of file names."""
    return any(sign in path.name for sign in "*?[") and not path.exists()


def shards(path: Path, is_known: Callable[[str], bool], *, name: str) -> list[Path]:
    """The files of a path, in the order of their names; hidden ones are left out.

    Args:
        path: a file, which is returned as it is, whether it exists or not; a folder, of which the files of a known kind
            are taken; or a pattern (`train-*.parquet`).
        is_known: whether a file of this name can be read.
        name: what to call the path in errors.

    Returns:
        Of a folder none where it holds no such file.

    Raises:
        DataError: nothing fits the pattern; a folder with files of several sets (train, test) or several kinds, of
            which one must be named; files numbered `-00000-of-00003` of which some are missing.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for number in (1, 0):
        ...         Path(folder, f"train-{number}.csv").touch()
        ...     [file.name for file in shards(Path(folder, "train-*"), lambda name: True, name="train-*")]
        ['train-0.csv', 'train-1.csv']
    """
    if path.is_dir():
        found = _known(path, "*", is_known)
        _check_one_set(found, name)
        _check_whole(found, "*", name)
        return found
    if not is_pattern(path):
        return [path]
    found = _known(path.parent, path.name, is_known)
    if not found:
        raise DataError(f"no file fits {name} (looked in {path.parent})", fix="correct the pattern")
    _check_whole(found, path.name, name)
    return found


def check_no_sets(folders: Sequence[Path], name: str) -> None:
    """Refuses a folder whose folders are sets, as `datasets` lays them out, and no classes.

    Args:
        folders: those in it.
        name: what to call it.

    Raises:
        DataError: each of them is named like a set.

    Example:
        >>> check_no_sets([Path("train"), Path("car")], "vehicles")
    """
    if folders and all(folder.name.lower() in _SETS for folder in folders):
        found = [folder.name for folder in folders]
        fix = f"name one of them: {name.rstrip('/')}/{found[0]}"
        raise DataError(f"{name} holds a folder for each set: {', '.join(found)}", fix=fix)


def _known(folder: Path, pattern: str, is_known: Callable[[str], bool]) -> list[Path]:
    if not folder.is_dir():
        return []
    shown = (file for file in folder.glob(pattern) if pattern.startswith(".") or not file.name.startswith("."))
    return sorted(file for file in shown if is_known(file.name) and file.is_file())


def _check_one_set(files: Sequence[Path], name: str) -> None:
    kinds = {file.suffix.lower() for file in files}
    sets = {_SAME_SET.get(found[1], found[1]) for file in files if (found := _SET.search(file.stem.lower()))}
    if len(kinds) > 1 or len(sets) > 1:
        what = "sets" if len(sets) > 1 else "kinds"
        shown = ", ".join(file.name for file in files[:4]) + (" ..." if len(files) > 4 else "")
        raise DataError(
            f"{name} holds files of several {what}: {shown}",
            fix=f"name those of one, such as {name.rstrip('/')}/{_pattern_of(files[0])}",
        )


def _check_whole(files: Sequence[Path], pattern: str, name: str) -> None:
    """Refuses a part of a set: what a download or a copy that was broken off leaves."""
    sets: dict[tuple[str, int], dict[int, str]] = {}
    for file in files:
        if found := _NUMBERED.fullmatch(file.name):
            sets.setdefault((found["start"], int(found["n"])), {})[int(found["number"])] = found["end"]
    missing = [
        lacking
        for (start, n), ends in sets.items()
        for number in sorted(set(range(n)) - set(ends))
        # Of a file that is not there the end is unknown, where it holds a hash of its own.
        if fnmatchcase(lacking := f"{start}{number:05}{next(iter(ends.values()))}", pattern)
    ]
    if missing:
        raise DataError(
            f"{name}: {len(missing)} of its {len(missing) + len(files)} files are missing, {missing[0]} first",
            fix="fetch or copy them again, or name those that you want by a pattern",
        )


def _pattern_of(file: Path) -> str:
    """What the names of its shards have in common."""
    return re.sub(r"\d+", "*", file.stem, count=1) + file.suffix
