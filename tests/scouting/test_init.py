"""`stockpot init`: what it writes works at once, or it says what is missing."""

from __future__ import annotations

import json
import lzma
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stockpot import ingredients
from stockpot.cli.entry import exit_code
from stockpot.errors import DataError
from stockpot.experiment import compare
from stockpot.scouting import scout
from stockpot.scouting.columns import Sample, label_column, sample, text_columns
from tiny_clip import tiny_clip
from tiny_images import tiny_image_folder, tiny_image_model
from tiny_lm import tiny_lm
from tiny_models import LABELS, tiny_classifier, tiny_fine_tunes
from tiny_seq2seq import tiny_seq2seq_model

pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.fixture
def init(capsys: pytest.CaptureFixture[str]):
    """The command in this process; what it said, in one line."""

    def call(folder: Path, *arguments: str, expect: int = 0) -> str:
        given = arguments or (str(folder / "runs"),)
        code = exit_code(["init", *given, "-o", str(folder / "task.yaml")])
        said = capsys.readouterr()
        assert code == expect, said
        assert "Traceback" not in said.err
        return " ".join((said.out + said.err).split())

    return call


def text_runs(folder: Path) -> Path:
    tiny_fine_tunes(folder / "runs", tiny_classifier(folder / "base"), 2)
    return folder


def table(path: Path, n: int = 30, *, header: str = "id\ttext\tlabel", shift: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{row}\tthe word number {row + shift}\t{LABELS[row % len(LABELS)]}" for row in range(n)]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_text_runs_with_tables_beside_them_can_be_compared_at_once(tmp_path: Path, init) -> None:
    text_runs(tmp_path)
    table(tmp_path / "data" / "train.tsv")
    table(tmp_path / "data" / "dev.tsv", shift=100)
    packed = table(tmp_path / "data" / "test.tsv", shift=200)
    (tmp_path / "data" / "test.tsv.xz").write_bytes(lzma.compress(packed.read_bytes()))
    packed.unlink()
    said = init(tmp_path)
    assert "family text-classification: 2 models" in said
    assert "text text, label label" in said
    assert f"stockpot compare '{tmp_path}/runs/*'" in said
    content = yaml.safe_load((tmp_path / "task.yaml").read_text())
    assert content["data"]["held_out"] == {"file": "data/dev.tsv"}
    found = compare(ingredients(tmp_path / "runs" / "*"), task=tmp_path / "task.yaml", recipes=["uniform", "greedy"])
    assert found.row("greedy").scores["test"].n == 30


def test_what_is_missing_is_all_told_and_marked_in_the_file(tmp_path: Path, init) -> None:
    text_runs(tmp_path)
    table(tmp_path / "data" / "train.tsv", header="a\tb\tc")
    said = init(tmp_path, expect=2)
    assert "data.held_out" in said
    assert "only data/train.tsv was found, which the models have been trained on" in said
    assert (tmp_path / "task.yaml").read_text().count("FILL-IN") >= 3
    table(tmp_path / "data" / "dev.tsv", header="a\tb\tc")
    init(tmp_path, str(tmp_path / "runs"), "--force")  # the labels are the model's, the texts the only sentences
    content = yaml.safe_load((tmp_path / "task.yaml").read_text())
    assert (content["data"]["text"], content["data"]["label"]) == ("b", "c")


def test_an_existing_file_stays(tmp_path: Path, init) -> None:
    text_runs(tmp_path)
    (tmp_path / "task.yaml").write_text("mine")
    assert "is there already" in init(tmp_path, expect=2)
    assert (tmp_path / "task.yaml").read_text() == "mine"


def test_of_a_trainers_checkpoints_the_last_is_the_run(tmp_path: Path) -> None:
    base = tiny_classifier(tmp_path / "base")
    for step in (5, 10, 100):
        shutil.copytree(base, tmp_path / "runs" / "a" / f"checkpoint-{step}")
    assert scout([tmp_path / "runs"]).models == (tmp_path / "runs" / "a" / "checkpoint-100",)


def test_images_and_clip_find_their_class_folders(tmp_path: Path, init) -> None:
    for place, make in (("image", tiny_image_model), ("clip", tiny_clip)):
        home = tmp_path / place
        make(home / "runs" / "r1", seed=1)
        tiny_image_folder(home / "images" / "val", 12)
        tiny_image_folder(home / "images" / "test", 12, seed=1)
        init(home, str(home / "runs"), str(home / "images"))
        content = yaml.safe_load((home / "task.yaml").read_text())
        assert content["family"] == {"image": "image-classification", "clip": "clip"}[place]
        assert content["data"] == {"held_out": {"path": "images/val"}, "test": {"path": "images/test"}}
        found = compare(ingredients(home / "runs" / "r1"), task=home / "task.yaml")
        assert found.row("best").scores["test"].n == 12


def test_language_models_and_text_to_text(tmp_path: Path, init) -> None:
    tiny_lm(tmp_path / "lm" / "runs" / "r1")
    (tmp_path / "lm" / "valid.jsonl").write_text("".join(json.dumps({"text": f"a b c {n}"}) + "\n" for n in range(9)))
    init(tmp_path / "lm")
    content = yaml.safe_load((tmp_path / "lm" / "task.yaml").read_text())
    assert (content["family"], content["scoring"], content["data"]["text"]) == ("lm", "likelihood", "text")
    (tmp_path / "lm" / "valid.jsonl").write_text(
        json.dumps({"question": "a", "choices": ["b", "c"], "answer": 1}) + "\n"
    )
    (tmp_path / "lm" / "task.yaml").unlink()
    assert "multiple choice" in init(tmp_path / "lm")
    tiny_seq2seq_model(tmp_path / "t5" / "runs" / "r1")
    table(tmp_path / "t5" / "dev.tsv")
    init(tmp_path / "t5")
    assert yaml.safe_load((tmp_path / "t5" / "task.yaml").read_text())["family"] == "seq2seq-classification"


def test_models_of_several_kinds_and_foreign_files_are_told(tmp_path: Path, init) -> None:
    text_runs(tmp_path)
    tiny_image_model(tmp_path / "runs" / "picture")
    (tmp_path / "runs" / "run-0" / "last.pth.tar").write_bytes(b"x")
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "config.json").write_text("{")
    (tmp_path / "runs" / "broken" / "model.safetensors").write_bytes(b"")
    said = init(tmp_path, expect=2)
    assert "the models are of several kinds" in said
    assert "broken" in said
    assert "save_for_hf" in said


def test_folders_without_anything(tmp_path: Path, init) -> None:
    (tmp_path / "empty").mkdir()
    assert "found neither models nor data" in init(tmp_path, str(tmp_path / "empty"), expect=2)
    said = init(tmp_path, str(tmp_path / "no"), str(tmp_path / "nor"), expect=2)
    assert "no such folder" in said
    assert "nor" in said
    assert not (tmp_path / "task.yaml").exists()


def test_columns_are_told_by_values_then_by_names() -> None:
    found = Sample({"Premise": ["a b"] * 2, "hypothesis": ["c d"] * 2, "kind": ["1", "0"], "gold_label": ["x", "y"]})
    assert text_columns(found, "kind") == ("Premise", "hypothesis")
    assert label_column(found, ["no", "yes"]) == "kind"
    assert label_column(found, ["x", "y"]) == "gold_label"
    assert label_column(Sample({"a": ["1"], "b": ["0"]}), ["no", "yes"]) is None
    assert text_columns(Sample({"a": ["one two"], "b": ["three four"]}), None) == ()


def test_broken_tables_are_told(tmp_path: Path) -> None:
    for name, content in (("a.jsonl", b"{"), ("a.tsv", b"\xff\xfe"), ("a.parquet", b"PAR"), ("b.csv", b"x,y\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError):
            sample(tmp_path / name)


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    text_runs(tmp_path)
    table(tmp_path / "dev.tsv")
    code = (
        "import sys; from stockpot.cli.app import app\n"
        f"try: app(['init', {str(tmp_path / 'runs')!r}, '-o', {str(tmp_path / 'task.yaml')!r}])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'torch', 'transformers', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
