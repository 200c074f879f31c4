from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from stockpot.cli.entry import exit_code, plain_mix


@pytest.mark.parametrize(
    "line",
    [
        [], ["mix"], ["mix", "-o", "soup"], ["mix", "a"], ["mix", "a", "-o"], ["mix", "a", "-o", ""],
        ["mix", "", "-o", "s"],
        ["mix", "a", "-o", "s", "-o", "t"], ["mix", "a", "-o", "--force"], ["mix", "a", "--", "-o", "s"],
        ["mix", "a", "-o", "s", "--dtype", "bf16"], ["mix", "--help"], ["mix", "a", "--out=s"],
        ["soup", "a", "-o", "s"],
    ],
)  # fmt: skip
def test_all_but_the_plainest_line_goes_to_the_parser(line: list[str]) -> None:
    assert plain_mix(line) is None


@pytest.mark.parametrize(
    "line", [["mix", "-o", "s", "a", "b"], ["mix", "a", "--out", "s", "b"], ["mix", "a", "b", "-o", "s"]]
)
def test_the_plainest_line_in_any_order(line: list[str]) -> None:
    assert plain_mix(line) == (["a", "b"], Path("s"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_short_cut_and_the_parser_do_and_say_the_same(tmp_path, capfd, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for value, name in enumerate("ab"):
        safetensors.numpy.save_file({"w": np.full(3, value, np.float32)}, f"{name}.safetensors")
    found = []
    for extra in ([], ["--max-shard-size", "5GB"]):
        assert exit_code(["mix", "a.safetensors", "b.safetensors", "a.safetensors", "-o", "soup", *extra]) == 0
        found.append((contents(Path("soup")), capfd.readouterr()))
        Path("soup").rename("soup" + str(len(found)))
    assert found[0] == found[1]


@pytest.mark.parametrize("extra", [[], ["--max-shard-size", "5GB"]])
def test_both_end_alike_where_they_cannot_go_on(tmp_path, capfd, monkeypatch, extra) -> None:
    assert exit_code(["mix", str(tmp_path / "missing"), "-o", str(tmp_path / "soup"), *extra]) == 2
    assert "missing" in capfd.readouterr().err

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stockpot.cli.mixing.mix_into", interrupted)
    assert exit_code(["mix", "a", "-o", "soup", *extra]) == 130
    assert "nothing was written" in capfd.readouterr().err


def test_an_installed_package_that_is_broken_is_told_as_that(monkeypatch, capsys) -> None:
    """What is missing outright is an extra; what fails inside a package that is there is that package's trouble."""

    def broken(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'inner_part'", name="inner_part")

    monkeypatch.setattr("stockpot.cli.entry._run", broken)
    assert exit_code(["compare", "runs"]) == 2
    said = capsys.readouterr().err
    assert "an installed package does not import: No module named 'inner_part'" in said
    assert "--debug" in said
    with pytest.raises(ModuleNotFoundError):
        exit_code(["compare", "runs", "--debug"])
