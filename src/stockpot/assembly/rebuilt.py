"""A soup written again from its record: the same bytes, or an error that names what has changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from stockpot.assembly.recorded import (
    Checked,
    Recorded,
    check_file,
    check_ingredients,
    file_differences,
    place_of,
    read_recorded,
)
from stockpot.assembly.written import Written, write_folder
from stockpot.errors import CheckpointError, RecordError
from stockpot.outputs import check_target
from stockpot.records import Fingerprint, Output, PathLike, write_soup

__all__ = ["rebuild"]


def rebuild(
    record_path: PathLike, out: PathLike, *, force: bool = False, sources: PathLike | None = None, by_time: bool = True
) -> Written:
    """Writes a soup again, to the byte, from its record and its ingredients.

    Every ingredient is compared with the record first: by the SHA-256 of all its bytes where that was recorded (none
    is remembered), else by size, header and time of modification. What was written is compared with the recorded
    digests or sizes before it appears.

    Args:
        record_path: a soup.json or its folder.
        out: where to; must not exist, or be empty, unless `force`.
        force: replace `out`.
        sources: a folder in which ingredients are looked for first, by the last parts of their paths.
        by_time: refuse an ingredient without a digest that was modified, or copied, after the soup was made. Without
            it a changed value would not show.

    Returns:
        The files written, and remarks: what could not be compared, what is left out.

    Raises:
        RecordError: the record is damaged, or what was written is not what it says.
        CheckpointError: ingredients or side files that are missing or have changed; all of them are named.
        BlendError, OutputError: nothing is left behind.

    Example:
        >>> import tempfile, pathlib, numpy, safetensors.numpy
        >>> from stockpot import ingredients, uniform, write
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name, value in (("a", 1.0), ("b", 2.0)):
        ...     safetensors.numpy.save_file({"w": numpy.full(2, value)}, folder / f"{name}.safetensors")
        >>> _ = write(uniform(ingredients(folder / "*.safetensors")), folder / "soup")
        >>> rebuild(folder / "soup", folder / "again").files
        ('model.safetensors',)
        >>> (folder / "again/soup.json").read_bytes() == (folder / "soup/soup.json").read_bytes()
        True
    """
    out = Path(out)
    recorded = read_recorded(record_path).found_in(None if sources is None else Path(sources))
    if recorded.output.recalibrated:
        raise RecordError(
            f"{recorded.file}: running statistics were made anew with training data, which no record can repeat",
            problems=recorded.record.notes,
            fix="make the soup again with the task and --recalibrate",
        )
    options = recorded.options(force=force)
    check_target(out, force=force, inputs=[recorded.file])
    _refuse_changed([*check_ingredients(recorded), *_side_files(recorded)], recorded, by_time=by_time)

    def finish(partial: Path, output: Output, fingerprints: Sequence[Fingerprint]) -> None:
        _refuse_other(output, recorded)
        was = recorded.record
        prints = was.fingerprints or fingerprints
        write_soup(
            recorded.soup,
            partial,
            output=output,
            fingerprints=prints,
            final_folder=out,
            stockpot=was.stockpot,
            notes=was.notes,
        )

    written = write_folder(
        recorded.soup,
        out,
        options,
        finish,
        side_names=frozenset(recorded.output.side_files),
        digests=len(recorded.files_without_digest) < len(recorded.output.files),
    )
    return replace(written, notes=(*written.notes, *_remarks(recorded)))


def _side_files(recorded: Recorded) -> list[Checked]:
    """The donor's side files, compared with what was copied from it."""
    donor = recorded.soup.ingredients[0]
    folder = place_of(donor)
    return [
        check_file(folder / name, f"{donor.name} ({folder / name})", file)
        for name, file in recorded.output.side_files.items()
    ]


def _refuse_changed(checks: Sequence[Checked], recorded: Recorded, *, by_time: bool) -> None:
    changed = [line for check in checks for line in check.lines()]
    doubts = [line for check in checks for line in check.lines(doubts=True)] if by_time else []
    if problems := changed + doubts:
        n = sum(bool(check.problems or (by_time and check.doubts)) for check in checks)
        raise CheckpointError(
            f"{recorded.file}: {n} of {len(checks)} inputs are not what was recorded",
            problems=problems,
            fix="restore them; if they were moved, name the folder they are in with --sources"
            if changed
            else "restore them; if they were only copied, add --unchecked",
        )


def _refuse_other(output: Output, recorded: Recorded) -> None:
    """The finished folder against the record, before it appears."""
    problems = list(_output_differences(output, recorded.output))
    if problems:
        raise RecordError(
            f"what was rebuilt is not what {recorded.file} says, so it was removed",
            problems=problems,
            fix=f"the record or an ingredient was changed, or stockpot {recorded.record.stockpot} blended differently: "
            "install that version",
        )


def _output_differences(found: Output, expected: Output) -> Iterator[str]:
    for key in ("files", "side_files"):
        there, wanted = getattr(found, key), getattr(expected, key)
        for name, file in wanted.items():
            if name not in there:
                yield f"{name}: recorded, but not written now"
                continue
            yield from (f"{name}: {difference}" for difference in file_differences(there[name], file))
        # Schema 1 did not speak of the index.
        surplus = [name for name in there if name not in wanted and not name.endswith(".index.json")]
        yield from (f"{name}: written now, but not recorded" for name in surplus)
    if expected.header_digest not in (None, found.header_digest):
        yield "names, dtypes, shapes or ties of the tensors are others"


def _remarks(recorded: Recorded) -> Iterator[str]:
    if recorded.files_without_digest:
        yield f"no digest is recorded to compare with: {', '.join(recorded.files_without_digest)}"
    unsure = [member.name for member in recorded.soup.ingredients if member.digest is None]
    if unsure:
        yield f"known by size, header and time only, not by a digest: {', '.join(dict.fromkeys(unsure))}"
    if (recorded.file.parent / "README.md").is_file():
        yield "README.md is left out: it holds scores, which the record does not"
