"""Made once, bounded, whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stockpot.errors import ConfigError, DataError, OutputError
from stockpot.outputs.partial import sibling
from stockpot.tasks.image_cache import ImageCache
from stockpot.tasks.image_sources import Labelled, read_items
from tiny_images import tiny_image_folder


def filled(value: int):
    return lambda row: np.full((3, 4, 4), (value + row) % 256, np.uint8)


def test_pixels_are_made_once_and_kept_in_order(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "new", limit_bytes=10**6)
    made = cache.pixels("a", 300, filled(0))
    assert made.shape == (300, 3, 4, 4)
    assert made[:, 0, 0, 0].tolist() == [number % 256 for number in range(256)] + list(range(44))
    assert np.array_equal(cache.pixels("a", 300, lambda row: pytest.fail("made again")), made)
    assert not isinstance(made, np.ndarray) or not made.flags.writeable


@pytest.mark.parametrize("left", [0, 3, 60, 128, 500])
def test_a_file_that_was_cut_short_is_made_anew(tmp_path: Path, left: int) -> None:
    cache = ImageCache(tmp_path, limit_bytes=10**6)
    made = np.array(cache.pixels("a", 20, filled(0)))
    (file,) = tmp_path.glob("*.npy")
    content = file.read_bytes()
    file.unlink()  # what is mapped keeps its pages
    file.write_bytes(content[:left])
    assert not cache.holds("a", 20)
    assert np.array_equal(cache.pixels("a", 20, filled(0)), made)
    assert cache.holds("a", 20)


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, limit_bytes=1400)
    old = cache.pixels("old", 10, filled(1))
    cache.pixels("newer", 10, filled(2))
    for file in tmp_path.glob("*.npy"):  # as if both were used long ago, "old" most recently
        age = 5 if np.load(file)[0, 0, 0, 0] == 1 else 9
        os.utime(file, (10**9 - age, 10**9 - age))
    cache.pixels("newest", 10, filled(3))
    kept = {int(np.load(file)[0, 0, 0, 0]) for file in tmp_path.glob("*.npy")}
    assert kept == {1, 3}
    assert old[0, 0, 0, 0] == 1
    with pytest.raises(ConfigError, match="cache_gib"):
        cache.pixels("large", 30, filled(4))


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(row: int) -> np.ndarray:
        if row:
            raise ValueError("second image")
        return np.zeros((3, 4, 4), np.uint8)

    with pytest.raises(ValueError, match="second image"):
        ImageCache(tmp_path, limit_bytes=10**6).pixels("a", 2, fail)
    assert list(tmp_path.iterdir()) == []


def test_digests_follow_the_files(tmp_path: Path) -> None:
    folder, cache = tiny_image_folder(tmp_path / "photos", 6), ImageCache(tmp_path / "cache", limit_bytes=1)
    before = cache.digests(read_items(folder, Labelled(), name="photos"))
    assert len(set(before)) == 6
    file = folder / "cat" / "000.png"
    file.write_bytes(file.read_bytes() + b"\0")
    after = cache.digests(read_items(folder, Labelled(), name="photos"))
    assert (after[0] != before[0], after[1:]) == (True, before[1:])


def test_equal_names_sizes_and_times_in_another_folder_are_other_images(tmp_path: Path) -> None:
    cache, found = ImageCache(tmp_path / "cache", limit_bytes=1), []
    for number in (1, 2):
        file = tmp_path / f"set-{number}" / "cat" / "0.bmp"
        file.parent.mkdir(parents=True)
        file.write_bytes(bytes([number]) * 50)
        os.utime(file, (0, 0))
        found += cache.digests(read_items(file.parents[1], Labelled(), name="photos"))
    assert len(set(found)) == 2


def test_all_images_that_cannot_be_taken_are_named_at_once(tmp_path: Path) -> None:
    def make(row: int) -> np.ndarray:
        if row in (0, 3, 200):
            raise DataError(f"image {row} is damaged")
        return np.zeros((3, 4, 4), np.uint8)

    cache = ImageCache(tmp_path, limit_bytes=10**6)
    with pytest.raises(DataError, match="3 images") as failure:
        cache.pixels("a", 300, make)
    assert list(failure.value.problems) == [f"image {row} is damaged" for row in (0, 3, 200)]
    with pytest.raises(DataError, match="image 3 is damaged"):
        cache.pixels("b", 5, lambda row: make(row or 1))
    with pytest.raises(DataError, match="image 0 is damaged"):
        cache.pixels("c", 1, make)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_others_write_counts(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    ours = sibling(tmp_path / "other.npy", "partial")
    left = ours.with_name(ours.name.replace(f"-{os.getpid()}-", f"-{ended.pid}-"))
    for file in (ours, left):
        file.write_bytes(b"\0" * 700)
    cache = ImageCache(tmp_path, limit_bytes=2000)
    cache.pixels("a", 10, filled(0))
    assert (ours.exists(), left.exists()) == (True, False)
    cache.pixels("b", 20, filled(0))
    assert len(list(tmp_path.glob("*.npy"))) == 1  # 700 + 608 + 1088 is more than 2000


def test_a_folder_that_may_only_be_read_gives_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ImageCache(tmp_path, limit_bytes=10**6)
    made = np.array(cache.pixels("a", 10, filled(0)))
    assert next(tmp_path.glob("*.npy")).stat().st_mode & 0o777 == 0o666 & ~_umask()  # colleagues may read it

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("utime", "unlink"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(Path, "open", refuse)
    assert np.array_equal(cache.pixels("a", 10, lambda row: pytest.fail("made again")), made)
    with pytest.raises(OutputError, match="cannot be written"):
        cache.pixels("b", 10, filled(0))


def _umask() -> int:
    now = os.umask(0o022)
    os.umask(now)
    return now


def test_another_process_may_remove_what_was_just_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, make, n_made = ImageCache(tmp_path, limit_bytes=10**6), ImageCache._make, 0

    def removed_at_first(self: ImageCache, path: Path, *rest: Any) -> None:
        nonlocal n_made
        n_made += 1
        make(self, path, *rest)
        if n_made <= limit:
            path.unlink()

    monkeypatch.setattr(ImageCache, "_make", removed_at_first)
    limit = 2
    assert cache.pixels("a", 10, filled(0)).shape == (10, 3, 4, 4)
    assert n_made == 3
    limit = 100
    with pytest.raises(OutputError, match="removed again by other processes"):
        cache.pixels("b", 10, filled(0))


def test_images_that_come_out_in_another_size_are_named(tmp_path: Path) -> None:
    def make(row: int) -> np.ndarray:
        return np.zeros((3, 2, 2 + (row in (3, 70))), dtype=np.uint8)

    cache = ImageCache(tmp_path, limit_bytes=10**6)
    with pytest.raises(DataError, match="2 images cannot be taken") as caught:
        cache.pixels("a", 100, make, name_of=lambda row: f"photo {row}")
    assert [problem.partition(" pixels")[0] for problem in caught.value.problems] == [
        "photo 3: 3 x 2",
        "photo 70: 3 x 2",
    ]
    assert not cache.holds("a", 100)
