"""Wraps an evaluator with a journal: what was asked before is answered from there.

The same question gets the same answer for ever, also when a command is killed and asks its questions once more from the
start. So the answer to "can this soup replace that one?" is kept under both, and a whole score found later does not
take the place of an abandoned one given earlier: the log of a resumed search is the log of an undisturbed one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from stockpot.journal.blobs import Array
from stockpot.journal.keys import incumbent_key, soup_key
from stockpot.journal.store import Journal
from stockpot.types import Evaluate, Incumbent, Predictions, Score, Soup, as_evaluate

__all__ = ["Predict", "known_predictions", "remember", "remember_predictions"]


class Predict(Protocol):
    """Logits and labels of a soup on a split, by name."""

    def __call__(self, soup: Soup, split: str, *, against: Incumbent | None = None) -> Predictions:
        """The predictions on `split`; fewer rows once the soup provably cannot replace `against`."""


class _Scores(Protocol):
    def score(self, key: str, *, rival: str = "") -> Score | None: ...

    def abandoned_scores(self, key: str) -> list[Score]: ...

    def keep_score(self, key: str, score: Score, about: Mapping[str, Any], *, rival: str = "") -> None: ...


class _ScoresOfThisProcess:
    """For callables that no source file vouches for: a journal that ends with the process."""

    def __init__(self) -> None:
        self._scores: dict[tuple[str, str], Score] = {}

    def score(self, key: str, *, rival: str = "") -> Score | None:
        return self._scores.get((key, rival))

    def abandoned_scores(self, key: str) -> list[Score]:
        return [score for (kept, rival), score in self._scores.items() if kept == key and rival]

    def keep_score(self, key: str, score: Score, about: Mapping[str, Any], *, rival: str = "") -> None:  # noqa: ARG002
        self._scores[key, rival] = score


def remember(evaluate: Callable[..., float | Score], journal: Journal, task_identity: str | None) -> Evaluate:
    """An Evaluate that asks `evaluate` only what `journal` does not know.

    An abandoned score answers another question than its own only if the bound it carries shows that the soup cannot be
    accepted there either. What was kept stays when `evaluate` raises.

    Args:
        evaluate: any callable soup -> float | Score; may take `against`.
        journal: where scores are kept and hits are counted.
        task_identity: all that the score depends on besides the soup; None (see `identity_of_callable`): scores are
            remembered in this process only.

    Raises:
        EvaluationError: when called, if `evaluate` fails or an ingredient has no digest.

    Example:
        >>> import tempfile
        >>> from stockpot.types import Coefficients, Ingredient
        >>> soup = Soup((Ingredient("a", "runs/a", digest="1f"),), Coefficients.equal(1), "best")
        >>> with tempfile.TemporaryDirectory() as folder, Journal(folder) as journal:
        ...     scores = [remember(lambda soup: 0.5, journal, "task")(soup).value for _ in range(3)]
        ...     scores, journal.hits, journal.misses
        ([0.5, 0.5, 0.5], 2, 1)
    """
    ask = as_evaluate(evaluate)
    scores: _Scores = _ScoresOfThisProcess() if task_identity is None else journal
    identity = task_identity or ""

    def remembered(soup: Soup, *, against: Incumbent | None = None) -> Score:
        key, rival = soup_key(soup, identity), incumbent_key(against, identity)
        score = _recall(scores, key, rival, against)
        journal.count(hit=score is not None)
        if score is None:
            # A comparison holds against one incumbent, a kept score against all.
            score = replace(ask(soup, against=against), paired=None)
            _keep(scores, key, rival, score, soup)
        return score

    return remembered


def _recall(scores: _Scores, key: str, rival: str, against: Incumbent | None) -> Score | None:
    """The answer given before to this very question; or the whole score; or a bound that is low enough."""
    if against is None:
        return scores.score(key)
    found = scores.score(key, rival=rival) or scores.score(key)
    if found is None:
        found = next((score for score in scores.abandoned_scores(key) if _settles(score, against)), None)
        if found is not None:  # from now on the answer to this question, whatever else becomes known
            scores.keep_score(key, found, {}, rival=rival)
    return found


def _settles(abandoned: Score, against: Incumbent) -> bool:
    """Whether even the bound would not be accepted."""
    return abandoned.at_most is not None and not against.yields_to(Score(abandoned.at_most))


def _keep(scores: _Scores, key: str, rival: str, score: Score, soup: Soup) -> None:
    if score.is_abandoned:
        if rival:
            scores.keep_score(key, score, _about(soup), rival=rival)
    else:
        scores.keep_score(key, score, _about(soup))


def remember_predictions(
    predict: Predict,
    journal: Journal,
    identity_of_split: Callable[[str], str],
    *,
    n_examples: Callable[[str], int] | None = None,
) -> Predict:
    """A Predict that asks `predict` only what `journal` does not know.

    Args:
        predict: (soup, split name) -> Predictions.
        journal: where predictions are kept and hits are counted.
        identity_of_split: split name -> all that predictions on it depend on besides the soup.
        n_examples: split name -> rows of whole predictions. Needed if `predict` may stop early: fewer rows are kept as
            the answer against that one incumbent, and as what is known of the soup (see `known_predictions`). Without
            it all predictions are taken to be whole.

    Raises:
        EvaluationError: when called, if an ingredient has no digest.
        OutputError: when called, if the disk is full; what was kept before stays.

    Example:
        >>> import tempfile, numpy as np
        >>> from stockpot.types import Coefficients, Ingredient
        >>> soup = Soup((Ingredient("a", "runs/a", digest="1f"),), Coefficients.equal(1), "best")
        >>> def predict(soup, split, *, against=None):
        ...     return Predictions(np.float32([[0.25, 0.75]]), np.array([1]))
        >>> with tempfile.TemporaryDirectory() as folder, Journal(folder) as journal:
        ...     remembered = remember_predictions(predict, journal, lambda split: f"task {split}")
        ...     _ = remembered(soup, "test")
        ...     remembered(soup, "test").logits, journal.hits
        (array([[0.25, 0.75]], dtype=float32), 1)
    """

    def remembered(soup: Soup, split: str, *, against: Incumbent | None = None) -> Predictions:
        identity = identity_of_split(split)
        key = soup_key(soup, identity)
        key_against = key if against is None else soup_key(soup, f"{identity} {incumbent_key(against, identity)}")
        kept = journal.predictions(key_against)
        if kept is None and key_against != key:
            kept = journal.predictions(key)
        journal.count(hit=kept is not None)
        if kept is not None:
            return _predictions(kept)
        predicted = predict(soup, split, against=against)
        is_whole = n_examples is None or len(predicted.labels) == n_examples(split)
        arrays = {"logits": predicted.logits, "labels": predicted.labels}
        about = {**_about(soup), "split": split}
        if predicted.rows is not None:
            arrays["rows"] = predicted.rows
            # Before the answer: killed in between, the same question finds these rows, which settle it the same way.
            journal.keep_predictions(_partial_key(soup, identity), arrays, about)
        journal.keep_predictions(key if is_whole else key_against, arrays, about)
        return predicted

    return remembered


def known_predictions(journal: Journal, soup: Soup, identity_of_split: str) -> Predictions | None:
    """What is known of a soup that was given up, whatever it was measured against: all rows ever evaluated.

    Args:
        journal: that `remember_predictions` keeps.
        soup: with digests.
        identity_of_split: all that predictions on it depend on besides the soup.

    Returns:
        Predictions with their `rows`; None where the soup was never given up.
    """
    kept = journal.predictions(_partial_key(soup, identity_of_split))
    return None if kept is None else _predictions(kept)


def _partial_key(soup: Soup, identity: str) -> str:
    return soup_key(soup, f"{identity} partial")


def _predictions(kept: Mapping[str, Array]) -> Predictions:
    return Predictions(kept["logits"], kept["labels"], kept.get("rows"))


def _about(soup: Soup) -> dict[str, Any]:
    return {"recipe": soup.recipe, "ingredients": [ingredient.name for ingredient in soup.ingredients]}
