"""The one sentence that says what the table means, computed from paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stockpot.records import Results, Row
from stockpot.reports.numbers import Scale, scale_of
from stockpot.reports.text import printable

__all__ = ["summary_sentence"]

#: Two-sided 5 %: of the paired test, and where none was made, in standard errors of a normal distribution.
_SIGNIFICANT_P = 0.05
_SIGNIFICANT = 1.96
_NO_SOUPS = frozenset({"initialisation", "best", "second_best", "mean_individual", "ensemble", "greedy_ensemble"})
#: The splits that count: no recipe saw them.
_UNSEEN = {"test": "test", "shift_mean": "the mean of shifts"}


@dataclass(frozen=True, slots=True)
class _Gain:
    """How much better than another method on one split; positive is better, whatever the metric's direction."""

    split: str
    gain: float
    stderr: float | None
    p: float | None = None

    @property
    def verdict(self) -> int:
        """1 better beyond noise, -1 worse beyond noise, 0 neither can be said."""
        if self.p is not None:
            is_sure = self.p < _SIGNIFICANT_P
        else:
            is_sure = self.stderr is not None and abs(self.gain) > _SIGNIFICANT * self.stderr
        return 0 if not is_sure or self.gain == 0 else 1 if self.gain > 0 else -1


def summary_sentence(results: Results) -> str:
    """Says whether the soups beat the best single model, where, by how much, and whether that is more than noise.

    Greedy speaks for the soups where it was made; uniform is named where its verdict is another. A difference counts
    where its paired test has p < 0.05; where no test was made, from 1.96 paired standard errors on.

    Args:
        results: rows, and comparisons against `best` (and of uniform against greedy, where made).

    Returns:
        One line of plain text.

    Example:
        >>> from stockpot.records import Cell, Comparison
        >>> rows = tuple(Row(m, 3, 1, {"test": Cell(0.743, 0.01, 2000)}) for m in ("best", "greedy"))
        >>> gain = Comparison("greedy", "best", "test", 0.006, 0.005, 2000, None)
        >>> summary_sentence(Results("accuracy", True, rows, (gain,)))
        'greedy beats the best single model by +0.6 ± 0.5 points on test; on one seed that is not significant; no soup beats the best single model beyond noise.'
    """  # noqa: E501
    soups = _soups(results)
    if results.row("best") is None or not soups:
        return "There is no soup beside a best single model, so nothing is compared."
    if _one_ingredient(results):
        return "There was one ingredient only, so every soup is that one model."
    gains = {row.method: gains for row in soups if (gains := _gains(results, row.method, "best"))}
    if not gains:
        return _seen_only(results, soups[0])
    headline = next(iter(gains))
    clauses = [_headline(results, headline, gains[headline]), *_contrasts(results, headline, gains)]
    clauses += [f"{_name(row.method)} is approximate: its search was cut short" for row in soups if row.approximate]
    return "; ".join(clauses) + "."


def _soups(results: Results) -> list[Row]:
    """Rows of one model made of several, greedy first, then uniform, then as given."""
    soups = [row for row in results.rows if row.method not in _NO_SOUPS and row.inference_cost == 1]
    rank = {"greedy": 0, "uniform": 1}
    return sorted(soups, key=lambda row: rank.get(row.method, 2))


def _one_ingredient(results: Results) -> bool:
    uniform = results.row("uniform")
    return uniform is not None and uniform.n_ingredients == 1


def _gains(results: Results, method: str, against: str) -> tuple[_Gain, ...]:
    return tuple(gain for split in _UNSEEN if (gain := _gain(results, method, against, split)))


def _gain(results: Results, method: str, against: str, split: str) -> _Gain | None:
    sign = 1.0 if results.higher_is_better else -1.0
    for c in results.comparisons:
        if (c.method, c.against, c.split) == (method, against, split):
            return _Gain(split, sign * c.difference, c.stderr, c.p)
    ours, theirs = (_value(results, name, split) for name in (method, against))
    return None if ours is None or theirs is None else _Gain(split, sign * (ours - theirs), None)


def _value(results: Results, method: str, split: str) -> float | None:
    row = results.row(method)
    return row.scores[split].value if row and split in row.scores else None


def _seen_only(results: Results, soup: Row) -> str:
    scale = scale_of(results)
    ours, best = (_value(results, method, "held_out") for method in (soup.method, "best"))
    if ours is None or best is None:
        return "The soups and the best single model share no split, so nothing is compared."
    return (
        f"On held-out {_name(soup.method)} scores {scale.number(ours)} and the best single model {scale.number(best)}; "
        "both were chosen there, so measure a test split before believing the difference"
        f"{f'; {_name(soup.method)} is approximate: its search was cut short' if soup.approximate else ''}."
    )


def _headline(results: Results, method: str, gains: Sequence[_Gain]) -> str:
    if _is_best_alone(results, method):
        return f"{_name(method)} kept the best single model alone, so the two are one model"
    return f"{_name(method)} {_compared(gains, results)}; {_certainty(gains)}"


def _is_best_alone(results: Results, method: str) -> bool:
    soup, best = results.row(method), results.row("best")
    return bool(soup and best and soup.n_ingredients == 1 and soup.ingredients == best.ingredients)


def _compared(gains: Sequence[_Gain], results: Results) -> str:
    """What happened to the point estimates; how sure that is comes after it."""
    scale = scale_of(results)
    better = [gain for gain in gains if scale.rounded(gain.gain) > 0.0]
    worse = [gain for gain in gains if scale.rounded(gain.gain) < 0.0]
    if not better and not worse:
        return f"ties with the best single model ({_listed(gains, scale)})"
    even = [gain for gain in gains if gain not in (*better, *worse)]
    ahead, behind = _listed(better, scale, signed=results.higher_is_better), _listed(worse, scale)
    parts = [
        *([f"beats the best single model by {ahead}"] if better else []),
        *([f"is worse by {behind}" if better else f"is worse than the best single model by {behind}"] if worse else []),
        *([f"ties on {_UNSEEN[even[0].split]}"] if even else []),
    ]
    return " but ".join(parts)


def _listed(gains: Sequence[_Gain], scale: Scale, *, signed: bool = False) -> str:
    """The sizes of the gains; a plus sign would mislead where less is better."""
    unit = " points" if scale.unit == "points" else f" in {printable(scale.unit)}"
    parts = []
    for index, gain in enumerate(gains):
        size = scale.signed(gain.gain) if signed else scale.number(abs(gain.gain))
        error = "" if gain.stderr is None else f" ± {scale.number(gain.stderr)}"
        parts.append(f"{size}{error}{'' if index else unit} on {_UNSEEN[gain.split]}")
    return " and ".join(parts)


def _certainty(gains: Sequence[_Gain]) -> str:
    if all(gain.stderr is None for gain in gains):
        return "without a paired standard error nothing says that this is more than noise"
    sure = [gain for gain in gains if gain.verdict]
    if not sure:
        return "on one seed that is not significant"
    if len(sure) == len(gains):
        return f"on one seed {'both are' if len(gains) > 1 else 'that is'} significant"
    return f"on one seed only the difference on {_UNSEEN[sure[0].split]} is significant"


def _contrasts(results: Results, headline: str, gains: dict[str, tuple[_Gain, ...]]) -> list[str]:
    """What the headline leaves out: a soup with another verdict, or that no soup is better beyond noise."""
    clauses = [
        clause
        for method, found in gains.items()
        if method != headline and (clause := _contrast(results, method, headline, found, gains[headline]))
    ]
    measured = [gain for found in gains.values() for gain in found if gain.stderr is not None]
    if measured and not any(gain.verdict > 0 for gain in measured):
        clauses.append("no soup beats the best single model beyond noise")
    return clauses


def _contrast(
    results: Results, method: str, headline: str, gains: Sequence[_Gain], headline_gains: Sequence[_Gain]
) -> str | None:
    known = {(gain.split, gain.verdict) for gain in headline_gains}
    sure = [gain for gain in gains if gain.verdict]
    if any((gain.split, gain.verdict) not in known for gain in sure):
        return _beyond_noise(_name(method), "the best single model", sure, results)
    direct = [gain for gain in _gains(results, method, headline) if gain.verdict]
    return _beyond_noise(_name(method), _name(headline), direct, results) if direct else None


def _beyond_noise(method: str, against: str, gains: Sequence[_Gain], results: Results) -> str:
    scale = scale_of(results)
    better = _listed([g for g in gains if g.verdict > 0], scale, signed=results.higher_is_better)
    worse = _listed([g for g in gains if g.verdict < 0], scale)
    parts = [f"{word} by {sizes}" for word, sizes in (("better", better), ("worse", worse)) if sizes]
    return f"against {against}, {method} is {' but '.join(parts)}, beyond noise"


def _name(method: str) -> str:
    return printable(method.replace("_", " "))
