"""`stockpot rebuild`: what it prints, how it ends."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def soup(stockpot, checkpoints, tmp_path) -> Path:
    assert stockpot("mix", *checkpoints, "-o", tmp_path / "soup", "--digests", "--max-shard-size", "64").code == 0
    return tmp_path / "soup"


def test_the_same_folder(stockpot, soup, tmp_path) -> None:
    done = stockpot("rebuild", soup, "-o", tmp_path / "again")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"rebuilt {soup} in {tmp_path / 'again'} (2 files, {len_of(soup)} bytes)\n"
    assert contents(tmp_path / "again") == contents(soup)
    assert stockpot("rebuild", soup / "soup.json", "-o", tmp_path / "again").code == 2
    assert stockpot("rebuild", soup / "soup.json", "-o", tmp_path / "again", "--force").code == 0


def len_of(soup: Path) -> int:
    return sum(path.stat().st_size for path in soup.glob("*.safetensors"))


def test_notes_of_what_was_not_compared(stockpot, checkpoints, tmp_path) -> None:
    assert stockpot("mix", *checkpoints, "-o", tmp_path / "soup", "--no-digests").code == 0
    done = stockpot("rebuild", tmp_path / "soup", "-o", tmp_path / "again")
    assert done.code == 0
    assert "note: no digest is recorded to compare with: model.safetensors" in done.err
    assert contents(tmp_path / "again") == contents(tmp_path / "soup")


def test_unchecked_takes_a_copy_without_a_digest(stockpot, refused, checkpoints, tmp_path) -> None:
    assert stockpot("mix", *checkpoints, "-o", tmp_path / "soup", "--no-digests").code == 0
    os.utime(checkpoints[1], ns=(1, 1))
    assert "b (" in refused("rebuild", tmp_path / "soup", "-o", tmp_path / "again")
    assert stockpot("rebuild", tmp_path / "soup", "-o", tmp_path / "again", "--unchecked").code == 0
    assert contents(tmp_path / "again") == contents(tmp_path / "soup")


def test_the_soup_of_a_recipe(stockpot, checkpoints, tmp_path, monkeypatch) -> None:
    """Its folder also holds a journal and a card, which are not rebuilt; what was tried stays in the record."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_eval", raising=False)
    Path("my_eval.py").write_text("def score(soup):\n    return -len(soup.ingredients)\n")
    assert stockpot("soup", *checkpoints, "--evaluate", "my_eval:score", "-o", "best").code == 0
    done = stockpot("rebuild", "best", "-o", "again")
    assert done.code == 0
    assert "README.md is left out" in done.err
    assert sorted(contents(Path("again"))) == ["model.safetensors", "soup.json"]
    for name in ("model.safetensors", "soup.json"):
        assert Path("again", name).read_bytes() == Path("best", name).read_bytes()
    assert stockpot("verify", "best", "--ingredients", "--tensors").code == 0


def test_changed_and_missing_are_both_named(refused, soup, checkpoints, tmp_path) -> None:
    content = checkpoints[0].read_bytes()
    checkpoints[0].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    checkpoints[2].unlink()
    message = refused("rebuild", soup, "-o", tmp_path / "again")
    assert "2 of 3 inputs are not what was recorded" in message
    assert f"a ({checkpoints[0]}): its bytes are others" in message
    assert f"c ({checkpoints[2]}): no such file or folder" in message
    assert "fix:" in message


def test_sources(stockpot, soup, checkpoints, tmp_path) -> None:
    (tmp_path / "moved").mkdir()
    for file in checkpoints:
        file.rename(tmp_path / "moved" / file.name)
    assert stockpot("rebuild", soup, "-o", tmp_path / "again", "--sources", tmp_path / "moved").code == 0
    record = json.loads((tmp_path / "again" / "soup.json").read_text())
    assert [entry["source"] for entry in record["ingredients"]] == [f"../moved/{name}.safetensors" for name in "abc"]
    assert stockpot("verify", tmp_path / "again", "--ingredients").code == 0


@pytest.mark.parametrize("record", ["nothing", "a.safetensors", "."])
def test_no_record(refused, checkpoints, tmp_path, record) -> None:
    assert "soup.json" in refused("rebuild", tmp_path / record, "-o", tmp_path / "again")


def test_a_damaged_record(refused, soup, tmp_path) -> None:
    content = json.loads((soup / "soup.json").read_text())
    content["output"]["side_files"]["../../etc/passwd"] = {}
    content["recipe"] = None
    (soup / "soup.json").write_text(json.dumps(content))
    message = refused("rebuild", soup, "-o", tmp_path / "again")
    assert "recipe: should be a valid string, not None" in message
    assert "'../../etc/passwd' is no path inside the soup's folder" in message


def test_ctrl_c_leaves_nothing(stockpot, soup, tmp_path, monkeypatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stockpot.assembly.rebuilt.write_soup", interrupted)
    before = sorted(tmp_path.iterdir())
    done = stockpot("rebuild", soup, "-o", tmp_path / "again")
    assert done.code == 130
    assert "nothing was written" in done.err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="takes root to become somebody else")
def test_no_permission(stockpot, soup, checkpoints, tmp_path) -> None:
    assert stockpot("rebuild", soup, "-o", tmp_path / "first").code == 0  # everything is imported
    with TemporaryDirectory() as folder:  # tmp_path is not to be looked into by others
        place = Path(folder)
        shutil.copytree(tmp_path, place, dirs_exist_ok=True)
        place.chmod(0o755)
        for file in checkpoints:
            (place / file.name).chmod(0o644)
        (place / "b.safetensors").chmod(0)
        os.seteuid(65534)
        try:
            unreadable = stockpot("rebuild", place / "soup", "-o", place / "again")
        finally:
            os.seteuid(0)
        (place / "b.safetensors").chmod(0o644)
        os.seteuid(65534)
        try:
            unwritable = stockpot("rebuild", place / "soup", "-o", place / "again")
        finally:
            os.seteuid(0)
        assert not (place / "again").exists()
    assert unwritable.code == unreadable.code == 2
    assert "b.safetensors): " in unreadable.err
    assert "Permission denied" in unreadable.err
    assert "again: Permission denied" in unwritable.err
