"""`stockpot verify`: one line for each thing checked, or exit code 2 with all that is wrong."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("digests", [["--no-digests"], [], ["--digests"]], ids=["sizes", "small", "digests"])
def test_one_line_for_each_thing(stockpot, checkpoints, tmp_path, digests) -> None:
    assert stockpot("mix", *checkpoints, "-o", tmp_path / "soup", *digests).code == 0
    done = stockpot("verify", tmp_path / "soup", "--ingredients", "--tensors")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert [line.split(":")[0].split(" ")[0] for line in lines] == [
        "soup.json", "model.safetensors", "tensors", "a", "b", "c", "blend",
    ]  # fmt: skip
    has_digests = "SHA-256 as recorded" in lines[1]
    assert has_digests is (digests != ["--no-digests"])
    shown = lines[:3] if has_digests else [*lines[:3], lines[-1]]
    assert stockpot("verify", tmp_path / "soup" / "soup.json").out.splitlines() == shown


def test_problems(refused, stockpot, checkpoints, tmp_path) -> None:
    soup = tmp_path / "soup"
    assert stockpot("mix", *checkpoints, "-o", soup, "--digests").code == 0
    content = (soup / "model.safetensors").read_bytes()
    (soup / "model.safetensors").write_bytes(content[:-1] + b"\7")
    checkpoints[1].unlink()
    message = refused("verify", soup, "--ingredients", "--tensors")
    assert message.startswith(f"error: {soup} is not what its record says, nor are its ingredients\n  model.saf")
    assert f"b ({checkpoints[1]}): no such file or folder" in message
    assert f"stockpot rebuild {soup} -o " in message


def test_no_record(refused, tmp_path) -> None:
    assert "soup.json cannot be read" in refused("verify", tmp_path)


def test_ctrl_c(stockpot, monkeypatch, tmp_path) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stockpot.assembly.verify", interrupted)
    done = stockpot("verify", tmp_path)
    assert done.code == 130
    assert "nothing was changed" in done.err
