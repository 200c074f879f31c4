"""What a source means: which files are taken, and what the refusals say."""

from __future__ import annotations

import pytest

from stockpot.checkpoints import open_checkpoint
from stockpot.checkpoints.locating import locate
from stockpot.errors import CheckpointError


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["model.safetensors"], "model.safetensors"),
        (["model.safetensors", "other.safetensors"], "model.safetensors"),
        (["model.safetensors", "pytorch_model.bin"], "model.safetensors"),
        (["model.safetensors", "model.safetensors.index.json"], "model.safetensors"),
        (["model.safetensors.index.json", "other.safetensors"], "model.safetensors.index.json"),
        (["model.safetensors.index.json", "model-00001-of-00001.safetensors"], "model.safetensors.index.json"),
        (["other.safetensors", "config.json", "optimizer.pt"], "other.safetensors"),
        (["other.safetensors.index.json", "other-00001-of-00001.safetensors"], "other.safetensors.index.json"),
        (["other.safetensors", "pytorch_model.bin"], "other.safetensors"),
        (["pytorch_model.bin", "training_args.bin", "optimizer.bin"], "pytorch_model.bin"),
        (["pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin"], "pytorch_model.bin.index.json"),
        (["best.pt", "scheduler.pt", "rng_state.pth"], "best.pt"),
        (["model.safetensors", "adapter_model.safetensors", "adapter_config.json"], "model.safetensors"),
    ],
)
def test_the_choice_in_a_folder(names, expected, tmp_path):
    assert locate(touch(tmp_path, *names)).main.name == expected


def test_what_was_passed_over_is_said(tmp_path):
    (note,) = locate(touch(tmp_path, "model.safetensors", "pytorch_model.bin")).notes
    assert note == "took model.safetensors; also there, not read: pytorch_model.bin"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.safetensors", "b.safetensors"], "holds several checkpoints and none is called model.safetensors"),
        (["a.pt", "b.pt"], "holds several checkpoints and none is called pytorch_model.bin"),
        (["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"], "holds 2 shards but no index"),
        (["config.json", "optimizer.pt"], "no weights in this folder, only config.json, optimizer.pt"),
        ([], "no weights in this folder, which is empty"),
        (["adapter_config.json", "adapter_model.safetensors"], "the mean of the factors A and B is not the mean"),
    ],
)
def test_a_folder_without_an_obvious_choice_is_refused(names, expected, tmp_path):
    with pytest.raises(CheckpointError, match=expected) as caught:
        locate(touch(tmp_path, *names))
    assert caught.value.fix
    assert str(tmp_path) in str(caught.value)


def test_subfolders_with_weights_are_suggested(tmp_path):
    touch(tmp_path / "a", "model.safetensors")
    touch(tmp_path / "b", "notes.txt")
    with pytest.raises(CheckpointError) as caught:
        locate(tmp_path)
    assert str(tmp_path / "a") in caught.value.fix
    assert str(tmp_path / "b") not in caught.value.fix


@pytest.mark.parametrize("missing", ["runs/lr3e5", "rums/lr3e-5/model.safetensors"])
def test_the_nearest_name_is_suggested(missing, tmp_path):
    touch(tmp_path / "runs" / "lr3e-5", "model.safetensors")
    with pytest.raises(CheckpointError, match="no such file or folder") as caught:
        locate(tmp_path / missing)
    assert caught.value.fix.startswith(f"did you mean {tmp_path / 'runs'}")


def test_one_shard_of_many_is_refused(tmp_path):
    touch(tmp_path, "model.safetensors.index.json", "model-00001-of-00002.safetensors")
    with pytest.raises(CheckpointError, match="is one shard of the model"):
        locate(tmp_path / "model-00001-of-00002.safetensors")


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "pytorch_model.bin", "weights"])
def test_lfs_pointers_are_recognised(name, tmp_path):
    path = tmp_path / name
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    with pytest.raises(CheckpointError, match="Git LFS pointer") as caught:
        open_checkpoint(path)
    assert "git lfs pull" in caught.value.fix


def test_unknown_endings_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not a known kind") as caught:
        locate(touch(tmp_path, "model.gguf") / "model.gguf")
    assert ".safetensors" in caught.value.fix


def test_the_ending_of_training_scripts_is_taken_where_it_is_named(tmp_path):
    found = locate(touch(tmp_path, "model_best.pth.tar") / "model_best.pth.tar")
    assert (found.main.name, found.format) == ("model_best.pth.tar", "torch")
    with pytest.raises(CheckpointError, match="not a known kind"):
        locate(touch(tmp_path, "shard.tar") / "shard.tar")


def test_an_adapter_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="LoRA adapter"):
        locate(touch(tmp_path, "adapter_model.safetensors") / "adapter_model.safetensors")


def test_a_pytorch_file_under_a_wrong_name_is_explained(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"PK\x03\x04" + bytes(50))
    with pytest.raises(CheckpointError, match="begins like a PyTorch file"):
        open_checkpoint(tmp_path)


def test_the_home_of_nobody_is_no_such_file():
    with pytest.raises(CheckpointError, match="~no-such-user/model: no such file or folder"):
        locate("~no-such-user/model")
