"""Multiple choice of the lm-evaluation-harness as a task: its questions and prompts, our network and statistics."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stockpot.config import HarnessDataConfig, HarnessTaskConfig
from stockpot.errors import ConfigError, DataError, StockpotError
from stockpot.tasks.data import Split
from stockpot.tasks.harness import import_lm_eval
from stockpot.tasks.lm import LanguageModel
from stockpot.tasks.lm_data import Scored, divisor_of
from stockpot.tasks.rows import cut_rows
from stockpot.tasks.tables import raise_problems

__all__ = ["HarnessQuestions"]

#: What the harness seeds Python, NumPy and the choice of examples with, unless told otherwise.
_PYTHON_SEED, _OTHER_SEED = 0, 1234


class _Question(NamedTuple):
    """One document of the harness, as the harness asks it.

    Args:
        item: "task:number".
        text: without examples before it.
        requests: (context, continuation) for every choice.
        choices: as the harness counts their characters.
        answer: the number of the right one.
    """

    item: str
    text: str
    requests: tuple[tuple[str, str], ...]
    choices: tuple[str, ...]
    answer: int


class HarnessQuestions(LanguageModel):
    """A family of causal language models, and multiple choice of the harness: predicts with any soup of them.

    Documents, prompts, examples before a question and the boundary between context and choice are the harness's; the
    log-likelihoods are those of one resident network, as for every task. Arguments are those of `LanguageModel`.

    Raises:
        MissingExtraError: lm_eval is not installed.
        ConfigError: no such task, or one that is not multiple choice.
        DataError: the harness cannot load it, or it has questions that are no multiple choice.
    """

    config: HarnessTaskConfig  # type: ignore[assignment]

    def _read(self, folder: Path) -> dict[str, Split]:
        data = self.config.data
        known = _asked(data, folder)
        rows = _drawn(data, {name: len(questions) for name, questions in known.items()})
        self._questions = {name: [known[split.task][row] for row in rows[name]] for name, split in data.splits.items()}
        return {
            name: Split(
                name,
                tuple((question.text, *question.choices) for question in questions),
                tuple(question.answer for question in questions),
                tuple(question.item for question in questions),
            )
            for name, questions in self._questions.items()
        }

    def _tokenised(self, tokenizer: Any, split: Split) -> list[tuple[Scored, ...]]:
        score = self.config.data.splits[split.name].choice_score or self.config.choice_score
        longest = self.config.evaluation.max_length
        found, problems = [], []
        for question in self._questions[split.name]:
            row = []
            for (context, continuation), choice in zip(question.requests, question.choices, strict=True):
                before, own = _encoded(tokenizer, context, continuation)
                divisor = divisor_of(score, choice, len(own))
                if not before or not 1 <= len(own) < longest or not divisor:
                    counted = f"{len(own)} tokens after {len(before)} of context"
                    problems.append(f"{split.name}: {question.item}, choice {choice!r} has {counted}")
                    continue
                tokens = [*before, *own]
                kept = tokens[-longest:]
                row.append(Scored(kept, len(kept) - len(own), divisor, len(tokens) - len(kept)))
            found.append(tuple(row))
        raise_problems(problems, f"choices unfit for {longest} tokens", fix="raise `max_length`, or take another task")
        return found

    def data_digest(self, split: str) -> str:
        """SHA-256 of a split's prompts, choices and answers, and of how choices are scored."""
        content = hashlib.sha256((self.config.data.splits[split].choice_score or "").encode())
        for question in self._questions[split]:
            content.update(json.dumps(question[2:]).encode() + b"\n")
        return content.hexdigest()

    @property
    def _separator(self) -> str | None:
        return None  # every task of the harness has its own


def _drawn(data: HarnessDataConfig, sizes: dict[str, int]) -> dict[str, Sequence[int]]:
    """The questions of every split, so that splits of one task share none."""
    rows: dict[str, Sequence[int]] = {}
    for task, size in sizes.items():
        sharing = {name: split for name, split in data.splits.items() if split.task == task}
        rows |= cut_rows(sharing, size, task, data.seed)
    return rows


# --------------------------------------------------------------------------------------------------------- the harness


def _asked(data: HarnessDataConfig, folder: Path) -> dict[str, list[_Question]]:
    """The questions of every task named.

    Raises:
        ConfigError, DataError: as for the class; every problem of a task at once.
    """
    import_lm_eval()
    names = list(dict.fromkeys(split.task for split in data.splits.values()))
    manager = _manager(data.tasks, folder, names)
    found: dict[str, list[_Question]] = {}
    for name in names:
        with _as_the_harness_alone():
            try:
                found[name] = [
                    question
                    for task in manager.load(name)["tasks"].values()
                    for question in _questions_of(task, data.shots)
                ]
            except StockpotError:
                raise
            except Exception as exc:  # tasks are code and data of others
                raise DataError(
                    f"the harness cannot load {name!r}: {type(exc).__name__}: {exc}",
                    fix="run it by `lm_eval` alone, and see that its data are there",
                ) from exc
    return found


def _manager(tasks: str | None, folder: Path, names: Sequence[str]) -> Any:
    """What knows the tasks: those of one's own folder, and the harness's where one is named that is not there."""
    from lm_eval.tasks import TaskManager

    own = None if tasks is None else folder / tasks
    if own is not None and not own.is_dir():
        raise ConfigError(
            f"data.tasks: {own}: no such folder", fix="name the folder of your own YAML tasks, or leave it out"
        )
    include = None if own is None else str(own)
    manager = TaskManager(include_path=include, include_defaults=own is None)
    if own is not None and not set(names) <= set(manager.all_tasks):
        manager = TaskManager(include_path=include)
    if unknown := [name for name in names if name not in manager.all_tasks]:
        raise ConfigError(
            f"the harness has no task {', '.join(map(repr, unknown))}",
            fix="see `lm_eval ls tasks`, or give the folder of your own as `tasks` under `data`",
        )
    return manager


@contextlib.contextmanager
def _as_the_harness_alone() -> Iterator[None]:
    """Seeded as by the harness, since tasks may shuffle by global generators, which are put back; no progress bars."""
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(_PYTHON_SEED)
    np.random.seed(_OTHER_SEED)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _questions_of(task: Any, shots: int | None) -> list[_Question]:
    """A task's documents with their prompts.

    Raises:
        ConfigError: no multiple choice, or scored in a way of its own.
        DataError: documents without one right choice.
    """
    name = task.config.task
    if task.OUTPUT_TYPE != "multiple_choice" or callable(task.config.process_results):
        what = "scored by code of its own" if task.OUTPUT_TYPE == "multiple_choice" else f"of type {task.OUTPUT_TYPE}"
        raise ConfigError(
            f"{name!r} is {what}, and logits of choices are made for multiple choice alone",
            fix="measure it by `stockpot.tasks.harness.HarnessTask`, as the guide's page on LLMs tells",
        )
    if shots is not None and task.get_config("num_fewshot") != 0:  # a task's own 0 stands, as in the harness
        task.set_config(key="num_fewshot", value=shots)
    task.set_fewshot_seed(_OTHER_SEED)
    task.build_all_requests()
    found, problems = [], []
    for number, group in groupby(task.instances, key=lambda instance: instance.doc_id):
        requests = list(group)
        document, choices = requests[0].doc, tuple(map(str, task.doc_to_choice(requests[0].doc)))
        pairs = tuple(tuple(request.args) for request in requests[: len(choices)])  # those after them have no context
        asked, given = task.doc_to_text(document), task.doc_to_target(document)
        answer = _number(asked if task.multiple_input else given, choices)
        if answer is None or len(choices) < 2 or any(len(pair) != 2 for pair in pairs):
            problems.append(f"{name}:{number} has {len(choices)} choices and the answer {given!r}")
            continue
        text = asked if isinstance(asked, str) else "".join(context for context, _ in pairs)
        found.append(_Question(f"{name}:{number}", text, pairs, choices, answer))
    raise_problems(problems, f"{name!r} has questions without one right choice", fix="take another task")
    return found


def _number(answer: Any, choices: Sequence[str]) -> int | None:
    """The number of the right choice, given as that or as its text."""
    if isinstance(answer, str):
        return choices.index(answer) if answer in choices else None
    is_number = isinstance(answer, int) and not isinstance(answer, bool)
    return answer if is_number and 0 <= answer < len(choices) else None


# -------------------------------------------------------------------------------------------------------------- tokens


def _encoded(tokenizer: Any, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """The tokens of a context, and of what follows it, cut as the harness cuts: after as many as the context has."""
    prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if not context:
        own = tokenizer.encode(continuation, add_special_tokens=False)
        if own[:1] == [prefix] or prefix is None:
            return own[:1], own[1:]
        return [prefix], own
    n_kept = len(context.rstrip())
    continuation, context = context[n_kept:] + continuation, context[:n_kept]
    has_prefix = prefix is not None and context.startswith(tokenizer.decode(prefix))
    settings = {"add_special_tokens": False} if has_prefix else {}
    whole = tokenizer.encode(context + continuation, **settings)
    n_before = len(tokenizer.encode(context, **settings))
    return whole[:n_before], whole[n_before:]
