"""Paths, globs and ingredients to ingredients: order, names, settings; nothing dropped without a word."""

from __future__ import annotations

import json

import pytest

from stockpot.checkpoints import ingredients
from stockpot.errors import CheckpointError
from stockpot.types import Ingredient


@pytest.fixture
def runs(tmp_path):
    for name in ("b", "a", "c"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "model.safetensors").write_bytes(b"x")
    return tmp_path / "runs"


def names(*sources, **options):
    return [ingredient.name for ingredient in ingredients(*sources, **options)]


def test_order_is_as_given_and_globs_are_sorted(runs):
    assert names(runs / "c", runs / "a") == ["c", "a"]
    assert names(f"{runs}/*") == ["a", "b", "c"]
    assert names(f"{runs}/*", runs / "b") == ["a", "b", "c", "b#2"]
    assert names([runs / "b", [runs / "a"]], (str(runs / "c"),)) == ["b", "a", "c"]
    assert names(iter([runs / "b"])) == ["b"]


def test_sources_stay_as_given(runs, monkeypatch):
    monkeypatch.chdir(runs)
    assert [ingredient.source for ingredient in ingredients("a", "./b", "c*")] == ["a", "./b", "c"]
    assert names(".//a", runs / "a") == ["a", "a#2"]
    (runs / "model.safetensors").write_bytes(b"x")
    assert names(".") == ["runs"]


def test_names_are_the_shortest_endings_that_differ(tmp_path):
    def touch(*paths):
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(b"x")
        return [tmp_path / path for path in paths]

    assert names(touch("lr3e-5.pt", "lr1e-4.pt")) == ["lr3e-5", "lr1e-4"]
    assert names(touch("a/m.pt", "b/m.pt", "c/n.pt")) == ["a/m", "b/m", "n"]
    assert names(touch("x/1/m.pt", "x/2/m.pt", "y/1/m.pt")) == ["x/1/m", "2/m", "y/1/m"]
    assert names(touch("a/m.pt", "a/m.safetensors")) == ["m.pt", "m.safetensors"]
    assert names(touch("v1.5/model.safetensors", "v1.6/model.safetensors")) == ["v1.5/model", "v1.6/model"]


def test_a_folder_with_a_dot_keeps_its_name(tmp_path):
    (tmp_path / "lr0.1").mkdir()
    (tmp_path / "lr0.1" / "model.safetensors").write_bytes(b"x")
    assert names(tmp_path / "lr0.1") == ["lr0.1"]


def test_ingredients_pass_through(runs):
    given = Ingredient("mine", "nowhere", digest="d", key="k")
    found = ingredients(given, runs / "a", key="ema")
    assert found[0] is given
    assert found[1].key == "ema"


def test_a_glob_passes_over_what_is_obviously_no_checkpoint(runs):
    for name in ("README.md", "results.json", "table.csv", "train.log", "a.py", "notes.txt", "x.yaml", "optimizer.pt"):
        (runs / name).write_bytes(b"x")
    assert names(f"{runs}/*") == ["a", "b", "c"]


def test_a_glob_drops_nothing_else_without_a_word(runs):
    (runs / "logs").mkdir()
    (runs / "model.gguf").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="2 of 5 matches hold no weights") as caught:
        ingredients(f"{runs}/*")
    assert caught.value.problems == (str(runs / "logs"), str(runs / "model.gguf"))


def test_every_bad_source_is_listed_at_once(runs):
    with pytest.raises(CheckpointError, match="3 sources cannot be used") as caught:
        ingredients(f"{runs}/z*", runs / "a", runs / "aa", runs)
    text = str(caught.value)
    assert "matches nothing" in text
    assert f"did you mean {runs / 'a'}?" in text
    assert "its subfolders hold weights" in text


@pytest.mark.parametrize("sources", [(), ([],), ([[], []],)])
def test_no_source_is_refused(sources):
    with pytest.raises(CheckpointError, match="no ingredients"):
        ingredients(*sources)


def test_a_glob_of_no_checkpoints_is_refused(runs):
    (runs / "README.md").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="its 1 matches are no checkpoints"):
        ingredients(f"{runs}/*.md")


def test_a_path_with_brackets_is_meant_as_it_stands(tmp_path):
    (tmp_path / "a[1]").mkdir()
    (tmp_path / "a[1]" / "model.safetensors").write_bytes(b"x")
    assert names(tmp_path / "a[1]") == ["a[1]"]


def test_shards_do_not_become_ingredients(tmp_path, write_sharded):
    folder = write_sharded(tmp_path / "model", [{"a": 1}, {"b": 1}])
    with pytest.raises(CheckpointError, match="is one shard of the model"):
        ingredients(f"{folder}/*.safetensors")


def test_settings_come_from_the_run(runs):
    (runs / "a" / "run.json").write_text(json.dumps({"settings": {"learning_rate": 3e-5}}))
    (runs / "b" / "run.json").write_text("somebody else's")
    (runs / "c" / "run.json").write_text('{"settings": 3}')
    assert [ingredient.settings for ingredient in ingredients(f"{runs}/*")] == [{"learning_rate": 3e-5}, {}, {}]


def test_every_bad_match_of_a_glob_is_listed(runs):
    for name in ("a", "b"):
        (runs / name / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match="2 sources cannot be used"):
        ingredients(f"{runs}/*")
