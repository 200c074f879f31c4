"""The journal: the same question has the same answer for ever, and nothing that was computed is lost."""

from __future__ import annotations

import math
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.errors import EvaluationError, OutputError
from stockpot.journal import Journal, identity_of_callable, remember, remember_predictions, soup_key
from stockpot.journal.keys import incumbent_key
from stockpot.types import Coefficients, Incumbent, Ingredient, Predictions, Score, Soup, Step

KEY, OTHER = "0a" * 32, "0b" * 32


def an_ingredient(name: str) -> Ingredient:
    return Ingredient(name, f"runs/{name}", digest=f"digest of {name}")


def a_soup(names: str = "ab", **changes: Any) -> Soup:
    soup = Soup(tuple(map(an_ingredient, names)), Coefficients.equal(len(names)), "uniform")
    return replace(soup, **changes)


def abandoned(at_most: float) -> Score:
    return Score(math.nan, n_examples=100, n_evaluated=10, at_most=at_most)


def exactly(score: Score | None) -> str:
    """A score with every bit of its numbers, nan included."""
    return repr(score)


# --- keys ----------------------------------------------------------------------------------------------------------

GROUPS = Coefficients(((0.5, 0.5), (1.0, 0.0)), (("w",), ("b",)))


@pytest.mark.parametrize(
    "other",
    [
        a_soup("ba"),
        a_soup("abc"),
        a_soup("a"),
        a_soup(combine="logits"),
        a_soup(logit_scale=math.nextafter(1.0, 2.0)),
        a_soup(coefficients=Coefficients.of([0.5, math.nextafter(0.5, 1.0)])),
        a_soup(coefficients=Coefficients.of([1.0, 0.0])),
        a_soup(coefficients=GROUPS),
        a_soup(coefficients=replace(GROUPS, groups=(("w", "b"), ()))),
        a_soup(ingredients=(an_ingredient("a"), replace(an_ingredient("b"), key="ema"))),
    ],
)
def test_whatever_changes_the_result_changes_the_key(other: Soup) -> None:
    assert soup_key(other, "task") != soup_key(a_soup(), "task")
    assert soup_key(other, "task") == soup_key(other, "task")


def test_what_changes_no_number_changes_no_key() -> None:
    soup = a_soup()
    moved = tuple(replace(i, name="x", source="elsewhere", settings={"lr": 1}) for i in soup.ingredients)
    log = (Step(moved[0], Score(0.5), True),)
    assert soup_key(a_soup(ingredients=moved, recipe="greedy", steps=log), "t") == soup_key(soup, "t")


def test_the_task_is_part_of_the_key() -> None:
    assert soup_key(a_soup(), "held-out") != soup_key(a_soup(), "test")


def test_ingredients_without_a_digest_are_all_named() -> None:
    soup = a_soup(ingredients=(an_ingredient("a"), Ingredient("b", "runs/b")))
    with pytest.raises(EvaluationError, match="1 of 2") as caught:
        soup_key(soup, "task")
    assert caught.value.problems == ("b: runs/b",)


def test_the_question_is_part_of_the_incumbents_key() -> None:
    incumbent = Incumbent(a_soup("a"), Score(0.5))
    others = [
        None,
        replace(incumbent, soup=a_soup("b")),
        replace(incumbent, score=Score(0.51)),
        replace(incumbent, minimum_gain=0.1),
        replace(incumbent, strict=True),
    ]
    assert len({incumbent_key(other, "task") for other in [incumbent, *others]}) == 6
    assert incumbent_key(None, "task") == ""


# --- identity of a callable ----------------------------------------------------------------------------------------


def import_from(folder: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    (folder / "user_eval.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "user_eval", raising=False)
    import user_eval  # type: ignore[import-not-found]

    return user_eval


def test_a_changed_source_is_another_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_from(tmp_path, "def evaluate(soup):\n    return 0.5\n", monkeypatch)
    before = identity_of_callable(module.evaluate, "user_eval:evaluate")
    assert before is not None
    assert before == identity_of_callable(module.evaluate, "user_eval:evaluate")
    (tmp_path / "user_eval.py").write_text("def evaluate(soup):\n    return 0.6\n")
    assert identity_of_callable(module.evaluate, "user_eval:evaluate") != before


def test_a_version_is_part_of_the_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_from(tmp_path, "def evaluate(soup):\n    return 0.5\n", monkeypatch)
    plain = identity_of_callable(module.evaluate, "user_eval:evaluate")
    module.evaluate.version = "2"
    assert identity_of_callable(module.evaluate, "user_eval:evaluate") == f"{plain} version=2"


def test_objects_and_partials_made_by_their_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        "import functools, json\n"
        "class Evaluator:\n    def __call__(self, soup):\n        return 0.5\n"
        "evaluate = Evaluator()\npartial = functools.partial(json.dumps, indent=2)\n"
    )
    module = import_from(tmp_path, source, monkeypatch)
    assert identity_of_callable(module.evaluate, "user_eval:evaluate") is not None
    assert identity_of_callable(module.partial, "user_eval:partial") is not None


def test_what_no_file_vouches_for_has_no_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_from(tmp_path, "def make(x):\n    return lambda soup: x\n", monkeypatch)
    assert identity_of_callable(module.make(1), "user_eval:make.<locals>.<lambda>") is None
    assert identity_of_callable(module.make(1), "user_eval:make") is None
    assert identity_of_callable(module.make, "no_such_module:make") is None
    assert identity_of_callable(math.sqrt, "math:sqrt") is None


# --- what is kept --------------------------------------------------------------------------------------------------

numbers = st.floats(allow_nan=False, allow_infinity=False)
scores = st.builds(
    Score,
    numbers,
    stderr=st.none() | numbers,
    n_examples=st.none() | st.integers(0, 2**40),
    n_evaluated=st.none() | st.integers(0, 2**40),
    at_most=st.none() | numbers,
    metric=st.text(max_size=5),
    higher_is_better=st.booleans(),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Journal:
    return Journal(tmp_path_factory.mktemp("journal"))


@given(scores)
@settings(deadline=None, derandomize=True, max_examples=40)
def test_scores_come_back_to_the_bit(shared: Journal, score: Score) -> None:
    shared.keep_score(KEY, score, {})
    assert exactly(shared.score(KEY)) == exactly(score)


def test_abandoned_scores_belong_to_their_question(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.keep_score(KEY, abandoned(0.4), {}, rival="r1")
        assert journal.score(KEY) is None
        assert exactly(journal.score(KEY, rival="r1")) == exactly(abandoned(0.4))
        assert len(journal.abandoned_scores(KEY)) == 1
        with pytest.raises(ValueError, match="abandoned"):
            journal.keep_score(KEY, abandoned(0.4), {})


ARRAYS = [
    {"logits": np.float32([[0.1, -0.0], [np.nan, np.inf]]), "labels": np.int64([0, 1])},
    {"scalar": np.float64(0.1) * np.ones(()), "empty": np.zeros((0, 3), np.float16), "flags": np.array([True, False])},
    {"view": np.arange(12, dtype=np.float32).reshape(3, 4).T[::2], "big-endian": np.arange(3, dtype=">i4")},
]


@pytest.mark.parametrize("arrays", ARRAYS)
def test_predictions_come_back_to_the_bit(tmp_path: Path, arrays: dict[str, Any]) -> None:
    with Journal(tmp_path) as journal:
        assert journal.predictions(KEY) is None
        journal.keep_predictions(KEY, arrays, {"split": "test"})
        kept = journal.predictions(KEY)
    assert kept is not None
    assert sorted(kept) == sorted(arrays)
    for name, array in arrays.items():
        assert kept[name].shape == array.shape
        assert kept[name].dtype == array.dtype.newbyteorder("=")
        assert np.array_equal(kept[name], array, equal_nan=array.dtype.kind == "f")


def test_everything_is_there_for_the_next_process(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.keep_score(KEY, Score(0.1), {})
        journal.keep_predictions(OTHER, ARRAYS[0], {})
        journal.digest_memory["file"] = "1f"
    with Journal(tmp_path) as journal:
        assert journal.score(KEY) == Score(0.1)
        assert journal.predictions(OTHER) is not None
        assert dict(journal.digest_memory) == {"file": "1f"}
        assert journal.notes == []


def test_the_digest_memory_is_a_mapping(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        memory = journal.digest_memory
        memory["b"] = "2"
        memory.update(a="1", b="3")
        assert (list(memory), len(memory), memory.get("x"), memory.pop("b")) == (["a", "b"], 2, None, "3")
        with pytest.raises(KeyError):
            memory["b"]
        with pytest.raises(KeyError):
            del memory["b"]


@pytest.mark.parametrize("key", ["", "../../etc", KEY.upper(), KEY + "0"])
def test_only_keys_are_keys(tmp_path: Path, key: str) -> None:
    with Journal(tmp_path) as journal, pytest.raises(ValueError, match="not a key"):
        journal.keep_predictions(key, {}, {})


# --- damage --------------------------------------------------------------------------------------------------------


def the_blob(folder: Path) -> Path:
    (blob,) = folder.glob("blobs/*/*.safetensors")
    return blob


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped bit", "noise", "folder"])
def test_a_damaged_blob_is_absent_and_said(tmp_path: Path, damage: str) -> None:
    with Journal(tmp_path) as journal:
        journal.keep_predictions(KEY, ARRAYS[0], {})
        blob = the_blob(tmp_path)
        content = bytearray(blob.read_bytes())
        content[-1] ^= 1
        damaged = {"empty": b"", "truncated": content[:-3], "flipped bit": content, "noise": b"\xff" * 64}
        blob.unlink()
        if damage == "folder":
            blob.mkdir()
        else:
            blob.write_bytes(damaged[damage])
        assert journal.predictions(KEY) is None
        assert KEY in journal.notes[0]
        if damage != "folder":
            journal.keep_predictions(KEY, ARRAYS[0], {})
            assert journal.predictions(KEY) is not None


def damage_middle(database: Path) -> None:
    content = bytearray(database.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    database.write_bytes(content)


@pytest.mark.parametrize("damage", ["noise", "middle"])
def test_a_damaged_database_is_moved_aside(tmp_path: Path, damage: str) -> None:
    with Journal(tmp_path) as journal:
        journal.keep_score(KEY, Score(0.1), {})
        journal.keep_predictions(OTHER, ARRAYS[0], {})
    database = tmp_path / "journal.sqlite"
    if damage == "noise":
        database.write_bytes(b"no database at all " * 1000)
    else:
        damage_middle(database)
    before = database.read_bytes()
    with Journal(tmp_path) as journal:
        assert journal.notes == [
            "journal.sqlite is damaged, kept as journal.sqlite.damaged-1; scores in it are computed again"
        ]
        assert journal.score(KEY) is None
        assert journal.predictions(OTHER) is not None
        journal.keep_score(KEY, Score(0.2), {})
    assert (tmp_path / "journal.sqlite.damaged-1").read_bytes() == before
    with Journal(tmp_path) as journal:
        assert journal.score(KEY) == Score(0.2)
        assert journal.notes == []


def test_a_newer_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    Journal(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "journal.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = (tmp_path / "journal.sqlite").read_bytes()
    with pytest.raises(OutputError, match="version 99"):
        Journal(tmp_path)
    assert (tmp_path / "journal.sqlite").read_bytes() == before


def test_an_unusable_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        Journal(tmp_path / "file")
    (tmp_path / "out" / "journal.sqlite").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"journal\.sqlite"):
        Journal(tmp_path / "out")


# --- many at once --------------------------------------------------------------------------------------------------

WRITER = """
import sys, hashlib, numpy
from stockpot.journal import Journal
from stockpot.types import Score
with Journal(sys.argv[1]) as journal:
    print("ready", flush=True)
    for number in range(int(sys.argv[2])):
        key = hashlib.sha256(f"{number}".encode()).hexdigest()
        journal.keep_score(key, Score(float(number)), {})
        journal.keep_predictions(key, {"logits": numpy.full((50, 5), number)}, {})
        print(key, flush=True)
"""


def start_writer(folder: Path, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, folder, str(count)], stdout=subprocess.PIPE, text=True)


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    writers = [start_writer(tmp_path, 10) for _ in range(3)]
    outputs = [writer.communicate(timeout=120)[0].split() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    with Journal(tmp_path) as journal:
        for number, key in enumerate(outputs[0][1:]):
            kept = journal.predictions(key)
            assert journal.score(key) == Score(float(number))
            assert kept is not None
            assert (kept["logits"] == number).all()


@pytest.mark.parametrize("n_kept", [0, 1, 3])
def test_what_was_kept_before_a_kill_is_there(tmp_path: Path, n_kept: int) -> None:
    writer = start_writer(tmp_path, 1_000_000)
    assert writer.stdout is not None
    keys = [writer.stdout.readline().strip() for _ in range(n_kept + 1)][1:]
    writer.kill()
    assert writer.wait() == -signal.SIGKILL
    writer.stdout.close()
    with Journal(tmp_path) as journal:
        assert all(journal.score(key) is not None and journal.predictions(key) is not None for key in keys)
        assert journal.notes == []
    assert not list(tmp_path.glob("blobs/.*"))


def test_threads_share_a_journal(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:

        def work(name: int) -> None:
            for number in range(5):
                journal.digest_memory[f"{name}:{number}"] = str(number)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(journal.digest_memory) == 20


# --- remembering ---------------------------------------------------------------------------------------------------


class Counting:
    """An Evaluate that abandons what cannot reach the incumbent, and counts."""

    def __init__(self, value_by_names: dict[str, float]) -> None:
        self.values = value_by_names
        self.asked: list[str] = []

    def __call__(self, soup: Soup, *, against: Incumbent | None = None) -> Score:
        names = "".join(ingredient.name for ingredient in soup.ingredients)
        self.asked.append(names)
        score = Score(self.values[names], n_examples=100, n_evaluated=100)
        return score if against is None or against.yields_to(score) else abandoned(self.values[names] + 0.05)


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    with Journal(tmp_path) as journal:
        yield journal


@pytest.mark.parametrize("identity", ["task", None])
def test_nothing_is_evaluated_twice(journal: Journal, identity: str | None) -> None:
    evaluate = Counting({"a": 0.1, "b": 0.2})
    remembered = remember(evaluate, journal, identity)
    first = [remembered(a_soup(names)) for names in "abab"]
    assert [score.value for score in first] == [0.1, 0.2, 0.1, 0.2]
    assert evaluate.asked == ["a", "b"]
    assert (journal.hits, journal.misses) == (2, 2)


def test_without_an_identity_nothing_reaches_the_disk(journal: Journal) -> None:
    remember(Counting({"a": 0.1}), journal, None)(a_soup("a"))
    assert journal.execute("SELECT key FROM scores") == []


def test_another_task_is_another_question(journal: Journal) -> None:
    evaluate = Counting({"a": 0.1})
    for identity in ("one", "two", None):
        remember(evaluate, journal, identity)(a_soup("a"))
    assert evaluate.asked == ["a", "a", "a"]


def test_what_was_kept_stays_when_evaluate_raises(journal: Journal) -> None:
    def evaluate(soup: Soup) -> float:
        if soup.ingredients[0].name == "b":
            raise RuntimeError("boom")
        return 0.5

    remembered = remember(evaluate, journal, "task")
    remembered(a_soup("a"))
    for _ in range(2):
        with pytest.raises(EvaluationError, match="boom"):
            remembered(a_soup("b"))
    assert journal.score(soup_key(a_soup("a"), "task")) == Score(0.5)
    assert journal.execute("SELECT count(*) FROM scores") == [(1,)]


def test_an_abandoned_score_answers_only_what_it_settles(journal: Journal) -> None:
    evaluate = Counting({"ab": 0.4})
    remembered = remember(evaluate, journal, "task")
    high, higher, low = (Incumbent(a_soup("a"), Score(value)) for value in (0.5, 0.6, 0.3))
    assert exactly(remembered(a_soup("ab"), against=high)) == exactly(abandoned(0.45))
    assert remembered(a_soup("ab"), against=high).is_abandoned  # the same question
    assert remembered(a_soup("ab"), against=higher).is_abandoned  # settled by the bound
    assert evaluate.asked == ["ab"]
    assert remembered(a_soup("ab"), against=low).value == 0.4
    assert remembered(a_soup("ab")).value == 0.4
    assert evaluate.asked == ["ab", "ab"]


@pytest.mark.parametrize(("strict", "n_asked"), [(False, 2), (True, 1)])
def test_a_bound_that_just_reaches_the_incumbent(journal: Journal, strict: bool, n_asked: int) -> None:
    evaluate = Counting({"ab": 0.4})
    remembered = remember(evaluate, journal, "task")
    remembered(a_soup("ab"), against=Incumbent(a_soup("a"), Score(0.9)))
    remembered(a_soup("ab"), against=Incumbent(a_soup("a"), Score(abandoned(0.4 + 0.05).at_most or 0), strict=strict))
    assert len(evaluate.asked) == n_asked


questions = st.lists(
    st.tuples(st.sampled_from(["a", "ab", "b"]), st.sampled_from([None, 0.2, 0.45, 0.5, 0.7])), max_size=8
)


@given(questions, st.integers(0, 8))
@settings(deadline=None, derandomize=True, max_examples=40)
def test_a_resumed_search_hears_the_same_answers(
    tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[str, float | None]], killed_after: int
) -> None:
    values = {"a": 0.3, "ab": 0.4, "b": 0.6}

    def answers(journal: Journal, questions: list[tuple[str, float | None]]) -> list[str]:
        ask = remember(Counting(values), journal, "task")
        rivals = [None if bar is None else Incumbent(a_soup("c"), Score(bar)) for _, bar in questions]
        return [exactly(ask(a_soup(names), against=r)) for (names, _), r in zip(questions, rivals, strict=True)]

    with Journal(tmp_path_factory.mktemp("whole")) as journal:
        undisturbed = answers(journal, asked)
        assert answers(journal, asked) == undisturbed
    with Journal(tmp_path_factory.mktemp("killed")) as journal:
        answers(journal, asked[:killed_after])
        assert answers(journal, asked) == undisturbed


def test_predictions_are_made_once(journal: Journal) -> None:
    asked: list[tuple[int, str]] = []

    def predict(soup: Soup, split: str, *, against: Incumbent | None = None) -> Predictions:
        asked.append((len(soup.ingredients), split))
        return Predictions(np.float32([[0.1, 0.9]] * 3), np.int64([0, 1, 1]))

    remembered = remember_predictions(predict, journal, lambda split: f"task {split}")
    rival = Incumbent(a_soup("a"), Score(0.5))
    for split in ("test", "shift", "test"):
        for against in (rival, None):
            made = remembered(a_soup("ab"), split, against=against)
            assert np.array_equal(made.logits, np.float32([[0.1, 0.9]] * 3))
            assert np.array_equal(made.labels, [0, 1, 1])
    assert asked == [(2, "test"), (2, "shift")]
    assert (journal.hits, journal.misses) == (4, 2)


def test_partial_predictions_are_never_taken_for_whole(journal: Journal) -> None:
    asked: list[bool] = []

    def predict(soup: Soup, split: str, *, against: Incumbent | None = None) -> Predictions:
        asked.append(against is not None)
        n_rows = 3 if against is None else 1
        return Predictions(np.zeros((n_rows, 2), np.float32), np.zeros(n_rows, np.int64))

    remembered = remember_predictions(predict, journal, str, n_examples=lambda split: 3)
    rival = Incumbent(a_soup("a"), Score(0.5))
    lengths = [len(remembered(a_soup("ab"), "test", against=against).labels) for against in (rival, rival, None, rival)]
    assert lengths == [1, 1, 3, 1]
    assert asked == [True, False]
