"""A soup's folder against its record: what is there, what it says, and whether its tensors are the blend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from stockpot.assembly.opened import opened
from stockpot.assembly.recorded import Checked, Recorded, check_file, check_ingredients, read_recorded
from stockpot.checkpoints import OpenedCheckpoint, header_digest, open_checkpoint
from stockpot.errors import BlendError, CheckpointError
from stockpot.kernel import Chunk, blend, blended_specs
from stockpot.records import SCHEMA, PathLike
from stockpot.types import ITEM_BYTES, TensorSpec

__all__ = ["verify"]


def verify(folder: PathLike, *, ingredients: bool = False, tensors: bool = False) -> tuple[str, ...]:
    """Checks a soup's folder against its soup.json; nothing is written.

    Weight files, index and side files are compared by SHA-256 where it was recorded (all bytes are read, none is
    remembered), else by size; names, dtypes, shapes and ties of the tensors by their digest.

    Args:
        folder: of the soup, or its soup.json.
        ingredients: compare the ingredients with the record too.
        tensors: blend the ingredients again, in constant memory, and compare every tensor to the bit: sees a changed
            value also where no digests were recorded.

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
    files = {**recorded.output.files, **recorded.output.side_files}
    checks = [
        Checked("soup.json", f"schema {SCHEMA} or older, {recorded.soup.recipe}, {_n(recorded, 'ingredient')}"),
        *(check_file(root / name, name, file) for name, file in files.items()),
        _check_layout(root, recorded),
        *(check_ingredients(recorded) if ingredients else ()),
        *([_check_blend(root, recorded)] if tensors else ()),
    ]
    problems = [line for check in checks for line in check.lines()]
    if problems:
        raise CheckpointError(
            f"{root} is not what its record says",
            problems=problems,
            fix=f"write it again from its ingredients: stockpot rebuild {root} -o another-folder",
        )
    return tuple(f"{check.name}: {check.result}" for check in checks)


def _n(recorded: Recorded, what: str) -> str:
    n = len(recorded.soup.ingredients)
    return f"{n} {what}{'s' if n > 1 else ''}"


def _check_layout(root: Path, recorded: Recorded) -> Checked:
    """Headers and index, both ways, and whether the record speaks of the tensors that are there."""
    try:
        with open_checkpoint(root) as checkpoint:
            problems = tuple(_layout_problems(checkpoint, recorded))
            n = len(checkpoint.specs)
    except CheckpointError as error:
        return Checked("tensors", "", (error.message, *error.problems))
    known = "names, dtypes and shapes as recorded" if recorded.output.header_digest else "in order; none were recorded"
    return Checked("tensors", f"{_count(n)}, {known}", problems)


def _layout_problems(checkpoint: OpenedCheckpoint, recorded: Recorded) -> Iterator[str]:
    output = recorded.output
    if output.header_digest not in (None, header_digest(checkpoint)):
        yield "their names, dtypes, shapes or ties are not the recorded ones"
    names = {*checkpoint.specs, *checkpoint.tied}
    groups = recorded.soup.coefficients.groups or ()
    for key, listed in (
        *((f"coefficients.groups[{n}]", group) for n, group in enumerate(groups)),
        ("fold", output.fold),
    ):
        yield from (f"{key} names {name!r}, which is not there" for name in listed or () if name not in names)
    read = {path.name for path in checkpoint.weight_files}
    there = {path.name for path in recorded.file.parent.glob("*.safetensors")}
    yield from (f"{name} is there, but not recorded" for name in sorted((read | there) - output.files.keys()))


def _check_blend(root: Path, recorded: Recorded) -> Checked:
    options = recorded.options()
    try:
        with opened(recorded.soup.ingredients) as checkpoints, open_checkpoint(root) as written:
            specs = blended_specs(checkpoints, dtype=options.dtype, only=options.only or None)
            problems = list(_spec_differences(specs, written.specs))
            chunks = blend(
                checkpoints,
                recorded.soup.coefficients,
                dtype=options.dtype,
                only=options.only or None,
                labels=[ingredient.name for ingredient in recorded.soup.ingredients],
            )
            if not problems:
                first_by_name: dict[str, int] = {}
                for chunk in chunks:
                    position = _first_difference(chunk, written)
                    if position is not None:
                        first_by_name.setdefault(chunk.name, position)
                problems = [f"{name} is not the blend, first at flat index {n}" for name, n in first_by_name.items()]
    except (CheckpointError, BlendError) as error:
        return Checked("blend", "", ("; ".join([error.message, *error.problems]),))
    return Checked("blend", f"{_count(len(specs))}, equal to the bit", tuple(problems))


def _count(n: int) -> str:
    return f"{n} tensor{'s' if n > 1 else ''}"


def _spec_differences(blended: Mapping[str, TensorSpec], written: Mapping[str, TensorSpec]) -> Iterator[str]:
    for name in dict.fromkeys((*blended, *written)):
        if blended.get(name) != written.get(name):
            yield f"{name} is {written.get(name, 'missing')} there, but {blended.get(name, 'missing')} in the blend"


def _first_difference(chunk: Chunk, written: OpenedCheckpoint) -> int | None:
    """Flat index in the tensor of the first element that differs."""
    expected = np.frombuffer(chunk.data, np.uint8)
    found = np.empty_like(expected)
    written.read_into(chunk.name, memoryview(found), chunk.start)
    if np.array_equal(found, expected):
        return None
    byte = int(np.argmax(found != expected))
    return (chunk.start + byte) // ITEM_BYTES[chunk.spec.dtype]
