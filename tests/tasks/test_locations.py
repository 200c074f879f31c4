"""Where a model comes from: folders, packages, hub ids; and what is said when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockpot.errors import CheckpointError, ConfigError, StockpotError
from stockpot.tasks import model_folder


def test_folders_absolute_relative_and_in_packages(tmp_path, monkeypatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert model_folder(str(tmp_path / "a")) == tmp_path / "a"
    assert model_folder("a/b", relative_to=tmp_path) == tmp_path / "a" / "b"
    monkeypatch.chdir(tmp_path)
    assert model_folder("a/b").samefile(tmp_path / "a" / "b")
    assert (model_folder("package:stockpot/tasks") / "locations.py").is_file()


def test_a_file_is_no_folder(tmp_path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ConfigError, match="is a file"):
        model_folder(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("reference", ["./nowhere", "/nowhere/at/all", "a/b/c", "nowhere", "package:stockpot/nowhere"])
def test_nothing_there(reference) -> None:
    with pytest.raises(StockpotError, match=r"nowhere|a/b/c") as caught:
        model_folder(reference)
    assert caught.value.fix


def test_the_hub_is_asked_for_weights_configuration_and_tokenizer_alone(monkeypatch, tmp_path) -> None:
    import huggingface_hub

    asked = {}

    def download(name: str, **options: object) -> str:
        asked.update(options, name=name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert model_folder("owner/model@v2") == Path(tmp_path)
    assert (asked["name"], asked["revision"]) == ("owner/model", "v2")
    assert not any("py" in pattern or "bin" in pattern for pattern in asked["allow_patterns"])


def test_a_hub_that_does_not_answer(monkeypatch) -> None:
    import huggingface_hub

    def download(name: str, **options: object) -> str:
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(CheckpointError, match="owner/model"):
        model_folder("owner/model")
