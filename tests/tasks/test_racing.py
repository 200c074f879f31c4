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
from stockpot.metrics import METRICS
from stockpot.recipes import greedy, pruned, single, uniform
from stockpot.tasks import load_task
from stockpot.tasks.racing import Raced, hard_first, margins, race, wrong_chances
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
        self.n_evaluated = self.n_least = 0

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
        first = (n * self.logits(against.soup) + self.own[soup.ingredients[-1].name]) / (n + 1)
        second = np.mean([self.own[ingredient.name] for ingredient in soup.ingredients], axis=0)
        found = race(
            np.stack([margins(first, self.labels), margins(second, self.labels)]),
            self.labels,
            self.buckets,
            lambda batches: [logits[rows] for _, rows in batches],
            lambda rows, part: int((part.argmax(1) != self.labels[rows]).sum()),
            lambda n_wrong: not against.yields_to(Score((self.n - n_wrong) / self.n)),
            batch_size=self.batch_size,
            wave=self.wave,
        )
        np.testing.assert_array_equal(found.logits, logits[found.rows])
        assert len(set(found.rows.tolist())) == len(found.rows)
        self.n_evaluated += len(found.rows)
        self.n_least += self.least(logits.argmax(1) != self.labels, against)
        right = int((found.logits.argmax(1) == self.labels[found.rows]).sum())
        if len(found.rows) == self.n:
            # Lost on the very last batch: the score is whole all the same.
            return Score(right / self.n)
        n_wrong = len(found.rows) - right
        return Score(math.nan, None, self.n, len(found.rows), (self.n - n_wrong) / self.n)

    def least(self, wrong: np.ndarray, against: Incumbent) -> int:
        """Examples in the fewest batches that could settle it, had one known the answers."""
        n_seen = n_wrong = 0
        for _, rows in hard_first(wrong.astype(float), self.buckets, batch_size=self.batch_size):
            n_seen, n_wrong = n_seen + len(rows), n_wrong + int(wrong[rows].sum())
            if not against.yields_to(Score((self.n - n_wrong) / self.n)):
                break
        return n_seen


@settings(deadline=None, derandomize=True, max_examples=1000)
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
    """The floor: all examples of what is kept, and whole batches with the wrong ones that settle what is not."""
    world = MadeUp(1, 10_000, 12, batch_size=64, wave=1, skill=skill, alike=0.95)
    candidates = greedy(world.runs, world.early).steps[1:]
    lost = [step.score for step in candidates if step.score.is_abandoned]
    assert len(lost) >= 3
    assert world.n_least <= world.n_evaluated <= 1.1 * world.n_least + 64 * len(lost)
    floor = 10_000 * (len(candidates) - len(lost)) + sum(10_000 - round(10_000 * score.at_most) for score in lost)
    assert world.n_evaluated <= 1.1 * floor + 64 * len(world.buckets) * len(lost)


def test_thousands_of_decisions_are_the_plain_ones() -> None:
    generator = np.random.default_rng(7)
    n_kept = 0
    for _ in range(4000):
        n, batch_size, wave = (int(generator.integers(1, high)) for high in (80, 20, 4))
        labels = generator.integers(0, N_CLASSES, n)
        logits = generator.normal(size=(n, N_CLASSES)) + generator.uniform(0, 3) * np.eye(N_CLASSES)[labels]
        n_wrong = int((logits.argmax(1) != labels).sum())
        needed = max(n_wrong + int(generator.integers(-2, 3)), 1)  # near-ties
        noise = generator.normal(size=(2, n)) * generator.uniform(0, 3)
        found = race(
            margins(logits, labels) + noise,
            labels,
            np.array_split(generator.permutation(n), 4),
            lambda batches, logits=logits: [logits[rows] for _, rows in batches],
            lambda rows, part, labels=labels: int((part.argmax(1) != labels[rows]).sum()),
            lambda n_wrong, needed=needed: n_wrong >= needed,
            batch_size=batch_size,
            wave=wave,
        )
        assert len(set(found.rows.tolist())) == len(found.rows)
        n_found = int((logits.argmax(1) != labels)[found.rows].sum())
        assert (n_found >= needed) == (n_wrong >= needed)
        n_kept += n_wrong < needed
        assert n_wrong >= needed or len(found.rows) == n
    assert 500 < n_kept < 3500


def test_hard_first_covers_every_example_once_in_batches_of_one_bucket() -> None:
    chances, buckets = np.random.default_rng(0).random(50), [list(range(0, 20)), list(range(20, 50))]
    order = hard_first(chances, buckets, batch_size=8)
    assert sorted(row for _, rows in order for row in rows.tolist()) == list(range(50))
    for bucket, rows in order:
        assert set(rows.tolist()) <= set(buckets[bucket])
        assert len(rows) <= 8
    sums = [float(chances[rows].sum()) for _, rows in order]
    assert sums == sorted(sums, reverse=True)


def test_what_is_seen_says_which_guess_is_the_better_one() -> None:
    generator = np.random.default_rng(0)
    guesses = generator.normal(size=(2, 1000))
    rows = np.arange(100)
    for truth in (0, 1):
        chances = wrong_chances(guesses, rows, guesses[truth][rows] + 0.1 * generator.normal(size=100))
        right, other = (np.corrcoef(chances, guesses[which])[0, 1] for which in (truth, 1 - truth))
        assert right < -0.75 < -0.3 < other
    before = wrong_chances(guesses, np.empty(0, np.int64), np.empty(0))
    np.testing.assert_array_equal(np.argsort(-before), np.argsort(guesses[0]))


def test_chances_are_calibrated() -> None:
    """Among the examples not seen yet, as many are wrong as the chances say."""
    generator = np.random.default_rng(1)
    guess = generator.normal(size=20_000)
    truth = guess + 0.5 * generator.normal(size=20_000)
    rows = np.arange(1000)
    chances = wrong_chances(np.stack([guess, guess]), rows, truth[rows])
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        chosen = (chances[1000:] >= low) & (chances[1000:] < low + 0.2)
        assert abs(chances[1000:][chosen].mean() - (truth[1000:][chosen] < 0).mean()) < 0.04


def raced(known: Raced | None, *, lost_at: int, calls: list[int]) -> Raced:
    generator = np.random.default_rng(5)
    labels = generator.integers(0, N_CLASSES, 40)
    logits = generator.normal(size=(40, N_CLASSES))

    def forward(batches):
        calls.extend(row for _, rows in batches for row in rows.tolist())
        return [logits[rows] for _, rows in batches]

    return race(
        np.stack([margins(logits, labels)] * 2), labels, [range(15), range(15, 40)], forward,
        lambda rows, part: int((part.argmax(1) != labels[rows]).sum()), lambda n_wrong: n_wrong >= lost_at,
        batch_size=4, wave=1, known=known,
    )  # fmt: skip


def test_what_is_known_counts_and_is_not_evaluated_again() -> None:
    before, calls = raced(None, lost_at=5, calls=[]), []
    again = raced(before, lost_at=5, calls=calls)
    assert not calls
    np.testing.assert_array_equal(again.rows, before.rows)
    whole, plain = raced(before, lost_at=100, calls=calls), raced(None, lost_at=100, calls=[])
    assert sorted([*before.rows.tolist(), *calls]) == list(range(40)) == sorted(whole.rows.tolist())
    np.testing.assert_array_equal(whole.logits[np.argsort(whole.rows)], plain.logits[np.argsort(plain.rows)])


def test_a_candidate_that_nothing_could_save_costs_one_batch() -> None:
    calls: list[int] = []
    assert len(raced(None, lost_at=0, calls=calls).rows) == 4 == len(calls)


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
        bench.predictions(single(run), "held_out")


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


def test_predictions_of_what_was_given_up_are_completed_not_begun_again(tiny: Path, tmp_path: Path) -> None:
    with Journal(tmp_path / "a") as journal:
        bench, runs = bench_of(tiny, journal)
        individuals(bench, runs)
        soup, rival = uniform(runs[:2]), single(runs[0])
        # A gain that no candidate can reach: it is lost at the first batch.
        score = bench.evaluate(soup, against=Incumbent(rival, bench.evaluate(rival), minimum_gain=1.5))
        assert 0 < score.n_evaluated < bench.n_held_out
        calls: list[int] = []
        model = bench.task._model
        forwards = model.logits_by_batch
        model.logits_by_batch = lambda batches: (calls.extend(len(b.rows) for b in batches), forwards(batches))[1]
        whole = bench.predictions(soup, "held_out")
        assert sum(calls) == bench.n_held_out - score.n_evaluated
        np.testing.assert_array_equal(whole.logits, bench.task.predict(soup, "held_out").logits)
        # The question gets its first answer all the same: a resumed search has the log of an undisturbed one.
        incumbent = Incumbent(rival, bench.evaluate(rival), minimum_gain=1.5)
        assert bench_of(tiny, journal)[0].evaluate(soup, against=incumbent) == score


def test_another_incumbent_is_told_what_is_known(tiny: Path, tmp_path: Path) -> None:
    with Journal(tmp_path / "a") as journal:
        bench, runs = bench_of(tiny, journal)
        individuals(bench, runs)
        soup = uniform(runs[:2])
        asked = [
            bench.evaluate(soup, against=Incumbent(single(run), bench.evaluate(single(run)), minimum_gain=1.5))
            for run in runs[:2]
        ]
        assert asked[0] == asked[1]
        bench.task._model.logits_by_batch = None
        incumbent = Incumbent(single(runs[2]), bench.evaluate(single(runs[2])), minimum_gain=1.5)
        assert bench.evaluate(soup, against=incumbent) == asked[0]


def test_a_test_needs_whole_scores(tiny: Path, tmp_path: Path) -> None:
    with Journal(tmp_path / "a") as journal:
        bench, runs = bench_of(tiny, journal)
        soup = greedy(runs, bench.evaluate, significance=0.05)
        assert not any(step.score.is_abandoned for step in soup.steps)
        assert bench.n_examples_evaluated == bench.n_examples_asked


@pytest.mark.parametrize("metric", ["nll", "f1_macro"])
def test_metrics_that_are_no_shares_are_scored_whole_and_it_is_said(tiny: Path, tmp_path: Path, metric: str) -> None:
    with Journal(tmp_path / "a") as journal:
        bench, runs = bench_of(tiny, journal, metric=metric)
        assert bench.notes == ()
        assert not any(step.score.is_abandoned for step in greedy(runs, bench.evaluate).steps)
        (note,) = bench.notes
        assert f"all held-out examples: {metric} does not count right answers" in note


def test_the_forecast_is_the_metric_of_averaged_logits(tiny: Path, tmp_path: Path) -> None:
    with Journal(tmp_path / "a") as journal:
        bench, runs = bench_of(tiny, journal, metric="nll")
        incumbent, candidate = uniform(runs[:2]), uniform(runs[:3])
        asked = Incumbent(incumbent, Score(0.0))
        assert bench.forecast(candidate, asked) is None
        before = bench.predictions(incumbent, "held_out")
        newest = bench.predictions(single(runs[2]), "held_out").logits
        mean = (2 * before.logits.astype(np.float64) + newest) / 3
        expected = -METRICS["nll"](mean, before.labels).value
        assert bench.forecast(candidate, asked) == pytest.approx(expected)
        soup = greedy(runs, bench.evaluate, max_evaluations=1, forecast=bench.forecast)
        assert soup.approximate
        first, second = (step.ingredient for step in soup.steps)
        others = [run for run in runs if run != first]
        rival = Incumbent(single(first), Score(0.0))
        assert second == max(others, key=lambda run: bench.forecast(uniform([first, run]), rival))
