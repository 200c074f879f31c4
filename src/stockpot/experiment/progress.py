"""What a long command tells whoever watches it: plain values; the command line turns them into lines and bars."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from stockpot.types import CurvePoint, PairedGain, Score, Step

__all__ = ["PROGRESS_FILE", "OnProgress", "Progress", "Stopwatch", "kept_progress", "step_line"]

#: In the output folder while a command works there, a JSON object a line: what `report --serve` shows of it.
PROGRESS_FILE = "progress.jsonl"


@dataclass(frozen=True, slots=True)
class Progress:
    """One thing that happened.

    Args:
        stage: "data", "head", "sweep", "score", "select", "measure" or "write".
        line: what happened, one line.
        done, total: how far the stage is; total 0 where nothing is counted.
    """

    stage: str
    line: str
    done: int = 0
    total: int = 0


OnProgress = Callable[[Progress], None]
#: Of several trials one will be taken, and which is known at the end.
_VERDICTS = {"interpolate": ("best so far", ""), "top_k": ("best so far", "")}


@contextmanager
def kept_progress(folder: Path, on_progress: OnProgress | None) -> Iterator[OnProgress]:
    """Tells whoever watches, and keeps what was told in the folder as long as the work goes on.

    Args:
        folder: exists.
        on_progress: hears everything too.
    """
    path = folder / PROGRESS_FILE

    def tell(progress: Progress) -> None:
        # A full disk stops the work where it matters, not here.
        with suppress(OSError), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(progress), ensure_ascii=False) + "\n")
        if on_progress is not None:
            on_progress(progress)

    path.unlink(missing_ok=True)  # of a command that was killed
    try:
        yield tell
    finally:
        path.unlink(missing_ok=True)


def step_line(method: str, step: Step | CurvePoint) -> str:
    """One line of a recipe's acceptance log: the score is that of the soup with the ingredient added.

    A step with a label tells that instead: what was tried is not one ingredient more, or needs its order named.
    A learned soup tells the loss on the part of the held-out split that it is stopped by.

    Example:
        >>> from stockpot.types import Ingredient, Score
        >>> step_line("greedy", Step(Ingredient("lr3e-5", "runs/lr3e-5"), Score(0.7431), accepted=True))
        'greedy: + lr3e-5 0.7431 kept'
        >>> sure = Score(0.7441, paired=PairedGain(0.001, 0.0022, 1.0, 5))
        >>> step_line("greedy", Step(Ingredient("lr1e-4", "runs/lr1e-4"), sure, accepted=True))
        'greedy: + lr1e-4 0.7441 (+0.0010 ± 0.0022, 5 changed) kept'
        >>> step_line("pruned", Step(Ingredient("lr1e-3", "runs/lr1e-3"), Score(0.75), True, "without lr1e-3"))
        'pruned: without lr1e-3 0.7500 taken'
    """
    if isinstance(step, CurvePoint):
        return f"{method}: {step.label} loss {step.stopping_loss:.4f}{' best so far' if step.kept else ''}"
    score = _given_up(step.score) if step.score.is_abandoned else f"{step.score.value:.4f}"
    yes, no = _VERDICTS.get(method, ("taken", "not taken") if step.label else ("kept", "left out"))
    tried = f"{method}: {step.label or f'+ {step.ingredient.name}'} {score}"
    return " ".join(filter(None, [tried, _gain(step.score.paired), yes if step.accepted else no]))


def _given_up(score: Score) -> str:
    seen = "" if score.n_evaluated is None else f" after {score.n_evaluated:,} of {score.n_examples:,}"
    return f"given up{seen}"


def _gain(paired: PairedGain | None) -> str:
    """What the step adds to the soup before it, how sure that is, and on how many examples the two differ."""
    if paired is None:
        return ""
    error = "" if paired.stderr is None else f" ± {paired.stderr:.4f}"
    changed = "" if paired.n_changed is None else f", {paired.n_changed} changed"
    return f"({paired.difference:+.4f}{error}{changed})"


@dataclass(slots=True)
class Stopwatch:
    """Seconds by stage, for timings.json."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time of a block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
