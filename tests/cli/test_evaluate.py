"""`soup` and `compare` with a user's own function: results, the journal, interruptions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from stockpot import read_soup
from stockpot.cli.entry import exit_code

EVALUATE = """
    from pathlib import Path
    import numpy as np
    import stockpot

    def log(soup):
        with open("calls.txt", "a") as file:
            file.write("+".join(i.name for i in soup.ingredients) + "\\n")

    def score(soup):
        log(soup)
        weight = stockpot.materialize(soup)["head.weight"].numpy()
        return -float(abs(weight - 0.1).mean())

    def not_finite(soup):
        log(soup)
        return float("nan")

    def raises_later(soup):
        if len(soup.ingredients) > 1 and not Path("mended").exists():
            raise RuntimeError("cannot do soups")
        return score(soup)

    def not_finite_later(soup):
        value = score(soup)
        return value if soup.ingredients[0].name == "a" or Path("mended").exists() else float("inf")

    def leaves(soup):
        raise SystemExit("I am off")

    def slow(soup):
        value = score(soup)
        if len(soup.ingredients) > 1 and not Path("mended").exists():
            Path("waiting").touch()
            import time
            time.sleep(600)
        return value
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A working folder with a module of its own name, so that tests do not share an imported one."""
    name = f"my_eval_{abs(hash(request.node.name)) % 10**9}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(EVALUATE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path / name


def calls(here: Path) -> list[str]:
    file = here.parent / "calls.txt"
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.parametrize("recipe", ["best", "uniform", "greedy", "greedy_given", "greedy_random"])
def test_soup_is_written_and_remembered(stockpot, checkpoints, here, recipe) -> None:
    command = ["soup", "*.safetensors", "--evaluate", f"{here.name}:score", "--recipe", recipe, "-o", "out"]
    done = stockpot(*command)
    assert done.code == 0, done
    soup = read_soup("out")
    assert soup.recipe == recipe
    assert "head.weight" in load_file("out/model.safetensors")
    assert (here.parent / "out" / "README.md").exists()
    asked = calls(here)
    assert len(asked) == len(set(asked))  # nothing twice
    again = stockpot(*command)
    assert again.code == 0
    assert calls(here) == asked
    assert again.out.splitlines()[-1] == done.out.splitlines()[-1]


def test_a_budget_is_kept_recorded_and_said(stockpot, checkpoints, here) -> None:
    command = ["soup", "*.safetensors", "--evaluate", f"{here.name}:score", "-o"]
    done = stockpot(*command, "short", "--max-evaluations", "1")
    k = len(list(here.parent.glob("*.safetensors")))
    assert f"(approximate: 1 of {k - 1} candidates were evaluated)" in done.out.splitlines()[-1]
    assert json.loads(Path("short/soup.json").read_text())["approximate"] is True
    assert read_soup("short").approximate
    assert len(read_soup("short").steps) == 2
    again = stockpot(*command, "short", "--max-evaluations", "1")
    assert again.out.splitlines()[-1] == done.out.splitlines()[-1]
    assert stockpot(*command, "short").code == 2  # another search than the one that lies there
    whole = stockpot(*command, "whole", "--max-evaluations", str(k - 1))
    assert "approximate" not in whole.out
    assert "approximate" not in Path("whole/soup.json").read_text()


def test_greedy_is_never_below_best(stockpot, checkpoints, here) -> None:
    for recipe in ("best", "greedy"):
        assert stockpot("soup", "*.safetensors", "--evaluate", f"{here.name}:score", "--recipe", recipe, "-o", recipe)
    kept = [step.score.value for step in read_soup("greedy").steps if step.accepted]
    assert kept[-1] >= max(step.score.value for step in read_soup("best").steps)


def test_sources_are_relative_to_the_soup(stockpot, checkpoints, here) -> None:
    assert stockpot("soup", *checkpoints, "--evaluate", f"{here.name}:score", "-o", "out").code == 0
    text = (here.parent / "out" / "soup.json").read_text()
    assert str(here.parent) not in text
    assert {entry["source"] for entry in json.loads(text)["ingredients"]} <= {f"../{n}.safetensors" for n in "abc"}


def test_compare(stockpot, checkpoints, here) -> None:
    done = stockpot("compare", "*.safetensors", "--evaluate", f"{here.name}:score", "-o", "table")
    assert done.code == 0, done
    results = json.loads((here.parent / "table" / "results.json").read_text())
    assert [row["method"] for row in results["rows"]] == [
        "best", "second_best", "mean_individual", "uniform", "greedy", "greedy_random"
    ]  # fmt: skip
    assert all(set(row["scores"]) == {"held_out"} for row in results["rows"])
    asked = calls(here)
    again = stockpot("compare", "*.safetensors", "--evaluate", f"{here.name}:score", "-o", "table")
    assert done.out.endswith(again.out)  # the finished table, without the steps that led to it
    assert calls(here) == asked


def test_metric_not_finite(stockpot, checkpoints, here) -> None:
    done = stockpot("soup", "*.safetensors", "--evaluate", f"{here.name}:not_finite", "-o", "out")
    assert done.code == 2
    assert "nan" in done.err
    assert "soup of a" in done.err
    assert not (here.parent / "out" / "soup.json").exists()


def test_metric_not_finite_loses_no_score(stockpot, checkpoints, here) -> None:
    command = ["soup", "*.safetensors", "--evaluate", f"{here.name}:not_finite_later", "-o", "out"]
    done = stockpot(*command)
    assert done.code == 2
    assert "inf" in done.err
    assert "soup of b" in done.err
    assert calls(here) == ["a", "b"]
    (here.parent / "mended").touch()
    assert stockpot(*command).code == 0
    assert calls(here)[:4] == ["a", "b", "b", "c"]


def test_a_function_that_exits_is_no_success(stockpot, checkpoints, here) -> None:
    done = stockpot("soup", "*.safetensors", "--evaluate", f"{here.name}:leaves", "-o", "out")
    assert done.code == 1
    assert "I am off" in done.err


def test_evaluate_raises_and_the_journal_keeps_what_was_done(stockpot, checkpoints, here) -> None:
    command = ["soup", "*.safetensors", "--evaluate", f"{here.name}:raises_later", "-o", "out"]
    done = stockpot(*command)
    assert done.code == 2
    assert "RuntimeError" in done.err
    assert "cannot do soups" in done.err
    assert sorted(calls(here)) == ["a", "b", "c"]
    (here.parent / "mended").touch()
    assert stockpot(*command).code == 0
    assert sorted(calls(here)[:3]) == ["a", "b", "c"]
    assert all("+" in call for call in calls(here)[3:])  # the individuals are not asked again


def test_another_experiment_in_the_folder(stockpot, checkpoints, here) -> None:
    assert stockpot("soup", *checkpoints, "--evaluate", f"{here.name}:score", "-o", "out").code == 0
    done = stockpot("soup", *checkpoints, "--evaluate", f"{here.name}:score", "--recipe", "uniform", "-o", "out")
    assert done.code == 2
    assert "recipe" in done.err
    assert "--fresh" in done.err
    assert read_soup("out").recipe == "greedy"
    fresh = stockpot(
        "soup", *checkpoints, "--evaluate", f"{here.name}:score", "--recipe", "uniform", "-o", "out", "--fresh"
    )
    assert fresh.code == 0
    assert read_soup("out").recipe == "uniform"


def test_changed_ingredients_are_named_one_by_one(stockpot, checkpoints, here) -> None:
    options = ["--evaluate", f"{here.name}:score", "-o", "out"]
    assert stockpot("soup", *checkpoints, *options).code == 0
    done = stockpot("soup", checkpoints[0], checkpoints[2], *options)
    assert done.code == 2
    assert 'ingredients.2: "b ' in done.err
    assert 'ingredients.3: "c ' in done.err
    assert "absent now" in done.err
    assert "ingredients.1" not in done.err


@pytest.mark.parametrize("command", ["soup", "compare"])
def test_a_changed_function_does_not_get_the_old_result(stockpot, checkpoints, here, command) -> None:
    module = here.with_suffix(".py")
    arguments = [command, *checkpoints, "--evaluate", f"{here.name}:score", "-o", "out"]
    assert stockpot(*arguments).code == 0
    module.write_text(module.read_text() + "\n# changed\n")
    done = stockpot(*arguments)
    assert done.code == 2
    assert f"another version of {here.name}:score" in done.err
    n_before = len(calls(here))
    assert stockpot(*arguments, "--fresh").code == 0
    assert len(calls(here)) > n_before
    assert stockpot(*arguments).code == 0


@pytest.mark.parametrize("command", ["soup", "compare"])
def test_fresh_never_deletes_what_is_being_read(stockpot, checkpoints, here, command) -> None:
    assert stockpot("soup", *checkpoints, "--evaluate", f"{here.name}:score", "-o", "out").code == 0
    before = (here.parent / "out" / "model.safetensors").read_bytes()
    done = stockpot(command, "out", checkpoints[0], "--evaluate", f"{here.name}:score", "-o", "out", "--fresh")
    assert done.code == 2
    assert "needed: out" in done.err
    assert (here.parent / "out" / "model.safetensors").read_bytes() == before


def test_a_soup_can_be_cooked_again_elsewhere(stockpot, checkpoints, here) -> None:
    assert stockpot("soup", *checkpoints, "--evaluate", f"{here.name}:score", "-o", "first").code == 0
    done = stockpot("mix", "first", checkpoints[0], "-o", "second")
    assert done.code == 0
    assert not (here.parent / "second" / "experiment.json").exists()  # belongs to the folder it was made in


def test_compare_takes_some_recipes(stockpot, checkpoints, here) -> None:
    done = stockpot("compare", *checkpoints, "--evaluate", f"{here.name}:score", "--only", "uniform", "-o", "out")
    assert done.code == 0
    results = json.loads((here.parent / "out" / "results.json").read_text())
    assert [row["method"] for row in results["rows"]] == ["best", "second_best", "mean_individual", "uniform"]
    refused = stockpot("compare", *checkpoints, "--evaluate", f"{here.name}:score", "--only", "best")
    assert refused.code == 2
    assert "always in the table" in refused.err


def test_another_recipe_is_added_to_the_papers_rows_and_nothing_is_evaluated_twice(stockpot, checkpoints, here) -> None:
    command = ["compare", *checkpoints, "--evaluate", f"{here.name}:score", "-o", "out"]
    assert stockpot(*command).code == 0
    before = json.loads(Path("out/results.json").read_text())
    assert stockpot(*command, "--recipe", "top_k").code == 0
    after = json.loads(Path("out/results.json").read_text())
    assert [row["method"] for row in after["rows"]] == [*(row["method"] for row in before["rows"]), "top_k"]
    assert after["rows"][: len(before["rows"])] == before["rows"]
    assert stockpot(*command).code == 0
    assert json.loads(Path("out/results.json").read_text()) == before


def test_compare_takes_the_number_of_random_orders(stockpot, checkpoints, here) -> None:
    command = ["compare", *checkpoints, "--evaluate", f"{here.name}:score", "--only", "greedy_random"]
    for number in (1, 5):
        done = stockpot(*command, "--random-orders", str(number), "-o", f"out{number}")
        assert done.code == 0
        results = json.loads(Path(f"out{number}/results.json").read_text())
        (row,) = [row for row in results["rows"] if row["method"] == "greedy_random"]
        assert row["scores"]["held_out"]["n_orders"] == number
    assert stockpot(*command, "--random-orders", "0").code == 2
    # Another number is another table of the same evaluations.
    assert stockpot(*command, "--random-orders", "4", "-o", "out5").code == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--recipe", "uniform", "--fold"], "uniform learns nothing"),
        (["--recipe", "greedy", "--learned", "least_steps=60"], "greedy learns nothing"),
        (["--recipe", "uniform", "--minimum-gain", "0.1"], "accepts nothing step by step"),
        (["--recipe", "greedy", "--significance", "1.5"], "no p between 0 and 1"),
    ],
)
def test_options_that_nothing_would_follow_are_refused(stockpot, checkpoints, here, options, says) -> None:
    done = stockpot("soup", *checkpoints, "--evaluate", f"{here.name}:score", *options, "-o", "out")
    assert done.code == 2
    assert says in done.err
    assert calls(here) == []


def test_a_minimum_gain_is_part_of_the_search_and_of_its_identity(stockpot, checkpoints, here) -> None:
    command = ["soup", *checkpoints, "--evaluate", f"{here.name}:score", "-o", "out"]
    assert stockpot(*command, "--minimum-gain", "1000").code == 0
    assert len(read_soup(here.parent / "out").ingredients) == 1
    assert stockpot(*command).code == 2


def test_individual_scores_are_told_before_the_recipe_decides(stockpot, checkpoints, here) -> None:
    lines = stockpot("soup", *checkpoints, "--evaluate", f"{here.name}:score", "-o", "out").out.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["[1/3] a", "[2/3] b", "[3/3] c"]
    assert all(line.startswith("greedy: + ") for line in lines[3:6])


def test_debug_shows_the_cause(checkpoints, here, capsys) -> None:
    arguments = ["soup", "a.safetensors", "b.safetensors", "--evaluate", f"{here.name}:raises_later", "-o", "out"]
    assert exit_code([*arguments, "--debug"]) == 2
    shown = capsys.readouterr().err
    assert 'raise RuntimeError("cannot do soups")' in shown
    assert "stockpot.errors.EvaluationError" in shown


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "neither was given"),
        (["--evaluate", "math:sqrt", "--task", "task.yaml"], "both were given"),
        (["--evaluate", "math:sqr"], "did you mean math:sqrt?"),
        (["--evaluate", "my/eval.py:score"], "for example my.eval:score"),
        ([], "either a task or an evaluate"),
        (["--evaluate", "nonsense"], "module:function"),
        (["--evaluate", "no_such_module_here:f"], "no_such_module_here"),
        (["--evaluate", "math:no_such"], "no_such"),
        (["--evaluate", "math:sqrt", "--recipe", "gredy"], "gredy"),
        (["--evaluate", "math:sqrt", "--recipe", "ensemble"], "ensemble"),
        (["--evaluate", "math:sqrt", "--recipe", "best", "--max-evaluations", "3"], "only greedy takes a budget"),
        (["--evaluate", "math:sqrt", "--max-evaluations", "0"], "max-evaluations"),
    ],
)
def test_wrong_options(stockpot, checkpoints, here, options, says) -> None:
    done = stockpot("soup", "*.safetensors", "-o", "out", *options)
    assert done.code == 2
    assert says in done.err
    assert not (here.parent / "out").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 KiB: room for a journal, not for what is to be written into it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24k", "none", folder], check=False)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if mounted.returncode:
        pytest.skip("may not mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_full_disk_then_the_same_command(stockpot, checkpoints, here, small_disk) -> None:
    command = ["soup", *checkpoints, "--evaluate", f"{here.name}:score", "-o", small_disk / "out"]
    done = stockpot(*command)
    assert done.code == 2
    assert "full" in done.err
    assert str(small_disk / "out") in done.err
    assert not (small_disk / "out" / "soup.json").exists()
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    done = stockpot(*command)
    assert done.code == 0, done
    assert read_soup(small_disk / "out").recipe == "greedy"


def test_a_terminal_without_the_letters_of_a_name(checkpoints, here) -> None:
    checkpoints[0].rename(here.parent / "é.safetensors")
    done = subprocess.run(
        [sys.executable, "-m", "stockpot", "compare", "é.safetensors", "--evaluate", f"{here.name}:score"],
        cwd=here.parent,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done
    assert b"[1/1] \\xe9: score" in done.stdout


def start(here: Path) -> subprocess.Popen[str]:
    command = ["soup", "a.safetensors", "b.safetensors", "--evaluate", f"{here.name}:slow", "-o", "out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "stockpot", *command],
        cwd=here.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(here.parent)},
    )
    deadline = time.monotonic() + 120
    while not (here.parent / "waiting").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def test_ctrl_c_then_the_same_command_and_a_second_process(stockpot, checkpoints, here) -> None:
    process = start(here)
    second = stockpot("soup", "a.safetensors", "b.safetensors", "--evaluate", f"{here.name}:slow", "-o", "out")
    assert second.code == 2
    assert str(process.pid) in second.err
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "run the same command again" in err
    assert not (here.parent / "out" / "soup.json").exists()
    (here.parent / "mended").touch()
    before = calls(here)
    done = stockpot("soup", "a.safetensors", "b.safetensors", "--evaluate", f"{here.name}:slow", "-o", "out")
    assert done.code == 0, done
    assert len(calls(here)) == len(before) + 1  # only the soup that was interrupted
