"""The journal on disk: scores and digests in SQLite, predictions in self-checking blobs.

Layout::

    journal.sqlite            scores (of users' own evaluate functions) and the memory of digests
    blobs/<2 hex>/<key>.safetensors     predictions: one file per key, no row

A blob is found by its name and vouches for itself, so no row and file can disagree, and a lost database costs no
forward pass. Many processes may read and write at once: a blob appears by a rename, a row by one statement. SQLite
keeps its rollback journal, for its write-ahead log needs shared memory, which network file systems do not have.
"""

from __future__ import annotations

import itertools
import json
import re
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from stockpot.errors import OutputError
from stockpot.journal.blobs import Array, read_blob, write_blob
from stockpot.outputs import sweep_stale, translated_os_errors
from stockpot.types import Score

__all__ = ["DigestMemory", "Journal"]

_DATABASE_NAME = "journal.sqlite"
_SCHEMA_VERSION = 1
_BUSY_SECONDS = 60.0
_KEY = re.compile(r"[0-9a-f]{64}")
_TABLES = (
    "CREATE TABLE IF NOT EXISTS scores (key TEXT, rival TEXT, score TEXT NOT NULL, about TEXT NOT NULL, "
    "PRIMARY KEY (key, rival)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS digests (file TEXT PRIMARY KEY, digest TEXT NOT NULL) WITHOUT ROWID",
)
_NUMBERS = ("value", "stderr", "at_most")
_COUNTS = ("n_examples", "n_evaluated")
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Journal:
    """Scores and predictions by content key, under an output folder; survives a kill at any moment.

    Every process opens its own; threads may share one.

    Args:
        folder: the output folder; made if missing.

    Attributes:
        notes: what was found damaged and is computed again.
        hits: questions asked by `remember` and `remember_predictions` that were answered from here.
        misses: questions of theirs that had to be computed.

    Raises:
        OutputError: the folder cannot be written, or a newer stockpot made the journal.

    Example:
        >>> import tempfile, numpy as np
        >>> with tempfile.TemporaryDirectory() as folder, Journal(folder) as journal:
        ...     journal.keep_score("0" * 64, Score(0.5, n_examples=100), {"soup": "uniform"})
        ...     journal.score("0" * 64).value, journal.score("1" * 64)
        (0.5, None)
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.notes: list[str] = []
        self.hits = 0
        self.misses = 0
        self._guard = threading.RLock()
        self._blobs = self.folder / "blobs"
        with translated_os_errors(self.folder):
            self._blobs.mkdir(parents=True, exist_ok=True)
            sweep_stale(self._blobs)
            self._connection = _open_or_restart(self.folder / _DATABASE_NAME, self.notes)
        self._closing = weakref.finalize(self, self._connection.close)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases the database; what was kept is on disk already."""
        self._closing()

    @property
    def digest_memory(self) -> MutableMapping[str, str]:
        """Digests of files by path, size and time of change, as the caller words that."""
        return DigestMemory(self)

    def predictions(self, key: str) -> dict[str, Array] | None:
        """The arrays kept under `key`, bit for bit; None when there are none, or only damaged ones (then noted)."""
        with translated_os_errors(self.folder):
            try:
                return read_blob(self._blob(key))
            except ValueError as exc:
                self.notes.append(f"a damaged entry of the journal is computed again: {exc}")
                return None

    def keep_predictions(self, key: str, arrays: Mapping[str, Array], about: Mapping[str, Any]) -> None:
        """Keeps arrays under `key`; they are there whole or not at all.

        Args:
            key: 64 hexadecimal digits, from `soup_key`.
            arrays: by name; any numeric dtype, any shape.
            about: JSON values for people who look into the journal; no part of the key.

        Raises:
            OutputError: the disk is full; what was kept before stays.
        """
        with translated_os_errors(self.folder):
            write_blob(self._blob(key), arrays, about, scratch=self._blobs)

    def score(self, key: str, *, rival: str = "") -> Score | None:
        """The score kept under `key`, to the bit.

        Args:
            key: from `soup_key`.
            rival: from `incumbent_key`: the answer to "can it replace that one?"; empty for the whole score.
        """
        rows = self.execute("SELECT score FROM scores WHERE key = ? AND rival = ?", (_checked(key), rival))
        return _decode_score(rows[0][0]) if rows else None

    def abandoned_scores(self, key: str) -> list[Score]:
        """The scores kept under `key` against any rival."""
        rows = self.execute("SELECT score FROM scores WHERE key = ? AND rival != '' ORDER BY rival", (_checked(key),))
        return [_decode_score(text) for (text,) in rows]

    def keep_score(self, key: str, score: Score, about: Mapping[str, Any], *, rival: str = "") -> None:
        """Keeps a score under `key`, and for an abandoned one under what it was measured against.

        Raises:
            OutputError: the disk is full; what was kept before stays.
            ValueError: an abandoned score without `rival` (it says nothing then).
        """
        if score.is_abandoned and not rival:
            raise ValueError("an abandoned score is kept only with what it was measured against")
        row = (_checked(key), rival, _encode_score(score), json.dumps(about, sort_keys=True))
        self.execute("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?)", row)

    def count(self, *, hit: bool) -> None:
        """Counts one question, for the report: answered from here, or to be computed."""
        with self._guard:
            self.hits += hit
            self.misses += not hit

    def execute(self, statement: str, values: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        """Runs one SQL statement as one transaction."""
        with self._guard:
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.DatabaseError as exc:
                raise _output_error(exc, self.folder / _DATABASE_NAME) from exc

    def _blob(self, key: str) -> Path:
        return self._blobs / _checked(key)[:2] / f"{key}.safetensors"


class DigestMemory(MutableMapping[str, str]):
    """File -> digest, kept in the journal. The caller's key says path, size and time of change of the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Journal(folder) as journal:
        ...     journal.digest_memory["a.safetensors:10:123"] = "1f"
        ...     dict(journal.digest_memory)
        {'a.safetensors:10:123': '1f'}
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __getitem__(self, file: str) -> str:
        rows = self._execute("SELECT digest FROM digests WHERE file = ?", file)
        if not rows:
            raise KeyError(file)
        return rows[0][0]

    def __setitem__(self, file: str, digest: str) -> None:
        self._execute("INSERT OR REPLACE INTO digests VALUES (?, ?)", file, digest)

    def __delitem__(self, file: str) -> None:
        if file not in self:
            raise KeyError(file)
        self._execute("DELETE FROM digests WHERE file = ?", file)

    def __iter__(self) -> Iterator[str]:
        return iter([file for (file,) in self._execute("SELECT file FROM digests ORDER BY file")])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _execute(self, statement: str, *values: str) -> list[tuple[str, ...]]:
        return self._journal.execute(statement, values)


def _open_or_restart(path: Path, notes: list[str]) -> sqlite3.Connection:
    """Opens the database; a damaged one is moved aside, and a new one is begun."""
    before = _inode(path)
    try:
        try:
            return _open(path)
        except sqlite3.DatabaseError as exc:
            if not _is_damage(exc):
                raise
        if _inode(path) == before:  # otherwise another process has moved it aside already
            aside = _move_aside(path)
            notes.append(f"{path.name} is damaged, kept as {aside.name}; scores in it are computed again")
        return _open(path)
    except sqlite3.DatabaseError as exc:
        raise _output_error(exc, path) from exc


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    ((verdict,),) = connection.execute("PRAGMA quick_check(1)").fetchall()
    if verdict != "ok":
        damage = sqlite3.DatabaseError(verdict)
        damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damage
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    if version == 0:
        connection.execute("BEGIN IMMEDIATE")
        for statement in (*_TABLES, f"PRAGMA user_version = {_SCHEMA_VERSION}", "COMMIT"):
            connection.execute(statement)
    elif version != _SCHEMA_VERSION:
        raise OutputError(
            f"{path} has version {version}, this stockpot knows {_SCHEMA_VERSION}",
            fix="use the stockpot that made it, or name another output folder with -o",
        )


def _move_aside(path: Path) -> Path:
    taken = (path.with_name(f"{path.name}.damaged-{number}") for number in itertools.count(1))
    aside = next(candidate for candidate in taken if not candidate.exists())
    path.rename(aside)
    # The rollback journal goes along: beside a new database it would be rolled back into that one.
    with suppress(FileNotFoundError):
        path.with_name(f"{path.name}-journal").rename(aside.with_name(f"{aside.name}-journal"))
    return aside


def _inode(path: Path) -> int | None:
    return path.stat().st_ino if path.exists() else None


def _is_damage(exc: sqlite3.DatabaseError) -> bool:
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def _output_error(exc: sqlite3.DatabaseError, path: Path) -> OutputError:
    if _is_damage(exc):
        return OutputError(f"{path} is damaged: {exc}", fix="start the command again: what is damaged is moved aside")
    return OutputError(
        f"cannot use {path}: {exc}", fix="free some space or mend its permissions, then start the command again"
    )


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is not a key of the journal")
    return key


def _encode_score(score: Score) -> str:
    numbers = {name: _hex(getattr(score, name)) for name in _NUMBERS}
    counts = {name: None if (n := getattr(score, name)) is None else int(n) for name in _COUNTS}
    return json.dumps({**numbers, **counts, "metric": score.metric, "higher_is_better": bool(score.higher_is_better)})


def _decode_score(text: str) -> Score:
    fields = json.loads(text)
    return Score(**fields | {name: None if (n := fields[name]) is None else float.fromhex(n) for name in _NUMBERS})


def _hex(number: float | None) -> str | None:
    return None if number is None else float(number).hex()
