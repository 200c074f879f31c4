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
from stockpot.config import canonical, load_task_config
from stockpot.errors import DataError
from stockpot.experiment import compare, sweep
from stockpot.scouting import scout
from stockpot.scouting.columns import Sample, label_column, sample, text_columns
from stockpot.scouting.recorded import recorded_task
from tiny_clip import tiny_clip
from tiny_images import tiny_image_folder, tiny_image_model
from tiny_lm import tiny_lm
from tiny_models import LABELS, tiny_classifier, tiny_experiment, tiny_fine_tunes
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
    assert "template: left out" in init(tmp_path / "t5")
    content = yaml.safe_load((tmp_path / "t5" / "task.yaml").read_text())
    assert content["family"] == "seq2seq-classification"
    assert "label_words" not in content  # the labels are words
    (tmp_path / "t5" / "task.yaml").unlink()
    numbers = [f"{row}\tthe word number {row}\t{row % 2}" for row in range(30)]
    (tmp_path / "t5" / "dev.tsv").write_text("\n".join(["id\ttext\tlabel", *numbers]) + "\n")
    said = init(tmp_path / "t5", expect=2)
    assert "label_words: the column label holds numbers, and the model answers in words" in said
    assert yaml.safe_load((tmp_path / "t5" / "task.yaml").read_text())["label_words"] == "FILL-IN"


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


def configured(folder: Path, config: str, *, weights: bool = True) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config)
    if weights:
        (folder / "model.safetensors").write_bytes(b"")
    return folder


def test_a_test_table_without_labels_is_left_out_and_the_task_works(tmp_path: Path, init) -> None:
    text_runs(tmp_path)
    table(tmp_path / "data" / "dev.tsv")
    for content in ("index\tsentence\n0\tfar away\n", "text\tlabel\nfar away\t-1\nvery far\t-1\n"):  # GLUE's two ways
        (tmp_path / "data" / "test.tsv").write_text(content)
        said = init(tmp_path, str(tmp_path / "runs"), "--force")
        assert (
            "data/test.tsv is left out: its label says nothing" in said
            or "it has no column text and none label" in said
        )
        assert "no test data were chosen of data/test.tsv" in said
        assert "test" not in yaml.safe_load((tmp_path / "task.yaml").read_text())["data"]
        found = compare(ingredients(tmp_path / "runs" / "*"), task=tmp_path / "task.yaml", recipes=["uniform"])
        assert found.row("uniform").scores["held_out"].n == 30


def test_one_output_is_regression(tmp_path: Path, init) -> None:
    tiny_fine_tunes(tmp_path / "runs", tiny_classifier(tmp_path / "base", labels=["LABEL_0"]), 2)
    rows = [f"the word number {n},{n / 7}" for n in range(20)]
    (tmp_path / "dev.csv").write_text("\n".join(["text,score", *rows]))
    init(tmp_path)
    assert yaml.safe_load((tmp_path / "task.yaml").read_text())["metric"] == "mse"
    found = compare(ingredients(tmp_path / "runs" / "*"), task=tmp_path / "task.yaml", recipes=["uniform"])
    assert found.row("uniform").scores["held_out"].n == 20
    (tmp_path / "dev.csv").write_text("text,score\na b,high\n")
    assert "holds no numbers" in init(tmp_path, str(tmp_path / "runs"), "--force", expect=2)


def test_shards_of_a_split_are_one_table(tmp_path: Path, init) -> None:
    text_runs(tmp_path)
    for split, shift in (("validation", 0), ("test", 200)):
        for number in range(2):
            table(tmp_path / "data" / f"{split}-{number:05}-of-00002.tsv", shift=shift + 50 * number)
    init(tmp_path)
    data = yaml.safe_load((tmp_path / "task.yaml").read_text())["data"]
    assert data["held_out"] == {"file": "data/validation-*-of-00002.tsv"}
    found = compare(ingredients(tmp_path / "runs" / "*"), task=tmp_path / "task.yaml", recipes=["uniform"])
    assert {name: score.n for name, score in found.row("uniform").scores.items()} == {"held_out": 60, "test": 60}


def test_a_sweeps_record_gives_the_same_task_again(in_process, tmp_path: Path, init) -> None:
    made = tiny_experiment(tmp_path / "source", runs=2)
    sweep(made, tmp_path / "source" / "out", n_workers=1)
    for place in ("out", "out/ingredients", "out/ingredients/run-00"):
        said = init(tmp_path, str(tmp_path / "source" / place), "--force")
        assert "the task that source/out was made with" in said
        assert "is it the file of those runs?" in said
    again, before = load_task_config(tmp_path / "task.yaml"), load_task_config(tmp_path / "source" / "task.yaml")
    assert again.data.file == "source/rows.tsv"
    assert canonical(again.model_copy(update={"data": before.data})) == canonical(before)
    assert canonical(again.data.model_copy(update={"file": before.data.file})) == canonical(before.data)
    runs = ingredients(tmp_path / "source" / "out" / "ingredients" / "*")
    found = compare(runs, task=tmp_path / "task.yaml", recipes=["uniform", "greedy"])
    assert found.row("greedy").scores["test"].n == 40
    compare(runs, task=tmp_path / "task.yaml", recipes=["uniform"], out=tmp_path / "comparison")
    said = init(tmp_path, str(tmp_path / "comparison"), "--force")
    assert "no models lie here" in said
    assert "weights without config.json" not in said  # the predictions it keeps are no models
    assert load_task_config(tmp_path / "task.yaml") == again
    (tmp_path / "moved").mkdir()
    (tmp_path / "source" / "rows.tsv").rename(tmp_path / "moved" / "rows.tsv")
    assert "was not found; name its folder too" in init(tmp_path, str(tmp_path / "source" / "out"), "--force", expect=2)
    tiny_classifier(tmp_path / "moved" / "base")
    said = init(tmp_path, str(tmp_path / "source" / "out"), str(tmp_path / "moved"), "--force")
    assert f"stockpot compare '{tmp_path}/source/out/ingredients/*' --task" in said  # without the start beside the data
    assert load_task_config(tmp_path / "task.yaml").data.file == "moved/rows.tsv"


def test_a_sweep_whose_data_are_gone_and_a_damaged_record(tmp_path: Path, init, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_classifier(tmp_path / "out" / "ingredients" / "run-00")
    record = {
        "experiment": {"task": {
            "family": "text-classification", "model": None,
            "data": {
                "text": ["text"], "label": "label", "held_out": {"file": "rows.tsv"}, "test": {"file": "more.tsv"},
            },
        }},
    }  # fmt: skip
    (tmp_path / "out" / "experiment.json").write_text(json.dumps(record))
    said = init(tmp_path, "out", expect=2)
    assert "data: rows.tsv, which those runs were made with" in said
    assert "data: more.tsv, which those runs were made with" in said
    content = yaml.safe_load((tmp_path / "task.yaml").read_text())
    assert content["data"]["held_out"] == {"file": "FILL-IN"}
    assert "model" not in content
    for damaged in ("{", "[]", '{"experiment": 1}', '{"task": {"family": 1, "data": {}}}'):
        (tmp_path / "out" / "experiment.json").write_text(damaged)
        assert recorded_task(tmp_path / "out") is None
        assert "data.held_out" in init(tmp_path, "out", "--force", expect=2)


def test_every_configuration_that_says_no_family_is_told(tmp_path: Path, init) -> None:
    whisper = {"architectures": ["WhisperForConditionalGeneration"], "num_mel_bins": 80}
    broken = {"a": "{", "b": "[1]", "c": '{"architectures": "BertModel"}', "d": json.dumps(whisper)}
    for name, config in broken.items():
        configured(tmp_path / "runs" / name, config)
    said = init(tmp_path, expect=2)
    assert "a: config.json cannot be read" in said
    assert "b: config.json holds list" in said
    assert "c: config.json names no classifier" in said
    assert "(architectures: WhisperForConditionalGeneration)" in said
    assert "data.held_out" in said
    text = (tmp_path / "task.yaml").read_text()
    assert "# family: one of text-classification" in text
    assert yaml.safe_load(text)["family"] == "FILL-IN"


def test_half_a_model_is_told(tmp_path: Path, init) -> None:
    configured(tmp_path / "runs" / "ended-early", "{}", weights=False)
    (tmp_path / "runs" / "bare").mkdir()
    (tmp_path / "runs" / "bare" / "model.safetensors").write_bytes(b"")
    said = init(tmp_path, expect=2)
    assert "ended-early: config.json without weights" in said
    assert "bare: weights without config.json" in said
    assert not (tmp_path / "task.yaml").exists()
    text_runs(tmp_path)
    table(tmp_path / "dev.tsv")
    assert "bare: weights without config.json" in init(tmp_path)  # beside models it is a note


def test_timms_output_is_told_with_its_own_architecture(tmp_path: Path, init) -> None:
    run = tmp_path / "runs" / "r1"
    run.mkdir(parents=True)
    for name in ("checkpoint-3", "last", "model_best"):
        (run / f"{name}.pth.tar").write_bytes(b"x")
    (run / "summary.csv").write_text("epoch,eval_top1\n0,1\n")
    (run / "args.yaml").write_text("model: resnet18\nnum_classes: 7\n")
    said = init(tmp_path, expect=2)
    assert "timm.create_model('resnet18', num_classes=7, checkpoint_path=" in said
    assert said.count("save_for_hf") == 1
    assert "model_best.pth.tar" in said
    (run / "args.yaml").write_text("model: [")
    assert "timm.create_model(ARCHITECTURE, num_classes=N" in init(tmp_path, expect=2)
    assert not (tmp_path / "task.yaml").exists()
    tiny_image_folder(tmp_path / "images" / "val", 12)
    init(tmp_path, str(tmp_path / "runs"), str(tmp_path / "images"), expect=2)
    content = yaml.safe_load((tmp_path / "task.yaml").read_text())
    assert (content["family"], content["data"]) == ("FILL-IN", {"held_out": {"path": "images/val"}})


def test_without_a_folder_it_looks_here(tmp_path: Path, monkeypatch, capsys) -> None:
    text_runs(tmp_path)
    table(tmp_path / "dev.tsv")
    monkeypatch.chdir(tmp_path / "runs")
    assert exit_code(["init"]) == 0
    assert "next: stockpot compare '*' --task task.yaml" in capsys.readouterr().out
    assert [run.name for run in ingredients("*")] == ["run-0", "run-1"]  # task.yaml, in the same folder, is none
    assert load_task_config("task.yaml").data.held_out.file == "../dev.tsv"


def test_several_candidates_are_named_and_none_is_taken(tmp_path: Path, init) -> None:
    text_runs(tmp_path)
    for name in ("dev", "validation", "test", "my-test"):
        table(tmp_path / "data" / f"{name}.tsv")
    said = init(tmp_path, expect=2)
    assert "several files would do: data/dev.tsv, data/validation.tsv" in said
    assert "no test data were chosen of data/my-test.tsv, data/test.tsv" in said
    assert yaml.safe_load((tmp_path / "task.yaml").read_text())["data"]["held_out"] == {"file": "FILL-IN"}


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


def json_lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_choices_are_told_by_their_lists_whatever_columns_are_called(tmp_path: Path, init) -> None:
    tiny_lm(tmp_path / "runs" / "m0")
    words = ["the sun rises", "the sea falls", "a dog sleeps"]
    rows = [{"id": row, "asked": f"what of {words[row % 3]}", "ways": words, "right": row % 3} for row in range(9)]
    json_lines(tmp_path / "dev.jsonl", rows)
    assert "multiple choice: ways holds lists" in init(tmp_path)
    content = yaml.safe_load((tmp_path / "task.yaml").read_text())
    assert content["scoring"] == "multiple-choice"
    data = content["data"]
    assert [data[key] for key in ("context", "choices", "answer")] == ["asked", "ways", "right"]
    assert compare(ingredients(tmp_path / "runs" / "*"), task=tmp_path / "task.yaml").rows
    json_lines(tmp_path / "dev.jsonl", [{**row, "right": "a dog sleeps"} for row in rows])
    said = init(tmp_path, str(tmp_path / "runs"), "--force", expect=2)
    assert "data.answer: which column tells the right choice" in said


def test_a_table_without_a_header_is_told(tmp_path: Path, init) -> None:
    """CoLA's official layout."""
    text_runs(tmp_path)
    (tmp_path / "dev.tsv").write_text("gj04\t1\t\tThe sailors rode the breeze.\ngj04\t0\t*\tThe weights made.\n" * 5)
    said = init(tmp_path, expect=2)
    assert "data.columns: the table has no header ('gj04', '1', '', 'The sailors rode the breeze.'" in said
    content = yaml.safe_load((tmp_path / "task.yaml").read_text())
    assert content["data"]["columns"] == content["data"]["text"] == content["data"]["label"] == "FILL-IN"


@pytest.mark.parametrize("layout", ["file", "stream"])
def test_arrow_tables_are_looked_into(tmp_path: Path, layout: str) -> None:
    pa = pytest.importorskip("pyarrow")
    rows = pa.table({"review": ["a good film", "a bad one"] * 400, "label": [1, 0] * 400})
    new = pa.ipc.new_file if layout == "file" else pa.ipc.new_stream
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, new(sink, rows.schema) as writer:
        writer.write_table(rows)
    found = sample(tmp_path / "a.arrow")
    assert (label_column(found, None), text_columns(found, "label")) == ("label", ("review",))
    assert len(found.columns["label"]) == 500
    (tmp_path / "b.arrow").write_bytes(b"no table")
    with pytest.raises(DataError, match="an Arrow file, whole"):
        sample(tmp_path / "b.arrow")


def test_timms_output_is_told_from_its_top_folder(tmp_path: Path, init) -> None:
    run = tmp_path / "output" / "train" / "20260101-resnet10t"
    run.mkdir(parents=True)
    (run / "last.pth.tar").write_bytes(b"pickle")
    assert "timm's training checkpoint" in init(tmp_path, str(tmp_path / "output"), expect=2)


def test_questions_as_arc_writes_them(tmp_path: Path, init) -> None:
    tiny_lm(tmp_path / "runs" / "m0")
    words = ["the sun rises", "the sea falls", "a dog sleeps"]
    rows = [
        {
            "question": f"what of {words[row % 3]}?",
            "answerKey": "ABC"[row % 3],
            "choices": {"text": words, "label": ["A", "B", "C"]},
        }
        for row in range(9)
    ]
    json_lines(tmp_path / "dev.jsonl", rows)
    init(tmp_path)
    data = yaml.safe_load((tmp_path / "task.yaml").read_text())["data"]
    assert [data[key] for key in ("context", "choices", "answer")] == ["question", "choices", "answerKey"]
    assert compare(ingredients(tmp_path / "runs" / "*"), task=tmp_path / "task.yaml").rows


@pytest.mark.parametrize("place", ["data", "reviews"])
def test_what_datasets_saved_is_a_table(tmp_path: Path, init, monkeypatch, place: str) -> None:
    import datasets

    text_runs(tmp_path)
    rows = {"text": ["one two", "three four"] * 3, "label": [LABELS[0], LABELS[1]] * 3}
    saved = datasets.DatasetDict({name: datasets.Dataset.from_dict(rows) for name in ("train", "validation", "test")})
    saved.save_to_disk(str(tmp_path / place))
    monkeypatch.chdir(tmp_path)
    assert "wrote" in init(tmp_path)
    data = load_task_config(tmp_path / "task.yaml").data
    assert (data.held_out.file, data.test.file) == (f"{place}/validation", f"{place}/test")
    assert (data.text, data.label) == (("text",), "label")


def test_data_further_down_are_found_where_one_folder_has_them(tmp_path: Path, init, monkeypatch) -> None:
    text_runs(tmp_path)
    table(tmp_path / "glue_data" / "RTE" / "dev.tsv")
    said = init(tmp_path, expect=2)
    assert "none found; name their folder too" in said  # from elsewhere, what lies around is not looked through
    (tmp_path / "task.yaml").unlink()
    monkeypatch.chdir(tmp_path)
    init(tmp_path)
    assert load_task_config(tmp_path / "task.yaml").data.held_out.file == "glue_data/RTE/dev.tsv"
    (tmp_path / "task.yaml").unlink()
    table(tmp_path / "glue_data" / "CoLA" / "dev.tsv")
    said = init(tmp_path, expect=2)
    assert "glue_data/CoLA" in said
    assert "glue_data/RTE; name one of these folders beside the runs" in said


def test_labels_that_transformers_does_not_write_are_zero_and_one(tmp_path: Path, init) -> None:
    tiny_fine_tunes(tmp_path / "runs", tiny_classifier(tmp_path / "base", labels=("LABEL_0", "LABEL_1")), 2)
    assert "id2label" not in json.loads((tmp_path / "runs" / "run-0" / "config.json").read_text())
    lines = [f"{row % 2}\t{row}\t{row}\ta cat {row}\ta dog {row}" for row in range(9)]
    (tmp_path / "dev.tsv").write_text("\n".join(["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", *lines]) + "\n")
    init(tmp_path)
    assert load_task_config(tmp_path / "task.yaml").data.label == "Quality"


def test_an_adapter_is_told_as_one(tmp_path: Path, init) -> None:
    run = tmp_path / "runs" / "r"
    run.mkdir(parents=True)
    (run / "adapter_config.json").write_text("{}")
    (run / "adapter_model.safetensors").write_bytes(b"")
    said = init(tmp_path, expect=2)
    assert "r: a LoRA adapter, no model; merge it into its base first" in said
    assert "weights without config.json" not in said


def test_the_next_command_can_be_pasted_whatever_the_folder_is_called(tmp_path: Path, monkeypatch, capsys) -> None:
    tiny_fine_tunes(tmp_path / "-my runs", tiny_classifier(tmp_path / "base"), 2)
    table(tmp_path / "dev.tsv")
    monkeypatch.chdir(tmp_path)
    assert exit_code(["init", "--", "-my runs"]) == 0
    assert "stockpot compare './-my runs/*' --task task.yaml" in capsys.readouterr().out
