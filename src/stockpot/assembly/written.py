"""A soup as a checkpoint directory: blended from scratch, loadable, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from stockpot._cores import available_cores
from stockpot.assembly.opening import opened
from stockpot.assembly.tensors import require_weights
from stockpot.checkpoints import (
    OpenedCheckpoint,
    compare_side_files,
    copy_side_files,
    digest_of,
    header_digest,
    modified_ns,
    open_checkpoint,
    parse_size,
    size_of,
    write_checkpoint,
)
from stockpot.kernel import Chunk, blend, blended_specs, parse_dtype
from stockpot.outputs import whole_folder
from stockpot.records import Fingerprint, Output, WrittenFile, write_soup
from stockpot.types import ITEM_BYTES, Ingredient, Soup, TensorSpec

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "OutputOptions",
    "Written",
    "fingerprint_of",
    "ingredient_digest",
    "with_digests",
    "write",
    "write_folder",
    "written_file",
]


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How a soup is written.

    Args:
        dtype: output dtype of the blended tensors ("bf16", "fp32", ...); None keeps the stored one.
        only: name patterns of the tensors to blend; the others come from the first ingredient. Empty: all.
        max_shard_size: bytes, or "5GB"; a larger soup is written in shards.
        force: replace an output folder that is not empty.
    """

    dtype: str | None = None
    only: tuple[str, ...] = ()
    max_shard_size: str | int = "5GB"
    force: bool = False


#: More wait for each other: a disk or its cache is not faster for it.
_MOST_THREADS = 4
#: The last step of writing a folder: it, what the record says of its files, and one fingerprint per ingredient.
Finish: TypeAlias = Callable[[Path, Output, Sequence[Fingerprint]], None]


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, and what is worth saying about it."""

    folder: Path
    files: tuple[str, ...]
    notes: tuple[str, ...]


def write(
    soup: Soup,
    folder: str | Path,
    options: OutputOptions | None = None,
    *,
    card: Callable[[Soup], str] | None = None,
    recorded_at: Path | None = None,
    remarks: Sequence[str] = (),
    statistics: Mapping[str, npt.NDArray[Any]] | None = None,
) -> Written:
    """Writes a soup as a loadable checkpoint directory with its `soup.json`.

    The tensors are blended from scratch and streamed; configuration and tokenizer files come from the first ingredient.
    The folder appears whole or not at all.

    Args:
        soup: combine must be "weights".
        folder: where to; must not exist, or be empty, unless `options.force`.
        options: dtype, patterns, shard size.
        card: makes the folder's README.md from the soup.
        recorded_at: the folder that relative sources in soup.json start from, where the caller moves the files on.
        remarks: on how the soup came about, for soup.json.
        statistics: values to write instead of blended ones, by tensor: running means and variances made anew.

    Returns:
        The files written and notes: unwrapped state dicts, side files and integer tensors that differ.

    Raises:
        BlendError, CheckpointError, OutputError: nothing is left behind.

    Source: Wortsman et al. 2022.

    Example:
        >>> import tempfile, pathlib, numpy, safetensors.numpy
        >>> from stockpot import ingredients, uniform, write
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name, value in (("a", 1.0), ("b", 2.0)):
        ...     safetensors.numpy.save_file({"w": numpy.full(2, value)}, folder / f"{name}.safetensors")
        >>> write(uniform(ingredients(folder / "*.safetensors")), folder / "soup").files
        ('model.safetensors',)
    """

    def finish(partial: Path, output: Output, fingerprints: Sequence[Fingerprint]) -> None:
        if card is not None:
            (partial / "README.md").write_text(card(soup), encoding="utf-8")
        final = recorded_at or Path(folder)
        write_soup(soup, partial, output=output, fingerprints=fingerprints, final_folder=final, notes=remarks)

    return write_folder(soup, Path(folder), options or OutputOptions(), finish, statistics=statistics or {})


def write_folder(
    soup: Soup,
    folder: Path,
    options: OutputOptions,
    finish: Finish,
    *,
    side_names: Collection[str] | None = None,
    digests: bool = False,
    statistics: Mapping[str, npt.NDArray[Any]] = MappingProxyType({}),
) -> Written:
    """`write` without its last step, which `finish` takes: what it raises leaves nothing behind.

    Args:
        soup, folder, options: as for `write`.
        finish: gets the finished temporary folder, what the record says of it, and the ingredients' fingerprints.
        side_names: the side files to take from the first ingredient; None: all.
        digests: takes those of the output even where the ingredients have none.
        statistics: as for `write`.
    """
    require_weights(soup)
    dtype = parse_dtype(options.dtype) if options.dtype is not None else None
    only = options.only or None
    labels = [ingredient.name for ingredient in soup.ingredients]
    takes_digests = digests or all(member.digest is not None for member in soup.ingredients)
    plan = _Plan(soup, options, dtype, parse_size(options.max_shard_size), takes_digests, tuple(statistics))
    differing: dict[str, list[str]] = {}
    with opened(soup.ingredients, only=only) as checkpoints:
        specs = blended_specs(checkpoints, dtype=dtype, only=only)
        chunks = blend(
            checkpoints,
            soup.coefficients,
            dtype=dtype,
            only=only,
            labels=labels,
            threads=_threads(),
            on_difference=lambda tensor, label: differing.setdefault(tensor, []).append(label),
        )
        donor = checkpoints[0]
        with whole_folder(folder, force=options.force, inputs=_inputs(checkpoints)) as partial:
            files = write_checkpoint(
                _with_statistics(chunks, statistics),
                partial,
                specs=specs,
                tied=donor.tied,
                max_shard_bytes=plan.max_shard_bytes,
                shown_as=folder,
            )
            side = copy_side_files(donor.folder, partial, names=side_names) if donor.folder is not None else ()
            notes = _notes(soup, checkpoints, differing)
            prints = [fingerprint_of(c) for c in checkpoints]
            finish(partial, plan.output(partial, files, side, differing), prints)
    return Written(folder, files, notes)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is known of the output before it is written."""

    soup: Soup
    options: OutputOptions
    dtype: str | None
    max_shard_bytes: int
    takes_digests: bool  # costs a read of every byte of the output
    recalibrated: tuple[str, ...] = ()

    def output(
        self, partial: Path, files: Sequence[str], side: Sequence[Path], differing: Mapping[str, Sequence[str]]
    ) -> Output:
        """All that a rebuild needs beside the soup itself."""
        with open_checkpoint(partial) as checkpoint:
            written_digest = header_digest(checkpoint)
        return Output(
            dtype=self.dtype,
            only=self.options.only,
            max_shard_size=self.max_shard_bytes,
            donor=self.soup.ingredients[0].name,
            files={name: written_file(partial / name, digest=self.takes_digests) for name in files},
            # Small files: their digest costs nothing.
            side_files={path.as_posix(): written_file(partial / path, digest=True) for path in sorted(side)},
            integer_differences={tensor: tuple(sorted(set(labels))) for tensor, labels in sorted(differing.items())},
            header_digest=written_digest,
            recalibrated=self.recalibrated or None,
        )


def _with_statistics(chunks: Iterator[Chunk], statistics: Mapping[str, npt.NDArray[Any]]) -> Iterator[Chunk]:
    """The chunks, with other values where there are any."""
    for chunk in chunks:
        if chunk.name not in statistics:
            yield chunk
            continue
        data = _stored(statistics[chunk.name], chunk.spec)
        yield replace(chunk, data=data[chunk.start : chunk.start + len(chunk.data)])


def _stored(values: npt.NDArray[Any], spec: TensorSpec) -> memoryview:
    """Values as the bytes of a tensor, rounded once where it is of a floating dtype."""
    import numpy as np

    from stockpot.kernel.codec import encode

    if not spec.is_float:
        return memoryview(np.ascontiguousarray(values, dtype=f"<i{ITEM_BYTES[spec.dtype]}").tobytes())
    out = np.empty(spec.nbytes, np.uint8)
    encode(np.ascontiguousarray(values, dtype=np.float64).ravel(), spec.dtype, out)
    return memoryview(out.tobytes())


def _threads() -> int:
    """That read and sum beside the one that writes; on one core they would only take turns."""
    cores = available_cores()
    return min(cores, _MOST_THREADS) if cores > 1 else 0


def with_digests(
    ingredients: Sequence[Ingredient], *, memory: MutableMapping[str, str] | None = None
) -> tuple[Ingredient, ...]:
    """The same ingredients with the SHA-256 of their weight files; digests already known are kept.

    Args:
        ingredients: in order.
        memory: remembers digests by path, size and modification time; None reads every byte.

    Raises:
        CheckpointError: a source cannot be opened.
    """
    return tuple(
        ingredient if ingredient.digest is not None else replace(ingredient, digest=_digest(ingredient, memory))
        for ingredient in ingredients
    )


def _digest(ingredient: Ingredient, memory: MutableMapping[str, str] | None) -> str:
    with open_checkpoint(ingredient.source, key=ingredient.key) as checkpoint:
        return ingredient_digest(checkpoint.weight_files, ingredient.key, memory=memory)


def ingredient_digest(
    weight_files: Sequence[Path], key: str | None, *, memory: MutableMapping[str, str] | None = None
) -> str:
    """SHA-256 of an ingredient's weight files, and the key: two state dicts of one file are two ingredients."""
    digest = digest_of(weight_files, memory=memory)
    return digest if key is None else f"{digest}#{key}"


def written_file(path: Path, *, digest: bool) -> WrittenFile:
    """What a record says of a file.

    Raises:
        CheckpointError: it cannot be read.
    """
    return WrittenFile(size_of([path]), digest_of([path]) if digest else None)


def fingerprint_of(checkpoint: OpenedCheckpoint) -> Fingerprint:
    """What is known of a checkpoint without reading its values.

    Raises:
        CheckpointError: a file is missing.
    """
    files = checkpoint.weight_files
    return Fingerprint(size_of(files), header_digest(checkpoint), modified_ns(files))


def _inputs(checkpoints: Sequence[OpenedCheckpoint]) -> list[Path]:
    return [path for checkpoint in checkpoints for path in checkpoint.weight_files]


def _notes(
    soup: Soup, checkpoints: Sequence[OpenedCheckpoint], differing: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    notes = [
        f"{ingredient.name}: {note}"
        for ingredient, checkpoint in zip(soup.ingredients, checkpoints, strict=True)
        for note in checkpoint.notes
    ]
    with_folder = [
        (checkpoint.folder, ingredient.name)
        for ingredient, checkpoint in zip(soup.ingredients, checkpoints, strict=True)
        if checkpoint.folder is not None
    ]
    if checkpoints[0].folder is not None:
        folders, labels = zip(*with_folder, strict=True)
        notes += compare_side_files(folders, labels=labels)
    donor = soup.ingredients[0].name
    notes += [
        f"{tensor}: not a floating tensor; taken from {donor!r}, differs in {', '.join(sorted(set(labels)))}"
        for tensor, labels in differing.items()
    ]
    return tuple(dict.fromkeys(notes))
