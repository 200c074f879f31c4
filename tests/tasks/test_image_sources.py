"""The same pictures in every layout are the same items; damaged sources are refused with what is wrong."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stockpot.errors import DataError
from stockpot.tasks.image_sources import Labelled, read_items
from tiny_images import CLASSES, tiny_image_folder, tiny_pictures


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pixels_of(raw) -> np.ndarray:
    return raw if isinstance(raw, np.ndarray) else np.asarray(Image.open(io.BytesIO(raw)))


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as shard:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            shard.addfile(info, io.BytesIO(content))
    return path


def tar_of(path: Path, pictures) -> Path:
    members = []
    for number, (pixels, label) in enumerate(pictures):
        members.append((f"a/{number:03}.png", png(pixels)))
        if number % 2:
            members.append((f"a/{number:03}.cls", str(label).encode()))
        else:
            members.append((f"a/{number:03}.json", json.dumps({"label": label}).encode()))
    return write_tar(path, members)


def table_of(path: Path, pictures) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [{"bytes": png(pixels), "path": None} for pixels, _ in pictures]
    table = pa.table({"image": images, "label": [label for _, label in pictures]})
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    return path


def idx(values: np.ndarray) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def idx_of(folder: Path, pictures, *, compress: bool) -> Path:
    ending = ".gz" if compress else ""
    pack = (lambda content: gzip.compress(content, mtime=0)) if compress else bytes
    labels = np.array([label for _, label in pictures], np.uint8)
    (folder / f"t10k-labels-idx1-ubyte{ending}").write_bytes(pack(idx(labels)))
    path = folder / f"t10k-images-idx4-ubyte{ending}"
    path.write_bytes(pack(idx(np.stack([pixels for pixels, _ in pictures]))))
    return path


LAYOUTS = {
    "tar": lambda folder, pictures: tar_of(folder / "a.tar", pictures),
    "parquet": lambda folder, pictures: table_of(folder / "a.parquet", pictures),
    "arrow": lambda folder, pictures: table_of(folder / "a.arrow", pictures),
    "idx": lambda folder, pictures: idx_of(folder, pictures, compress=False),
    "idx-gz": lambda folder, pictures: idx_of(folder, pictures, compress=True),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_pictures_in_order(layout, tmp_path) -> None:
    pictures = tiny_pictures(7)
    items = read_items(LAYOUTS[layout](tmp_path, pictures), Labelled(), name="source")
    assert len({item.name for item in items}) == 7
    for item, (pixels, label) in zip(items, pictures, strict=True):
        assert int(item.label) == label
        assert np.array_equal(pixels_of(item.load()), pixels)


def test_class_folders_are_sorted_by_name(tmp_path) -> None:
    tiny_image_folder(tmp_path, 6)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    items = read_items(tmp_path, Labelled(), name="photos")
    assert [item.label for item in items] == [name for name in CLASSES for _ in range(2)]
    assert [item.name for item in items] == sorted(item.name for item in items)
    assert np.array_equal(pixels_of(items[0].load()), tiny_pictures(6)[0][0])


def test_a_folder_of_shards_is_read_in_the_order_of_their_names(tmp_path) -> None:
    pictures = tiny_pictures(4)
    tar_of(tmp_path / "b.tar", pictures[2:])
    tar_of(tmp_path / "a.tar", pictures[:2])
    items = read_items(tmp_path, Labelled(), name="shards")
    assert [pixels_of(item.load()).sum() for item in items] == [pixels.sum() for pixels, _ in pictures]


def test_grey_idx_of_the_fashion_mnist_layout(tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pixels)))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.array([9, 0, 3], np.uint8))))
    items = read_items(tmp_path / "train-images-idx3-ubyte.gz", Labelled(), name="fashion")
    assert [item.label for item in items] == [9, 0, 3]
    assert np.array_equal(np.stack([item.load() for item in items]), pixels)


def _no_such(folder: Path) -> Path:
    return folder / "nothing"


def _stray(folder: Path) -> Path:
    (folder / "a.png").write_bytes(b"")
    return folder


def _empty(folder: Path) -> Path:
    return folder


def _damaged_tar(folder: Path) -> Path:
    (folder / "a.tar").write_bytes(b"no shard" * 100)
    return folder / "a.tar"


def _unlabelled(folder: Path) -> Path:
    return write_tar(folder / "a.tar", [("1.png", b""), ("2.cls", b"0")])


def _compressed(folder: Path) -> Path:
    (folder / "a.tar.gz").write_bytes(gzip.compress(b""))
    return folder / "a.tar.gz"


def _braces(folder: Path) -> Path:
    return folder / "{000..002}.tar"


def _twice(folder: Path) -> Path:
    return write_tar(folder / "a.tar", [("1.png", b""), ("1.cls", b"0"), ("1.png", b"")])


def _two_images(folder: Path) -> Path:
    return write_tar(folder / "a.tar", [("1.png", b""), ("1.jpg", b""), ("1.cls", b"0")])


def _short_idx(folder: Path) -> Path:
    path = idx_of(folder, tiny_pictures(3), compress=False)
    path.write_bytes(path.read_bytes()[:-1])
    return path


def _no_idx_labels(folder: Path) -> Path:
    path = idx_of(folder, tiny_pictures(3), compress=False)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    return path


def _damaged_parquet(folder: Path) -> Path:
    (folder / "a.parquet").write_bytes(b"PAR1 no table")
    return folder / "a.parquet"


@pytest.mark.parametrize(
    ("endings", "image", "taken"),
    [
        (("seg.png", "jpg"), "image", "jpg"), (("image.png",), "image", "image.png"),
        (("photo.jpg",), "image", "photo.jpg"), (("png", "jpg"), "png", "png"),
        (("seg.png", "image.png"), "image", "image.png"), (("a.png", "b.png"), "b", "b.png"),
    ],
)  # fmt: skip
def test_the_image_of_an_item_with_several_endings(endings, image, taken, tmp_path) -> None:
    members = [(f"1.{ending}", ending.encode()) for ending in endings]
    path = write_tar(tmp_path / "a.tar", [*members, ("1.cls", b"2")])
    (item,) = read_items(path, Labelled(image=image), name="shard")
    assert (item.load(), item.label) == (taken.encode(), "2")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_no_such, "no such file"), (_stray, "beside the class folders"), (_empty, "holds no images"),
        (_damaged_tar, "cannot be read"), (_unlabelled, "not one image and one label"), (_short_idx, "header says"),
        (_no_idx_labels, "no file of labels"), (_damaged_parquet, "cannot be read"),
        (_compressed, "unpack it"), (_braces, "braces are not expanded"), (_twice, "stands in it twice"),
        (_two_images, "more than one image among cls, jpg, png"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(make, words, tmp_path) -> None:
    with pytest.raises(DataError, match=words):
        read_items(make(tmp_path), Labelled(), name="source")


def test_missing_columns_are_named(tmp_path) -> None:
    path = table_of(tmp_path / "a.parquet", tiny_pictures(2))
    with pytest.raises(DataError, match="no column picture; there is image, label"):
        read_items(path, Labelled(image="picture"), name="table")


def test_folders_named_like_images_are_none_and_classes_without_images_are_told(tmp_path: Path) -> None:
    folder = tiny_image_folder(tmp_path / "photos", 6)
    n = len(read_items(folder, Labelled(), name="photos"))
    (folder / "cat" / "deep.png").mkdir()
    (folder / "cat" / "notes.txt").write_text("mine")
    assert len(read_items(folder, Labelled(), name="photos")) == n
    for name in ("emu", "yak"):
        (folder / name).mkdir()
        (folder / name / "1.heic").write_bytes(b"...")
    with pytest.raises(DataError, match="classes without an image") as failure:
        read_items(folder, Labelled(), name="photos")
    assert list(failure.value.problems) == ["emu: 1 files, '1.heic' first", "yak: 1 files, '1.heic' first"]


# ---------------------------------------------------------------------------------------------------- nothing is lost


def _cut_after_two_items(content: bytes) -> bytes:
    return content[: 4 * 1024]


def _damaged_in_the_middle(content: bytes) -> bytes:
    return content[: 4 * 1024] + b"\xff" * 512 + content[4 * 1024 + 512 :]


def _put_together(content: bytes) -> bytes:
    return content + content


@pytest.mark.parametrize("damage", [_cut_after_two_items, _damaged_in_the_middle, _put_together])
def test_a_shard_that_tarfile_would_read_in_part_is_refused(damage, tmp_path: Path) -> None:
    members = [(f"{number}.{ending}", b"1") for number in range(4) for ending in ("png", "cls")]
    shard = write_tar(tmp_path / "a.tar", members)
    assert len(read_items(shard, Labelled(), name="a.tar")) == 4
    shard.write_bytes(damage(shard.read_bytes()))
    with tarfile.open(shard) as opened:
        assert len(list(opened)) in (4, 8)
    with pytest.raises(DataError, match=r"cut off or damaged after \d.cls"):
        read_items(shard, Labelled(), name="a.tar")


def test_members_without_an_ending_belong_to_no_item(tmp_path: Path) -> None:
    shard = write_tar(
        tmp_path / "a.tar", [("LICENSE", b"free"), ("a/0.png", b"1"), ("a/0.cls", b"1"), ("a/README", b"")]
    )
    assert [item.name for item in read_items(shard, Labelled(), name="a.tar")] == ["a.tar/a/0"]


def test_files_that_tar_keeps_as_links_are_items_too(tmp_path: Path) -> None:
    for ending in ("png", "cls"):
        (tmp_path / f"0.{ending}").write_bytes(ending.encode())
        (tmp_path / f"1.{ending}").hardlink_to(tmp_path / f"0.{ending}")
    names = [f"{number}.{ending}" for number in range(2) for ending in ("png", "cls")]
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        for name in names:
            shard.add(tmp_path / name, arcname=name)
    items = read_items(tmp_path / "a.tar", Labelled(), name="a.tar")
    assert [(item.label, item.load()) for item in items] == [("cls", b"png")] * 2
    (tmp_path / "2.png").symlink_to("0.png")
    with tarfile.open(tmp_path / "b.tar", "w") as shard:
        for name in [*names, "2.png"]:
            shard.add(tmp_path / name, arcname=name)
    with pytest.raises(DataError) as failure:
        read_items(tmp_path / "b.tar", Labelled(), name="b.tar")
    assert failure.value.problems == ("2.png: a link to 0.png, which is no file before it",)


def test_links_in_class_folders_are_followed_and_those_that_lead_nowhere_told(tmp_path: Path) -> None:
    folder, elsewhere = tiny_image_folder(tmp_path / "photos", 6), tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("a.png", ".hidden.png", "Thumbs.db"):
        (elsewhere / name).write_bytes(b"...")
    cat = folder / "cat"
    (cat / "more").symlink_to(elsewhere)
    (cat / "circle").symlink_to(folder)
    names = [item.name for item in read_items(folder, Labelled(), name="photos")]
    assert [name for name in names if "/more/" in name or "/circle/" in name] == ["cat/more/a.png"]
    assert len(names) == 7
    (cat / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError) as failure:
        read_items(folder, Labelled(), name="photos")
    assert failure.value.problems == ("cat/gone.png",)


def test_a_folder_for_each_set_holds_no_classes(tmp_path: Path) -> None:
    for folder in ("train", "validation"):
        tiny_image_folder(tmp_path / "photos" / folder, 3)
    with pytest.raises(DataError, match="a folder for each set: train, validation") as failure:
        read_items(tmp_path / "photos", Labelled(), name="photos/")
    assert failure.value.fix == "name one of them: photos/train"
    (tmp_path / "photos" / "validation").rename(tmp_path / "photos" / "bus")
    assert {item.label for item in read_items(tmp_path / "photos", Labelled(), name="photos")} == {"train", "bus"}


def test_parquet_is_read_one_row_group_at_a_time(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"image": [bytes([row]) * 9 for row in range(50)], "label": [row % 3 for row in range(50)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=4, use_dictionary=False)
    items = read_items(tmp_path / "a.parquet", Labelled(), name="a.parquet")
    for row in (0, 49, 3, 4, 48, 17, *range(50)):
        assert (items[row].load(), items[row].label) == (bytes([row]) * 9, row % 3)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    start = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0).column(0).data_page_offset
    content[start : start + 20] = b"\xff" * 20  # the description at the end is whole
    (tmp_path / "b.parquet").write_bytes(content)
    items = read_items(tmp_path / "b.parquet", Labelled(), name="b.parquet")
    with pytest.raises(DataError, match=r"b.parquet: cannot be read"):
        items[0].load()


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_images_that_a_table_only_names_are_read_from_there(ending: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "photos").mkdir()
    file = tmp_path / "photos" / "0.png"
    file.write_bytes(b"old")
    images = [
        {"bytes": None, "path": str(file)}, {"bytes": None, "path": "photos/0.png"},
        {"bytes": b"inside", "path": "photos/0.png"}, {"bytes": b"inside", "path": "elsewhere.png"},
        {"bytes": None, "path": "gone.png"},
    ]  # fmt: skip
    table, path = pa.table({"image": images, "label": list(range(5))}), tmp_path / f"a.{ending}"
    if ending == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_stream(str(path), table.schema) as writer:
            writer.write_table(table)
    before = read_items(path, Labelled(), name=path.name)
    assert [item.load() for item in before[:4]] == [b"old", b"old", b"inside", b"inside"]
    with pytest.raises(DataError, match=r"row 5: the image is no bytes, and there is no file gone\.png"):
        before[4].load()
    file.write_bytes(b"newer")
    after = read_items(path, Labelled(), name=path.name)
    assert [old.stamp == new.stamp for old, new in zip(before, after, strict=True)][:2] == [False, False]
    assert [item.load() for item in after[:2]] == [b"newer", b"newer"]
