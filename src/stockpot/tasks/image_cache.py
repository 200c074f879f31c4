"""Decoded and preprocessed images on disk: made once, memory-mapped ever after, never more than was allowed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stockpot._cores import available_cores
from stockpot.errors import ConfigError, DataError, OutputError
from stockpot.outputs.partial import remove, sibling, sweep_stale
from stockpot.tasks.image_sources import ImageItem
from stockpot.tasks.tables import together

__all__ = ["ImageCache", "bytes_kept"]

#: numpy pads the header of a file to a multiple of 64; the shapes of images need no more than this.
_HEADER_BYTES = 128


def bytes_kept(n: int, n_bytes: int) -> int:
    """What the cache takes for n images of so many bytes each.

    Example:
        >>> bytes_kept(10_000, 3 * 224 * 224)
        1505280128
    """
    return _HEADER_BYTES + n * n_bytes


_ATTEMPTS = 5


class ImageCache:
    """A folder of .npy files, one per split and preprocessing, and of the digests of the images' contents.

    Args:
        folder: made when first needed.
        limit_bytes: what the .npy files may take together.
    """

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes

    def digests(self, items: Sequence[ImageItem]) -> list[str]:
        """SHA-256 of each item's content; remembered while names, sizes and times of the files stay.

        Raises:
            OutputError: the folder cannot be written.
        """
        key = hashlib.sha256("\n".join(f"{item.name} {item.stamp}" for item in items).encode()).hexdigest()
        path = self.folder / f"digests-{key[:32]}.json"
        try:
            known: list[str] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = []
        if len(known) == len(items):
            return known
        with ThreadPoolExecutor(available_cores()) as pool:
            made = list(pool.map(_digest, items))
        self._write(path, lambda file: file.write(json.dumps(made).encode()))
        return made

    def pixels(
        self,
        key: str,
        n: int,
        make: Callable[[int], np.ndarray[Any, Any]],
        *,
        name_of: Callable[[int], str] = lambda number: f"image {number + 1}",
    ) -> np.ndarray[Any, Any]:
        """[n, channels, height, width], read-only: from the disk, or made one by one and kept there.

        Args:
            key: says everything that the pixels depend on.
            n: how many.
            make: the pixels of one image by its number; called from several threads.
            name_of: what to call an image in errors.

        Raises:
            DataError: images that cannot be made, or come out in another size than the first; all are named.
            ConfigError: these images alone are more than the cache may hold.
            OutputError: the folder cannot be written.
        """
        path = self._path(key)
        for _ in range(_ATTEMPTS):
            if (kept := _mapped(path, n)) is not None:
                with suppress(OSError):  # the least recently used go first; a folder may be there to be read alone
                    os.utime(path)
                return kept
            self._make(path, n, make, name_of)
        raise OutputError(
            f"{self.folder}: what is made is removed again by other processes that need its room",
            fix="raise `cache_gib` under `data`, or name another `cache` folder",
        )

    def holds(self, key: str, n: int) -> bool:
        """Whether the pixels of a key are there, whole."""
        return _mapped(self._path(key), n) is not None

    def _path(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"

    def _make(
        self, path: Path, n: int, make: Callable[[int], np.ndarray[Any, Any]], name_of: Callable[[int], str]
    ) -> None:
        first, failures = None, list[DataError]()
        for number in range(n):
            made = _attempted(make, number)
            if isinstance(made, np.ndarray):
                first = made
                break
            failures.append(made)
        if first is None:
            raise together(failures, f"none of {n} images can be taken")
        self._make_room(bytes_kept(n, first.nbytes))
        alike = partial(_alike, make, first.shape, name_of)
        header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False}

        def write(file: Any) -> None:
            np.lib.format.write_array_header_2_0(file, {**header, "shape": (n, *first.shape)})
            chunk = 64 * available_cores()
            failures.clear()
            with ThreadPoolExecutor(available_cores()) as pool:
                for start in range(0, n, chunk):  # in chunks, so that finished images do not pile up
                    for made in pool.map(partial(_attempted, alike), range(start, min(start + chunk, n))):
                        if isinstance(made, DataError):
                            failures.append(made)
                        elif not failures:
                            file.write(np.ascontiguousarray(made, dtype=first.dtype).tobytes())
            if failures:
                raise together(failures, f"{len(failures)} images cannot be taken")

        self._write(path, write)

    def _make_room(self, n_bytes: int) -> None:
        if n_bytes > self.limit_bytes:
            raise ConfigError(
                f"the decoded images of one split take {n_bytes / 2**30:.3f} GiB, "
                f"but the cache may hold {self.limit_bytes / 2**30:.3f}",
                fix="raise `cache_gib` under `data`, or take fewer images",
            )
        sweep_stale(self.folder)  # what a killed process left unfinished
        files = [(stat.st_mtime_ns, stat.st_size, file) for file in self._entries() if (stat := _stat(file))]
        total = sum(size for _, size, _ in files)
        for _, size, file in sorted(files):
            if total + n_bytes <= self.limit_bytes:
                break
            if file.suffix == ".npy":
                with suppress(OSError):  # who has it mapped keeps it
                    file.unlink(missing_ok=True)
                    total -= size

    def _entries(self) -> list[Path]:
        """Pixels, and what other processes are writing."""
        return [*self.folder.glob("*.npy"), *self.folder.glob(".*.npy.partial-*")]

    def _write(self, path: Path, write: Callable[[Any], object]) -> None:
        """Whole or not at all, also where two processes write the same."""
        temporary = sibling(path, "partial")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                write(file)
            temporary.replace(path)
        except OSError as exc:
            fix = "name another `cache` folder under `data`, or make room"
            raise OutputError(f"{self.folder}: cannot be written: {exc}", fix=fix) from exc
        finally:
            remove(temporary)


def _stat(file: Path) -> os.stat_result | None:
    """None where another process has removed it meanwhile."""
    try:
        return file.stat()
    except OSError:
        return None


def _mapped(path: Path, n: int) -> np.ndarray[Any, Any] | None:
    """The pixels of a file; None where it is not there, or cut short or overwritten by something else."""
    try:
        kept: np.memmap[Any, Any] = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    is_whole = kept.ndim == 4 and len(kept) == n and path.stat().st_size == kept.offset + kept.nbytes
    return kept if is_whole else None


def _attempted(make: Callable[[int], np.ndarray[Any, Any]], number: int) -> np.ndarray[Any, Any] | DataError:
    """An image's pixels, or what is wrong with it: all problems are told at once."""
    try:
        return make(number)
    except DataError as exc:
        return exc


def _alike(
    make: Callable[[int], np.ndarray[Any, Any]], shape: tuple[int, ...], name_of: Callable[[int], str], number: int
) -> np.ndarray[Any, Any]:
    """An image's pixels, which have the shape of all others: the file has no place for larger or smaller ones."""
    made = make(number)
    if made.shape == shape:
        return made
    height, width = made.shape[-2:]
    raise DataError(
        f"{name_of(number)}: {width} x {height} pixels after the model's preprocessing, which crops to no one size: "
        f"the first image has {shape[-1]} x {shape[-2]}",
        fix="let the model's preprocessing resize and crop all images to one size (do_resize, do_center_crop)",
    )


def _digest(item: ImageItem) -> str:
    raw = item.load()
    if isinstance(raw, bytes):
        return hashlib.sha256(raw).hexdigest()
    return hashlib.sha256(repr(raw.shape).encode() + raw.tobytes()).hexdigest()
