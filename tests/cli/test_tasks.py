"""`soup`, `compare` and `run` with a task: bad input that needs data and a real (tiny) model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiny_models import tiny_classifier, tiny_experiment, tiny_fine_tunes, tiny_task


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_fine_tunes(folder, tiny_classifier(folder / "base"), 2)
    return folder


def changed(path: Path, change) -> Path:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_compare_and_soup(stockpot, models, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = tiny_task(tmp_path)
    done = stockpot(
        "compare", models / "run-*", "--task", task, "--initialisation", models / "base", "-o", "table",
        "--learned", "least_steps=10", "--learned", "check_every=5",
    )  # fmt: skip
    assert done.code == 0, done
    rows = json.loads(Path("table/results.json").read_text())["rows"]
    assert [row["method"] for row in rows] == [
        "initialisation", "best", "second_best", "mean_individual", "uniform", "greedy", "greedy_random", "learned",
        "learned_by_layer", "ensemble", "greedy_ensemble",
    ]  # fmt: skip
    header, *lines = Path("table/results.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == [row["method"] for row in rows]
    assert "ece_scaled:shift_mean" in header
    assert "\\toprule" in Path("table/results.tex").read_text()
    assert "## Calibration" in Path("table/results.md").read_text()
    assert stockpot("soup", models / "run-*", "--task", task, "-o", "out").code == 0
    again = stockpot("compare", "out", "--task", task)
    assert again.code == 0
    assert "nothing was kept" in again.err
    from transformers import AutoModelForSequenceClassification

    AutoModelForSequenceClassification.from_pretrained("out")


def test_label_unknown_to_the_model(refused, models, tmp_path) -> None:
    task = tiny_task(tmp_path)
    rows = (tmp_path / "rows.tsv").read_text().replace("games\t", "gmes\t")
    (tmp_path / "rows.tsv").write_text(rows)
    message = refused("compare", models / "run-0", "--task", task)
    assert "gmes" in message
    assert "games" in message


def test_held_out_and_test_share_rows(stockpot, models, tmp_path) -> None:
    task = tiny_task(tmp_path, shifts=False)
    lines = (tmp_path / "rows.tsv").read_text().splitlines()
    (tmp_path / "test.tsv").write_text("\n".join([lines[0], *lines[1:]]) + "\n")
    changed(task, lambda c: c["data"].update(test={"file": "test.tsv"}, train=None, held_out={"file": "rows.tsv"}))
    done = stockpot("compare", models / "run-0", "--task", task)
    assert done.code == 2
    assert "120" in done.err
    assert "allow_overlap" in done.err
    changed(task, lambda c: c["data"].update(allow_overlap=True))
    assert stockpot("compare", models / "run-0", "--task", task).code == 0


def test_unknown_key_names_the_nearest(refused, models, tmp_path) -> None:
    task = changed(tiny_task(tmp_path), lambda c: (c.update(metrics="accuracy"), c["data"].update(txt="text")))
    message = refused("compare", models / "run-0", "--task", task)
    assert "metrics" in message
    assert "'metric'" in message
    assert "data.txt" in message


def test_a_folder_without_configuration(refused, tmp_path, checkpoints) -> None:
    (tmp_path / "bare").mkdir()
    checkpoints[0].rename(tmp_path / "bare" / "model.safetensors")
    message = refused("compare", tmp_path / "bare", "--task", tiny_task(tmp_path))
    assert "config.json" in message
    assert "model:" in message


def test_another_architecture(refused, models, tmp_path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    other = BertForSequenceClassification(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    other.save_pretrained(tmp_path / "other")
    task = changed(tiny_task(tmp_path), lambda c: c.update(model=str(models / "base")))
    message = refused("compare", tmp_path / "other", "--task", task)
    assert "not those of the model" in message
    assert "bert.encoder.layer.1.attention.self.query.weight: in the model, not in the checkpoint" in message


def test_run_refuses_changed_keys_and_missing_data(stockpot, tmp_path) -> None:
    experiment = tiny_experiment(tmp_path / "e", runs=1)
    changed(experiment, lambda c: c["sweep"]["space"].update(epochs="many", learning_rte=0.1))
    done = stockpot("run", experiment, "-o", tmp_path / "out")
    assert done.code == 2
    assert "sweep.space.epochs" in done.err
    assert "learning_rate" in done.err
    assert not (tmp_path / "out").exists()


def test_a_learned_soup_is_folded_into_a_model_that_needs_no_code(stockpot, models, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = tiny_task(tmp_path)
    learned = ("--recipe", "learned_by_layer", "--learned", "least_steps=20", "--learned", "batch_size=16")
    assert stockpot("soup", models / "run-*", "--task", task, *learned, "-o", "plain").code == 0
    assert stockpot("soup", models / "run-*", "--task", task, *learned, "--fold", "-o", "folded").code == 0
    plain, folded = (json.loads(Path(name, "soup.json").read_text()) for name in ("plain", "folded"))
    assert plain["logit_scale"] != 1.0
    assert folded["logit_scale"] == 1.0
    assert plain["curve"] == folded["curve"]
    assert [point["label"] for point in plain["curve"]][:2] == ["uniform", "only run-0"]
    assert stockpot("verify", "folded", "--tensors").code == 0
    assert stockpot("rebuild", "folded", "-o", "again").code == 0
    assert Path("again/model.safetensors").read_bytes() == Path("folded/model.safetensors").read_bytes()


def test_settings_of_learned_soups_are_checked(refused, models, tmp_path) -> None:
    task = tiny_task(tmp_path)
    message = refused(
        "soup", models / "run-*", "--task", task, "--recipe", "learned", "-o", tmp_path / "o",
        "--learned", "batchsize=16", "--learned", "epochs=0",
    )  # fmt: skip
    assert "did you mean 'batch_size'?" in message
    assert "epochs: got 0; allowed: a number >= 1" in message
    broken = ("soup", models / "run-*", "--task", task, "-o", tmp_path / "o", "--learned", "batch_size")
    assert "--learned takes NAME=VALUE" in refused(*broken)


def test_learned_soups_need_a_task(stockpot, models, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scores.py").write_text("def evaluate(soup):\n    return 0.5\n")
    monkeypatch.syspath_prepend(tmp_path)
    done = stockpot("soup", models / "run-*", "--evaluate", "scores:evaluate", "--recipe", "learned", "-o", "o")
    assert done.code == 2
    assert "needs gradients of the held-out loss" in done.err


def test_best_of_keeps_the_best_single_model_where_nothing_is_gained(stockpot, models, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = stockpot(
        "soup", models / "run-*", "--task", tiny_task(tmp_path), "--recipe", "uniform", "--best-of", "-o", "o"
    )
    assert done.code == 0, done
    assert "does not beat the best single model beyond noise" in done.out
    record = json.loads(Path("o/soup.json").read_text())
    assert record["recipe"] == "best"
    assert len(record["ingredients"]) == 1
    # What was not taken leaves its reason in the record, in the card, and in what is rebuilt.
    (note,) = record["notes"]
    assert note.startswith("best_of: uniform does not beat the best single model")
    assert "best single model beyond noise" in Path("o/README.md").read_text()
    assert stockpot("rebuild", "o", "-o", "again").code == 0
    assert json.loads(Path("again/soup.json").read_text())["notes"] == [note]


def test_another_metric_and_recipe_need_no_new_predictions(stockpot, models, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = tiny_task(tmp_path)
    command = ["compare", models / "run-*", "--task", task, "--only", "uniform", "-o", "c"]
    assert stockpot(*command).code == 0
    monkeypatch.setattr(
        "stockpot.tasks.text.TextClassification.predict", lambda *_, **__: pytest.fail("predicted a second time")
    )
    task.write_text(json.dumps(json.loads(task.read_text()) | {"metric": "nll"}))
    assert stockpot(*command, "--recipe", "ensemble").code == 0
    results = json.loads(Path("c/results.json").read_text())
    assert results["metric"] == "nll"
    assert [row["method"] for row in results["rows"]][-2:] == ["uniform", "ensemble"]
    assert [one["name"] for one in results["individuals"]] == ["run-0", "run-1"]
    assert set(results["individuals"][0]["scores"]) == set(results["rows"][0]["scores"])


def test_too_few_examples_to_learn_from_are_found_first(stockpot, models, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = tiny_task(tmp_path)
    content = json.loads(task.read_text())
    content["data"]["held_out"] = {"rows": 1}
    task.write_text(json.dumps(content))
    for command in (["compare", "-o", "c"], ["soup", "--recipe", "learned", "-o", "s"]):
        done = stockpot(command[0], models / "run-*", "--task", task, *command[1:])
        assert done.code == 2
        assert "needs at least 2 held-out examples, not 1" in done.err
        assert "accuracy 0" not in done.out + done.err
    done = stockpot("compare", models / "run-*", "--task", task, "--only", "uniform")
    assert "All held-out examples have the same label" in done.out


def test_a_logit_scale_that_an_ingredient_would_lose_is_told(stockpot, models, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert stockpot("mix", models / "run-*", "-o", "learned").code == 0
    record = json.loads(Path("learned/soup.json").read_text()) | {"logit_scale": 0.686}
    Path("learned/soup.json").write_text(json.dumps(record))
    done = stockpot("mix", "learned", models / "run-0", "-o", "mixed")
    assert "learned: its logit scale 0.686 stands in soup.json, not in its weights" in done.err


def test_best_of_needs_values_by_example(stockpot, models, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plain.py").write_text("def evaluate(soup):\n    return float(len(soup.ingredients))\n")
    monkeypatch.syspath_prepend(tmp_path)
    done = stockpot("soup", models / "run-*", "--evaluate", "plain:evaluate", "--best-of", "-o", "o")
    assert done.code == 2
    assert "paired test needs an evaluation by example" in done.err


@pytest.mark.parametrize("recipe", ["pruned", "top_k", "interpolate", "model_stock"])
def test_every_recipe_of_the_follow_ups_writes_a_model(stockpot, models, tmp_path, monkeypatch, recipe) -> None:
    monkeypatch.chdir(tmp_path)
    start = ("--initialisation", models / "base") if recipe in {"interpolate", "model_stock"} else ()
    done = stockpot("soup", models / "run-*", "--task", tiny_task(tmp_path), "--recipe", recipe, *start, "-o", "o")
    assert done.code == 0, done
    assert json.loads(Path("o/soup.json").read_text())["recipe"] == recipe
    assert stockpot("verify", "o", "--tensors").code == 0


def test_follow_ups_stand_in_the_table_when_named(stockpot, models, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["pruned", "top_k", "interpolate", "model_stock"]
    chosen = [argument for name in names for argument in ("--recipe", name)]
    start = ("--initialisation", models / "base", "--learned", "least_steps=8", "--learned", "epochs=1")
    done = stockpot("compare", models / "run-*", "--task", tiny_task(tmp_path), *start, *chosen, "-o", "t")
    assert done.code == 0, done
    rows = [row["method"] for row in json.loads(Path("t/results.json").read_text())["rows"]]
    assert rows[-4:] == names
    without = stockpot("compare", models / "run-*", "--task", tiny_task(tmp_path), *chosen, "-o", "u")
    assert without.code == 2
    assert "--initialisation" in without.err
