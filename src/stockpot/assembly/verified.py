"""A soup's folder against its record: what is there, what it says, and whether its tensors are the blend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from stockpot.assembly.opening import opened
from stockpot.assembly.recorded import Checked, Recorded, check_file, check_ingredients, read_recorded
from stockpot.checkpoints import OpenedCheckpoint, header_digest, open_checkpoint
from stockpot.errors import BlendError, CheckpointError
from stockpot.kernel import Chunk, blend, blended_specs
from stockpot.records import PathLike
from stockpot.types import ITEM_BYTES

__all__ = ["verify"]

#: What our own commands write beside a soup; no record lists it, for it changes with what is looked at.
_OURS = frozenset({
    "README.md", "analysis.json", "diagnosis.json", "experiment.json", "progress.jsonl", "report.html", "results.csv",
    "results.json", "results.md", "results.tex", "timings.json",
})  # fmt: skip
#: Files that a framework may load instead of the soup's own weights.
_WEIGHT_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx"})


def verify(folder: PathLike, *, ingredients: bool = False, tensors: bool = False) -> tuple[str, ...]:
    """Checks a soup's folder against its soup.json; nothing is written.

    Weight files, index and side files are compared by SHA-256 where it was recorded (all bytes are read, none is
    remembered), else by size; names, dtypes, shapes and ties of the tensors by their digest. Where the weight files
    have no digest, only a new blend tells a changed value: then the tensors are compared too.

    Args:
        folder: of the soup, or its soup.json.
        ingredients: compare the ingredients with the record too.
        tensors: blend the ingredients again, in constant memory, and compare every tensor to the bit; ingredients that
            are not as recorded are named instead.

    Returns:
        One line for each thing checked.

    Raises:
        RecordError: there is no record, or it is damaged.
        BlendError: an ensemble, which has no weights.
        CheckpointError: something is not as recorded; every problem is listed.

    Example:
        >>> import tempfile, pathlib, numpy, safetensors.numpy
        >>> from stockpot import ingredients, uniform, write
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name, value in (("a", 1.0), ("b", 2.0)):
        ...     safetensors.numpy.save_file({"w": numpy.full(2, value)}, folder / f"{name}.safetensors")
        >>> _ = write(uniform(ingredients(folder / "*.safetensors")), folder / "soup")
        >>> verify(folder / "soup", tensors=True)[-1]
        'blend: 1 tensor, equal to the bit'
    """
    recorded = read_recorded(folder)
    root = recorded.file.parent
    own = _own_checks(root, recorded)
    problems = _lines(own)
    needs_blend = tensors or (bool(recorded.files_without_digest) and not problems)
    sources = check_ingredients(recorded) if ingredients or needs_blend else []
    changed, doubts = _lines(sources), _lines(sources, doubts=True)
    blends = [_check_blend(root, recorded)] if (needs_blend or doubts) and not changed else []
    problems += _lines(blends)
    if problems:
        raise _not_as_recorded(root, problems, changed + doubts)
    if changed:
        raise _changed_ingredients(root, recorded, changed)
    shown = [*own, *(sources if ingredients else ()), *blends]
    return tuple(f"{check.name}: {check.result}" for check in shown)


def _own_checks(root: Path, recorded: Recorded) -> list[Checked]:
    """The folder's own files."""
    files = {**recorded.output.files, **recorded.output.side_files}
    return [
        Checked("soup.json", f"{recorded.soup.recipe} of {_count(len(recorded.soup.ingredients), 'ingredient')}"),
        *(check_file(root / name, name, file) for name, file in files.items()),
        _check_layout(root, recorded),
        *_check_others(root, recorded),
    ]


def _lines(checks: Sequence[Checked], *, doubts: bool = False) -> list[str]:
    return [line for check in checks for line in check.lines(doubts=doubts)]


def _not_as_recorded(root: Path, problems: Sequence[str], changed: Sequence[str]) -> CheckpointError:
    first = "bring the ingredients back as they were, then " if changed else ""
    return CheckpointError(
        f"{root} is not what its record says" + (", nor are its ingredients" if changed else ""),
        problems=[*problems, *changed],
        fix=f"{first}write it again from its ingredients: stockpot rebuild {root} -o another-folder",
    )


def _changed_ingredients(root: Path, recorded: Recorded, changed: Sequence[str]) -> CheckpointError:
    if recorded.files_without_digest:
        return CheckpointError(
            f"nothing tells whether the values in {root} are as written: they have no digest, and its ingredients are "
            "not as recorded",
            problems=changed,
            fix="bring the ingredients back as they were; to know a soup without them, make it with --digests",
        )
    return CheckpointError(
        f"the files of {root} are as recorded, but not its ingredients",
        problems=changed,
        fix="bring the ingredients back as they were; until then the soup stands, but cannot be made again",
    )


def _check_layout(root: Path, recorded: Recorded) -> Checked:
    """Headers and index, both ways, and whether the record speaks of the tensors that are there."""
    try:
        with open_checkpoint(root) as checkpoint:
            problems = tuple(_layout_problems(checkpoint, recorded))
            n = len(checkpoint.specs)
    except CheckpointError as error:
        return Checked("tensors", "", (error.message, *error.problems))
    known = "names, dtypes and shapes as recorded" if recorded.output.header_digest else "in order; none were recorded"
    return Checked("tensors", f"{_count(n, 'tensor')}, {known}", problems)


def _layout_problems(checkpoint: OpenedCheckpoint, recorded: Recorded) -> Iterator[str]:
    output = recorded.output
    if output.header_digest not in (None, header_digest(checkpoint)):
        yield "their names, dtypes, shapes or ties are not the recorded ones"
    for key, listed in _lists_of_tensors(recorded):
        unknown = [name for name in listed if name not in checkpoint.specs and name not in checkpoint.tied]
        yield from (f"{key} of soup.json names {name!r}, which is not there" for name in unknown)
    read = {path.name for path in checkpoint.weight_files}
    there = {path.name for path in recorded.file.parent.glob("*.safetensors")}
    yield from (f"{name} is there, but not recorded" for name in sorted((read | there) - output.files.keys()))


def _check_others(root: Path, recorded: Recorded) -> Iterator[Checked]:
    """Files beside the recorded ones: weights that a loader might take instead are a problem, others are told."""
    known = {*recorded.output.files, *recorded.output.side_files, recorded.file.name, *_OURS}
    others = sorted(
        path.name
        for path in root.iterdir()
        if path.is_file() and path.name not in known and not path.name.startswith(".") and path.suffix != ".safetensors"
    )
    weights = [name for name in others if Path(name).suffix in _WEIGHT_SUFFIXES]
    if others:
        problems = tuple(f"{name} holds weights that the record does not know" for name in weights)
        yield Checked("other files", f"not recorded: {', '.join(others)}", problems)


def _lists_of_tensors(recorded: Recorded) -> Iterator[tuple[str, Sequence[str]]]:
    for number, group in enumerate(recorded.soup.coefficients.groups or ()):
        yield f"coefficients.groups[{number}]", group


def _check_blend(root: Path, recorded: Recorded) -> Checked:
    try:
        only = recorded.output.only or None
        with opened(recorded.soup.ingredients, only=only) as checkpoints, open_checkpoint(root) as written:
            problems = tuple(_blend_problems(checkpoints, written, recorded))
            n = len(written.specs)
    except (CheckpointError, BlendError) as error:
        return Checked("blend", "", ("; ".join([error.message, *error.problems]),))
    return Checked("blend", f"{_count(n, 'tensor')}, equal to the bit", problems)


def _blend_problems(
    checkpoints: Sequence[OpenedCheckpoint], written: OpenedCheckpoint, recorded: Recorded
) -> Iterator[str]:
    options = recorded.options()
    only = options.only or None
    specs = blended_specs(checkpoints, dtype=options.dtype, only=only)
    differences = [*_differences(specs, written.specs), *_differences(checkpoints[0].tied, written.tied)]
    yield from differences
    if differences:
        return
    labels = [ingredient.name for ingredient in recorded.soup.ingredients]
    chunks = blend(checkpoints, recorded.soup.coefficients, dtype=options.dtype, only=only, labels=labels)
    told: set[str] = set()
    for chunk in chunks:
        known = chunk.name in told or chunk.name in (recorded.output.recalibrated or ())
        position = None if known else _first_difference(chunk, written)
        if position is not None:
            told.add(chunk.name)
            yield f"{chunk.name} is not the blend of the ingredients, first at flat index {position}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' if n > 1 else ''}"


def _differences(blended: Mapping[str, object], written: Mapping[str, object]) -> Iterator[str]:
    """Of specs or of ties, by tensor."""
    for name in dict.fromkeys((*blended, *written)):
        if blended.get(name) != written.get(name):
            yield f"{name} is {written.get(name, 'missing')} there, but {blended.get(name, 'missing')} in the blend"


def _first_difference(chunk: Chunk, written: OpenedCheckpoint) -> int | None:
    """Flat index in the tensor of the first element that differs."""
    expected = np.frombuffer(chunk.data, np.uint8)
    found = np.empty_like(expected)
    written.read_into(chunk.name, found.data, chunk.start)
    if np.array_equal(found, expected):
        return None
    byte = int(np.argmax(found != expected))
    return (chunk.start + byte) // ITEM_BYTES[chunk.spec.dtype]
