"""Side files: what comes along, what stays, and where ingredients disagree."""

from __future__ import annotations

import json

import pytest

from stockpot.checkpoints import compare_side_files, copy_side_files
from stockpot.checkpoints.side_files import side_files
from stockpot.errors import CheckpointError, OutputError

TAKEN = [
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.txt",
    "vocab.json", "vocab.bpe", "merges.txt", "special_tokens_map.json", "added_tokens.json",
    "preprocessor_config.json", "processor_config.json", "chat_template.jinja", "modeling_mine.py", "spiece.model",
    "sentencepiece.bpe.model", "source.spm", "qwen.tiktoken", "LICENSE", "LICENSE.txt", "modules.json",
    "1_Pooling/config.json", "additional_chat_templates/tool.jinja",
]  # fmt: skip
LEFT = [
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
    "model.pt", "model.ckpt", "tf_model.h5", "flax_model.msgpack", "flax_model.msgpack.index.json", "model.onnx",
    "model.gguf", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "training_args.bin",
    "training_args.json", "soup.json", "run.json", "results.json", "results.md", "all_results.json", "README.md",
    ".gitattributes", "adapter_config.json", "checkpoint-500/config.json", "runs/events.json", "logs/a.txt",
    "onnx/config.json", "onnx/model.onnx", "picture.png", "a/b/config.json", ".cache/config.json",
]  # fmt: skip


def fill(folder, names, content="{}"):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def test_what_makes_a_model_loadable_comes_along_and_the_rest_stays(tmp_path):
    assert {path.as_posix() for path in side_files(fill(tmp_path, TAKEN + LEFT))} == set(TAKEN)


def test_copies_have_the_same_contents(tmp_path):
    source, target = fill(tmp_path / "source", TAKEN, "text"), tmp_path / "target"
    target.mkdir()
    assert len(copy_side_files(source, target)) == len(TAKEN)
    assert all((target / name).read_text() == "text" for name in TAKEN)
    assert compare_side_files([source, target]) == []


def test_only_the_named_ones_are_copied(tmp_path):
    source, target = fill(tmp_path / "source", TAKEN), tmp_path / "target"
    target.mkdir()
    names = {"config.json", "1_Pooling/config.json", "not-there.json", "../source/vocab.txt"}
    assert [path.as_posix() for path in copy_side_files(source, target, names=names)] == [
        "1_Pooling/config.json",
        "config.json",
    ]
    assert len([path for path in target.rglob("*") if path.is_file()]) == 2


def test_links_into_a_hub_cache_become_files(tmp_path):
    snapshot = tmp_path / "models--x" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    fill(tmp_path / "models--x", ["blobs/digest"], "text")
    (snapshot / "config.json").symlink_to("../../blobs/digest")
    (snapshot / "vocab.txt").symlink_to("config.json")
    target = tmp_path / "target"
    target.mkdir()
    copy_side_files(snapshot, target)
    for name in ("config.json", "vocab.txt"):
        assert (target / name).read_text() == "text"
        assert not (target / name).is_symlink()


@pytest.mark.parametrize("link", ["../secret", "/etc/hostname", "nowhere"])
def test_links_out_of_the_folder_are_refused(link, tmp_path):
    fill(tmp_path, ["secret"])
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "vocab.txt").symlink_to(link)
    with pytest.raises(CheckpointError, match=f"vocab.txt -> {link}"):
        copy_side_files(tmp_path / "model", tmp_path)


def test_a_target_that_refuses_is_explained(tmp_path):
    source = fill(tmp_path / "source", ["config.json"])
    (tmp_path / "target" / "config.json").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"config\.json: cannot be written"):
        copy_side_files(source, tmp_path / "target")


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="gone"):
        side_files(tmp_path / "gone")


def differences(tmp_path, first, second, name="config.json"):
    fill(tmp_path / "a", [name], first if isinstance(first, str) else json.dumps(first))
    fill(tmp_path / "b", [name], second if isinstance(second, str) else json.dumps(second))
    return compare_side_files([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
        ({"a": 1, "_name_or_path": "x", "transformers_version": "4"}, {"a": 1, "transformers_version": "5"}, []),
        ({"dropout": 0.1}, {"dropout": 0.2}, ["config.json: 'dropout' is 0.1 in 'a' (kept) but 0.2 in 'b'"]),
        ({"x": {"y": 1}}, {"x": {"y": 2}}, ["config.json: 'x.y' is 1 in 'a' (kept) but 2 in 'b'"]),
        ({"x": [1]}, {}, ["config.json: 'x' is [1] in 'a' (kept) but absent in 'b'"]),
        ({"x": None}, {}, ["config.json: 'x' is None in 'a' (kept) but absent in 'b'"]),
        ({"x": True}, {"x": 1}, ["config.json: 'x' is True in 'a' (kept) but 1 in 'b'"]),
        ("no JSON", "{}", ["config.json: differs between 'a' (kept) and 'b'"]),
    ],
)
def test_json_is_compared_by_what_it_says(first, second, expected, tmp_path):
    assert differences(tmp_path, first, second) == expected


def test_other_files_are_compared_by_bytes(tmp_path):
    assert differences(tmp_path, "a b", "a  b", "vocab.txt") == ["vocab.txt: differs between 'a' (kept) and 'b'"]


def test_files_in_one_folder_only_are_said(tmp_path):
    fill(tmp_path / "a", ["config.json"])
    fill(tmp_path / "b", ["vocab.txt"])
    assert compare_side_files([tmp_path / "a", tmp_path / "b"], labels=["first", "second"]) == [
        "config.json: in 'first' (kept) but not in 'second'",
        "vocab.txt: in 'second' but not in 'first', so it is left out",
    ]


def test_many_differences_are_summed_up(tmp_path):
    lines = differences(tmp_path, {str(n): n for n in range(100)}, {str(n): -n - 1 for n in range(100)})
    assert len(lines) == 6
    assert lines[-1] == "config.json: 95 more differences between 'a' (kept) and 'b'"


def test_folders_that_differ_in_the_same_way_share_a_line(tmp_path):
    for name, dropout in (("a", 0.1), ("b", 0.2), ("c", 0.3), ("d", 0.2), ("e", 0.2), ("f", 0.2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"dropout": dropout}))
    assert compare_side_files([tmp_path / name for name in "abcdef"]) == [
        "config.json: 'dropout' is 0.1 in 'a' (kept) but 0.2 in 'b', 'd', 'e' and 1 more",
        "config.json: 'dropout' is 0.1 in 'a' (kept) but 0.3 in 'c'",
    ]
