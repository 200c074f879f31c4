"""Giving candidates up early changes no decision: thousands of made-up searches, and a real task."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.assembly import with_digests
from stockpot.checkpoints import ingredients
from stockpot.experiment.bench import TaskBench
from stockpot.journal import Journal
from stockpot.recipes import greedy, pruned
from stockpot.tasks import load_task
from stockpot.tasks.racing import hard_first, margins, race
from stockpot.types import Incumbent, Ingredient, Score, Soup
from tiny_models import tiny_classifier, tiny_fine_tunes, tiny_task

N_CLASSES = 3


class MadeUp:
    """Logits of every soup: the mean of its ingredients' and something of its own; scored whole, or given up early."""

    def __init__(
        self, seed: int, n: int, k: int, *, batch_size: int, wave: int, skill: float, alike: float = 0.0
    ) -> None:
        generator = np.random.default_rng(seed)
        self.seed, self.n, self.batch_size, self.wave = seed, n, batch_size, wave
        self.spread = 1.0 - alike
        self.labels = generator.integers(0, N_CLASSES, n)
        self.buckets = [rows.tolist() for rows in np.array_split(generator.permutation(n), 3) if len(rows)]
        target = skill * np.eye(N_CLASSES)[self.labels] + alike * generator.normal(size=(n, N_CLASSES))
        self.own = {f"r{i}": target + self.spread * generator.normal(size=(n, N_CLASSES)) for i in range(k)}
        self.n_evaluated = 0

    @property
    def runs(self) -> list[Ingredient]:
        return [Ingredient(name, name) for name in self.own]

    def logits(self, soup: Soup) -> np.ndarray:
        names = [ingredient.name for ingredient in soup.ingredients]
        noise = np.random.default_rng([self.seed, *map(ord, "".join(sorted(names)))])
        return np.mean([self.own[name] for name in names], axis=0) + 0.2 * self.spread * noise.normal(
            size=(self.n, N_CLASSES)
        )

    def plain(self, soup: Soup) -> Score:
        return Score(float((self.logits(soup).argmax(1) == self.labels).mean()))

    def early(self, soup: Soup, *, against: Incumbent | None = None) -> Score:
        if against is None:
            return self.plain(soup)
        logits, n = self.logits(soup), len(against.soup.ingredients)
        expected = (n * self.logits(against.soup) + self.own[soup.ingredients[-1].name]) / (n + 1)
        found = race(
            hard_first(margins(expected, self.labels), self.buckets, batch_size=self.batch_size),
            lambda batches: [logits[rows] for _, rows in batches],
            lambda rows, part: int((part.argmax(1) != self.labels[rows]).sum()),
            lambda n_wrong: not against.yields_to(Score((self.n - n_wrong) / self.n)),
            wave=self.wave,
        )
        np.testing.assert_array_equal(found.logits, logits[found.rows])
        assert len(set(found.rows.tolist())) == len(found.rows)
        self.n_evaluated += len(found.rows)
        right = int((found.logits.argmax(1) == self.labels[found.rows]).sum())
        if len(found.rows) == self.n:
            # Lost on the very last batch: the score is whole all the same.
            return Score(right / self.n)
        n_wrong = len(found.rows) - right
        return Score(math.nan, None, self.n, len(found.rows), (self.n - n_wrong) / self.n)


@settings(deadline=None, derandomize=True, max_examples=1500)
@given(
    st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 8), st.sampled_from([1, 3, 8, 64]), st.integers(1, 3),
    st.sampled_from([0.0, 0.5, 1.5, 4.0]), st.sampled_from([0.0, 0.01, 0.1]), st.booleans(),
)  # fmt: skip
def test_the_kept_ingredients_are_those_of_the_plain_search(
    seed: int, n: int, k: int, batch_size: int, wave: int, skill: float, minimum_gain: float, strict: bool
) -> None:
    world = MadeUp(seed, n, k, batch_size=batch_size, wave=wave, skill=skill)
    rule = {"minimum_gain": minimum_gain, "strict": strict}
    plain, early = greedy(world.runs, world.plain, **rule), greedy(world.runs, world.early, **rule)
    assert early.ingredients == plain.ingredients
    assert [step.accepted for step in early.steps] == [step.accepted for step in plain.steps]
    for ours, theirs in zip(early.steps, plain.steps, strict=True):
        if ours.score.is_abandoned:
            assert theirs.score.value <= ours.score.at_most
        else:
            assert ours.score.value == theirs.score.value


def test_no_log_depends_on_the_number_of_cores() -> None:
    logs = [
        greedy((world := MadeUp(3, 200, 6, batch_size=8, wave=wave, skill=1.0)).runs, world.early).steps
        for wave in (1, 2, 5)
    ]
    assert logs[0] == logs[1] == logs[2]
    assert any(step.score.is_abandoned for step in logs[0])


@pytest.mark.parametrize("skill", [1.0, 2.0, 3.0])
def test_little_more_than_the_floor_is_evaluated(skill: float) -> None:
    """The floor: all examples of what is kept, the wrong ones that settle what is not; and a batch for each bucket."""
    world = MadeUp(1, 10_000, 12, batch_size=64, wave=1, skill=skill, alike=0.95)
    candidates = greedy(world.runs, world.early).steps[1:]
    lost = [step.score for step in candidates if step.score.is_abandoned]
    assert len(lost) >= 3
    floor = 10_000 * (len(candidates) - len(lost)) + sum(10_000 - round(10_000 * score.at_most) for score in lost)
    assert floor <= world.n_evaluated <= 1.1 * floor + 64 * len(world.buckets) * len(candidates)


def test_hard_first_covers_every_example_once_in_batches_of_one_bucket() -> None:
    generator = np.random.default_rng(0)
    expected, buckets = generator.normal(size=50), [list(range(0, 20)), list(range(20, 50))]
    order = hard_first(expected, buckets, batch_size=8)
    assert sorted(row for _, rows in order for row in rows.tolist()) == list(range(50))
    for bucket, rows in order:
        assert set(rows.tolist()) <= set(buckets[bucket])
        assert len(rows) <= 8
    counts = [int((expected[rows] < 0).sum()) for _, rows in order]
    assert counts == sorted(counts, reverse=True)


# --- a real task -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("racing")
    tiny_fine_tunes(folder / "runs", tiny_classifier(folder / "base"), 4, scale=0.4)
    return folder


def bench_of(tiny: Path, journal: Journal, **settings: object) -> tuple[TaskBench, list[Ingredient]]:
    runs = with_digests(ingredients(str(tiny / "runs" / "*")))
    folder = tiny / "task"
    folder.mkdir(exist_ok=True)
    path = tiny_task(folder, evaluation={"precision": "fp32", "max_length": 16, "batch_size": 4}, **settings)
    return TaskBench(load_task(path, runs[0]), journal), list(runs)


def individuals(bench: TaskBench, runs: list[Ingredient]) -> None:
    for run in runs:
        bench.predictions(Soup((run,), greedy([run], lambda _: 0.0).coefficients, "single"), "held_out")


@pytest.mark.parametrize("recipe", [greedy, pruned])
def test_a_task_gives_up_without_changing_a_decision(tiny: Path, tmp_path: Path, recipe) -> None:
    with Journal(tmp_path / "a") as journal, Journal(tmp_path / "b") as other:
        bench, runs = bench_of(tiny, journal)
        plain, _ = bench_of(tiny, other)
        early = recipe(runs, bench.evaluate)
        whole = recipe(runs, lambda soup: plain.task.score(plain.task.predict(soup, "held_out")))
        assert early.ingredients == whole.ingredients
        assert [step.accepted for step in early.steps] == [step.accepted for step in whole.steps]
        assert bench.n_examples_evaluated <= bench.n_examples_asked
        again = recipe(runs, bench_of(tiny, journal)[0].evaluate)
        assert again == early
        for step in early.steps:
            if step.score.is_abandoned:
                assert step.score.n_evaluated < step.score.n_examples == bench.n_held_out


def test_whole_predictions_do_not_depend_on_the_race(tiny: Path, tmp_path: Path) -> None:
    with Journal(tmp_path / "a") as journal:
        bench, runs = bench_of(tiny, journal)
        soup = greedy(runs, bench.evaluate)
        np.testing.assert_array_equal(
            bench.predictions(soup, "held_out").logits, bench.task.predict(soup, "held_out").logits
        )


def test_a_test_needs_whole_scores(tiny: Path, tmp_path: Path) -> None:
    with Journal(tmp_path / "a") as journal:
        bench, runs = bench_of(tiny, journal)
        soup = greedy(runs, bench.evaluate, significance=0.05)
        assert not any(step.score.is_abandoned for step in soup.steps)
        assert bench.n_examples_evaluated == bench.n_examples_asked


@pytest.mark.parametrize("metric", ["nll", "f1_macro"])
def test_metrics_that_are_no_shares_are_scored_whole(tiny: Path, tmp_path: Path, metric: str) -> None:
    with Journal(tmp_path / "a") as journal:
        bench, runs = bench_of(tiny, journal, metric=metric)
        assert not any(step.score.is_abandoned for step in greedy(runs, bench.evaluate).steps)
