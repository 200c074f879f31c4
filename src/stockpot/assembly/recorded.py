"""What a soup's record says against what is there: its ingredients and its files, every difference in words."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stockpot.assembly.tensors import require_weights
from stockpot.assembly.written import OutputOptions, fingerprint_of, ingredient_digest, written_file
from stockpot.checkpoints import open_checkpoint, parse_size
from stockpot.errors import CheckpointError
from stockpot.kernel import parse_dtype
from stockpot.records import (
    Fingerprint,
    Output,
    PathLike,
    SoupRecord,
    WrittenFile,
    output_of,
    read_soup_record,
    soup_file,
)
from stockpot.types import Ingredient, Soup

__all__ = ["Checked", "Recorded", "check_file", "check_ingredients", "file_differences", "place_of", "read_recorded"]

_SHOWN_DIGITS = 12
_MODIFIED = "was modified or copied since, and no digest was taken: its values may be others"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A soup's record whose weights were written.

    Args:
        file: its soup.json.
        record: what it says; the ingredients' sources are absolute.
        output: how the weights were written.
    """

    file: Path
    record: SoupRecord
    output: Output

    @property
    def soup(self) -> Soup:
        """The soup itself."""
        return self.record.soup

    @property
    def fingerprints(self) -> tuple[Fingerprint, ...]:
        """One per ingredient, empty ones where none were recorded."""
        return self.record.fingerprints or (Fingerprint(),) * len(self.soup.ingredients)

    @property
    def files_without_digest(self) -> list[str]:
        """Names of the output's weight files whose digest was not taken."""
        return [name for name, file in self.output.files.items() if file.digest is None]

    def options(self, *, force: bool = False) -> OutputOptions:
        """How to write or blend it again.

        Raises:
            BlendError, ConfigError: an unknown dtype, a shard size that is none.
        """
        dtype = None if self.output.dtype is None else parse_dtype(self.output.dtype)
        return OutputOptions(dtype, self.output.only, parse_size(self.output.max_shard_size), force)

    def found_in(self, sources: Path | None) -> Recorded:
        """The record with its ingredients, and what else was tried, looked for in another folder first.

        Args:
            sources: an ingredient is taken from here if the end of its path, the longest there is, leads to something.

        Raises:
            CheckpointError: no such folder, or two ingredients that nothing tells apart would be the same one.
        """
        if sources is None:
            return self
        if not sources.is_dir():
            raise CheckpointError(f"{sources}: no such folder", fix="name the folder the ingredients were moved to")
        soup = self.soup
        steps = tuple(replace(step, ingredient=_found(step.ingredient, sources)) for step in soup.steps)
        ingredients = tuple(_found(ingredient, sources) for ingredient in soup.ingredients)
        _refuse_merged(soup.ingredients, ingredients)
        return replace(self, record=replace(self.record, soup=replace(soup, ingredients=ingredients, steps=steps)))


@dataclass(frozen=True, slots=True)
class Checked:
    """One thing compared with the record.

    Args:
        name: what it is, as the user knows it.
        result: what was found to agree.
        problems: what does not; empty if all is well.
        doubts: what may have changed and only a new blend would tell.
    """

    name: str
    result: str
    problems: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def lines(self, *, doubts: bool = False) -> list[str]:
        """The problems, or the doubts, each under the name."""
        return [f"{self.name}: {problem}" for problem in (self.doubts if doubts else self.problems)]


def read_recorded(path: PathLike) -> Recorded:
    """Reads the record of a soup that has weights.

    Args:
        path: a soup.json or its folder.

    Raises:
        RecordError: no record, a damaged one, or one without weight files.
        BlendError: it is an ensemble, which has no weights.
    """
    file = soup_file(path)
    # Absolute: a candidate that is gone would otherwise look like an id on the hub.
    record = read_soup_record(file.absolute())
    require_weights(record.soup)
    return Recorded(file, record, output_of(record.output, file))


def check_ingredients(recorded: Recorded) -> list[Checked]:
    """Compares every ingredient with its record: by its digest, all bytes read, or else by size, header and time."""
    pairs = zip(recorded.soup.ingredients, recorded.fingerprints, strict=True)
    return [_check_ingredient(ingredient, fingerprint) for ingredient, fingerprint in pairs]


def check_file(path: Path, name: str, expected: WrittenFile) -> Checked:
    """Compares a file with its record; its bytes are read if a digest is recorded."""
    if not os.path.isfile(path):  # noqa: PTH113 - Path's own raises where a folder may not be entered
        return Checked(name, "", ("is missing",))
    try:
        found = written_file(path, digest=expected.digest is not None)
    except CheckpointError as error:
        return Checked(name, "", (error.message,))
    return Checked(name, _agreement(expected.bytes, expected.digest), tuple(file_differences(found, expected)))


def place_of(ingredient: Ingredient) -> Path:
    """Where an ingredient's source lies."""
    return Path(os.path.expanduser(ingredient.source))  # noqa: PTH111 - Path's own raises where there is no such user


def file_differences(found: WrittenFile, expected: WrittenFile) -> Iterator[str]:
    """Size or digest, where they differ; what was not taken on either side does not count."""
    if expected.bytes is not None and found.bytes != expected.bytes:
        yield _other_size(found.bytes, expected.bytes)
    elif None not in (expected.digest, found.digest) and found.digest != expected.digest:
        yield _other_bytes(found.digest, expected.digest)


def _check_ingredient(ingredient: Ingredient, expected: Fingerprint) -> Checked:
    name = f"{ingredient.name} ({ingredient.source})"
    if (expected.n_bytes, expected.header_digest, ingredient.digest) == (None, None, None):
        return Checked(name, "", doubts=("the record holds neither size nor digest to know it by",))
    try:
        with open_checkpoint(ingredient.source, key=ingredient.key) as checkpoint:
            found = fingerprint_of(checkpoint)
            problems = list(_fingerprint_differences(found, expected))
            if ingredient.digest is not None and not problems:  # else they differ for certain
                digest = ingredient_digest(checkpoint.weight_files, ingredient.key)
                problems += [_other_bytes(digest, ingredient.digest)] if digest != ingredient.digest else []
    except CheckpointError as error:
        return Checked(name, "", (_without_place("; ".join([error.message, *error.problems]), ingredient.source),))
    is_doubtful = not problems and expected.modified_ns not in (None, found.modified_ns)
    agreement = _agreement(expected.n_bytes, ingredient.digest, expected)
    return Checked(name, agreement, tuple(problems), (_MODIFIED,) if is_doubtful else ())


def _fingerprint_differences(found: Fingerprint, expected: Fingerprint) -> Iterator[str]:
    if expected.n_bytes is not None and found.n_bytes != expected.n_bytes:
        yield _other_size(found.n_bytes, expected.n_bytes)
    if expected.header_digest is not None and found.header_digest != expected.header_digest:
        digests = _two(found.header_digest, expected.header_digest)
        yield f"names, dtypes, shapes or ties of its tensors are others (header digest {digests})"


def _agreement(n_bytes: int | None, digest: str | None, known_by: Fingerprint | None = None) -> str:
    if digest is not None:
        return "SHA-256 as recorded"
    known = [
        *([f"{n_bytes:,} bytes"] if n_bytes is not None else []),
        *(["tensor names and shapes"] if known_by is not None and known_by.header_digest is not None else []),
        *(["time"] if known_by is not None and known_by.modified_ns is not None else []),
    ]
    return f"{', '.join(known)} as recorded; no digest was taken" if known else "is there; the record says no more"


def _other_size(found: int | None, expected: int | None) -> str:
    return f"size {found:,} bytes, recorded {expected:,}"


def _other_bytes(found: str | None, expected: str | None) -> str:
    return f"its bytes are others (SHA-256 {_two(found, expected)})"


def _two(found: str | None, expected: str | None) -> str:
    return f"{(found or '')[:_SHOWN_DIGITS]}..., recorded {(expected or '')[:_SHOWN_DIGITS]}..."


def _without_place(text: str, place: str) -> str:
    return text.removeprefix(f"{place}: ")


def _found(ingredient: Ingredient, folder: Path) -> Ingredient:
    parts = Path(os.path.abspath(place_of(ingredient))).parts[1:]  # noqa: PTH100 - removes "..", follows no link
    endings = (folder.joinpath(*parts[start:]) for start in range(len(parts)))
    place = next((ending for ending in endings if os.path.exists(ending)), None)  # noqa: PTH110 - Path's own may raise
    return ingredient if place is None else replace(ingredient, source=str(place))


def _refuse_merged(recorded: Sequence[Ingredient], found: Sequence[Ingredient]) -> None:
    """Only a digest tells whether one file may stand for two."""
    by_place: dict[str, dict[str, str]] = defaultdict(dict)
    for before, after in zip(recorded, found, strict=True):
        if before.digest is None:
            by_place[after.source][before.source] = before.name
    problems = [
        f"{place}: found for {' and '.join(names.values())}" for place, names in by_place.items() if len(names) > 1
    ]
    if problems:
        raise CheckpointError(
            "ingredients of different places are found in one, and no digest tells which it is",
            problems=problems,
            fix="name the folder above, so that the ends of their paths tell them apart",
        )
