"""A soup as a checkpoint directory: blended from scratch, loadable, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stockpot.assembly.opened import opened
from stockpot.assembly.tensors import require_weights
from stockpot.checkpoints import (
    OpenedCheckpoint,
    compare_side_files,
    copy_side_files,
    digest_of,
    header_digest,
    open_checkpoint,
    parse_size,
    size_of,
    write_checkpoint,
)
from stockpot.kernel import blend, blended_specs, parse_dtype
from stockpot.outputs import whole_folder
from stockpot.records import Fingerprint, write_soup
from stockpot.types import Ingredient, Soup

__all__ = ["OutputOptions", "Written", "with_digests", "write"]


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
    require_weights(soup)
    options = options or OutputOptions()
    dtype = parse_dtype(options.dtype) if options.dtype is not None else None
    max_shard_bytes = parse_size(options.max_shard_size)
    labels = [ingredient.name for ingredient in soup.ingredients]
    with opened(soup.ingredients) as checkpoints:
        specs = blended_specs(checkpoints, dtype=dtype, only=options.only or None)
        differing: dict[str, list[str]] = {}
        with whole_folder(folder, force=options.force, inputs=_inputs(checkpoints)) as partial:
            donor = checkpoints[0]
            chunks = blend(
                checkpoints,
                soup.coefficients,
                dtype=dtype,
                only=options.only or None,
                labels=labels,
                on_difference=lambda tensor, label: differing.setdefault(tensor, []).append(label),
            )
            files = write_checkpoint(
                chunks, partial, specs=specs, tied=donor.tied, max_shard_bytes=max_shard_bytes, shown_as=Path(folder)
            )
            side = copy_side_files(donor.folder, partial) if donor.folder is not None else ()
            if card is not None:
                (partial / "README.md").write_text(card(soup), encoding="utf-8")
            record = _output_record(partial, files, side, soup, options, dtype, differing)
            write_soup(
                soup,
                partial,
                output=record,
                fingerprints=[Fingerprint(size_of(c.weight_files), header_digest(c)) for c in checkpoints],
                final_folder=recorded_at or Path(folder),
            )
        return Written(Path(folder), tuple(files), _notes(soup, checkpoints, differing))


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
        digest = digest_of(checkpoint.weight_files, memory=memory)
    # Two state dicts of one file are two ingredients.
    return digest if ingredient.key is None else f"{digest}#{ingredient.key}"


def _inputs(checkpoints: Sequence[OpenedCheckpoint]) -> list[Path]:
    return [path for checkpoint in checkpoints for path in checkpoint.weight_files]


def _output_record(
    partial: Path,
    files: Sequence[str],
    side: Sequence[Path],
    soup: Soup,
    options: OutputOptions,
    dtype: str | None,
    differing: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """All that a rebuild needs beside the soup itself."""
    # Digests of the output cost a read of every byte: taken where those of the ingredients were.
    wants_digests = all(ingredient.digest is not None for ingredient in soup.ingredients)
    weights = [name for name in files if name.endswith(".safetensors")]
    return {
        "dtype": dtype,
        "only": list(options.only),
        "max_shard_size": options.max_shard_size,
        "donor": soup.ingredients[0].name,
        "files": {name: digest_of([partial / name]) if wants_digests else None for name in weights},
        "side_files": sorted(path.as_posix() for path in side),
        "integer_differences": {tensor: sorted(set(labels)) for tensor, labels in sorted(differing.items())},
    }


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
