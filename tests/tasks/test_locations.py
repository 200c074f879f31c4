"""Where a model comes from: folders, packages, hub ids; and what is said when it does not."""

from __future__ import annotations

from fnmatch import fnmatchcase
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


class Hub:
    """A hub with one repository of these files: it gives those that fit the patterns."""

    def __init__(self, folder: Path, *files: str) -> None:
        self.folder, self.files, self.asked = folder, files, []

    def snapshot_download(self, name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        self.asked.append((name, revision))
        for file in self.files:
            if any(fnmatchcase(file, pattern) for pattern in allow_patterns):
                (self.folder / file).touch()
        return str(self.folder)

    @property
    def given(self) -> set[str]:
        return {file.name for file in self.folder.iterdir()}


@pytest.mark.parametrize(
    ("files", "given"),
    [
        (("model.safetensors", "pytorch_model.bin", "config.json", "code.py"), {"model.safetensors", "config.json"}),
        (("pytorch_model.bin", "training_args.bin", "vocab.txt"), {"pytorch_model.bin", "vocab.txt"}),
        (("open_clip_pytorch_model.bin", "a.json"), {"open_clip_pytorch_model.bin", "a.json"}),
    ],
)  # fmt: skip
def test_the_hub_gives_weights_configuration_and_tokenizer_alone(files, given, monkeypatch, tmp_path) -> None:
    hub = Hub(tmp_path, *files)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.snapshot_download)
    assert model_folder("owner/model@v2") == tmp_path
    assert set(hub.asked) == {("owner/model", "v2")}
    assert hub.given == given


def test_a_hub_id_without_an_owner(monkeypatch, tmp_path) -> None:
    hub = Hub(tmp_path, "model.safetensors")
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.snapshot_download)
    assert model_folder("t5-base", relative_to=tmp_path / "nowhere") == tmp_path
    assert hub.asked == [("t5-base", None)]


@pytest.mark.parametrize("spelled", ["hf-hub:timm/resnet18.a1_in1k", "hf_hub:timm/resnet18.a1_in1k@main"])
def test_a_hub_id_as_timm_spells_it(spelled, monkeypatch, tmp_path) -> None:
    hub = Hub(tmp_path, "model.safetensors")
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.snapshot_download)
    model_folder(spelled)
    assert [name for name, _ in hub.asked] == ["timm/resnet18.a1_in1k"]


def test_a_hub_that_does_not_answer(monkeypatch) -> None:
    import huggingface_hub

    def download(name: str, **options: object) -> str:
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(CheckpointError, match="owner/model"):
        model_folder("owner/model")
