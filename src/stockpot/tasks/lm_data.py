"""Rows of a language model's task: texts, or contexts with choices, and the tokens of them that count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from stockpot._choices import Choices, answers, number_of, read_choices
from stockpot.config import ChoiceScore, LmDataConfig
from stockpot.tasks.corruptions import corrupt
from stockpot.tasks.data import Split, read_tables
from stockpot.tasks.data_files import data_path
from stockpot.tasks.rows import Source, drawn_rows, rows_of_shift
from stockpot.tasks.tables import Table, raise_problems

__all__ = ["Scored", "divisor_of", "load_lm_splits", "scored_choices", "scored_texts"]


class Scored(NamedTuple):
    """One token sequence whose tokens count from position `start` on, which is at least 1.

    Args:
        tokens: of the context and what counts.
        start: of what counts.
        divisor: of the sum of its log-likelihoods, > 0.
        n_cut: tokens before these that were left out.
    """

    tokens: Sequence[int]
    start: int
    divisor: float = 1.0
    n_cut: int = 0


def divisor_of(choice_score: ChoiceScore, choice: str, n_tokens: int) -> float:
    """What the sum over a choice's tokens is divided by.

    Example:
        >>> [divisor_of(score, "né", 3) for score in ("sum", "mean", "characters", "bytes")]
        [1, 3, 2, 3]
    """
    return {"sum": 1, "mean": n_tokens, "characters": len(choice), "bytes": len(choice.encode())}[choice_score]


# ---------------------------------------------------------------------------------------------------------------- rows


def load_lm_splits(config: LmDataConfig, *, folder: Path) -> dict[str, Split]:
    """Reads every split; rows are drawn as for texts.

    Args:
        config: files, columns, sizes.
        folder: what relative files are relative to.

    Returns:
        "train", "held_out", "test" where configured, then "shift:NAME". A row's texts are its text, or its context and
        its choices; its label is 0, or the number of the right choice.

    Raises:
        DataError: unreadable files, missing columns, values that cannot be used; names file and line.
        MissingExtraError: Parquet without pyarrow.
    """
    sources = {name: _source(config, split.file, folder) for name, split in config.splits.items()}
    for name, shift in config.shifts.items():
        sources[f"shift:{name}"] = sources[shift.of] if shift.of else _source(config, shift.file, folder)
    tables = read_tables(sources.values())
    rows = drawn_rows(config.splits, config.seed, sources, tables)
    for name, shift in config.shifts.items():
        rows[f"shift:{name}"] = rows_of_shift(shift, f"shift:{name}", sources, tables, rows)
    problems = dict.fromkeys(
        f"{source.file}, line {tables[source.path].lines[row]}: {problem}"
        for name, source in sources.items()
        for row in rows[name]
        for problem in _wrong(source, tables[source.path], row)
    )
    count = f"{len(problems)} value{'s' if len(problems) > 1 else ''}"
    raise_problems(problems, f"{count} cannot be used", fix="mend or remove these rows")
    splits = {name: _split(name, source, tables[source.path], rows[name]) for name, source in sources.items()}
    for name, shift in config.shifts.items():
        split = splits[f"shift:{name}"]
        if shift.corrupt is not None and shift.rate is not None:
            first = corrupt([texts[:1] for texts in split.texts], shift.corrupt, shift.rate, config.seed)
            split = replace(split, texts=tuple((*new, *old[1:]) for new, old in zip(first, split.texts, strict=True)))
        splits[f"shift:{name}"] = replace(split, of=shift.of)
    return splits


def _source(config: LmDataConfig, file: str | None, folder: Path) -> Source:
    named = file or config.file
    assert named is not None, "checked with the configuration"
    text = (config.text,) if config.text is not None else (config.context or "", *(config.choices or ()))
    return Source(named, data_path(named, folder), text, config.answer)


def _split(name: str, source: Source, table: Table, rows: Sequence[int]) -> Split:
    choices = [_choices(source, table, row) for row in rows]
    return Split(
        name,
        tuple((table.columns[source.text[0]][row], *map(str, of.texts)) for row, of in zip(rows, choices, strict=True)),
        tuple(_answer(source, table, row, of) or 0 for row, of in zip(rows, choices, strict=True)),
        tuple(f"{source.file}:{table.lines[row]}" for row in rows),
    )


def _choices(source: Source, table: Table, row: int) -> Choices:
    """The choices of a row: those of one column, or columns up to the first empty one."""
    cells = [table.columns[column][row] for column in source.text[1:]]
    if len(cells) == 1:
        return read_choices(cells[0]) or Choices(())
    return Choices(tuple(takewhile(lambda cell: not _is_empty(cell), cells)))


def _answer(source: Source, table: Table, row: int, choices: Choices) -> int | None:
    return None if source.label is None else number_of(table.columns[source.label][row], choices)


def _wrong(source: Source, table: Table, row: int) -> Iterator[str]:
    """What is wrong with one row's cells."""
    first, *others = source.text
    if problem := _wrong_text(table.columns[first][row]):
        yield f"column {first!r} {problem}"
    if source.label is None:
        return
    cells = [table.columns[column][row] for column in others]
    if len(cells) == 1 and read_choices(cells[0]) is None:
        yield f"column {others[0]!r} holds {cells[0]!r}, which is no list; name one column per choice instead"
        return
    choices = _choices(source, table, row)
    n = len(choices.texts)
    if len(cells) > 1 and not all(map(_is_empty, cells[n:])):
        yield "an empty choice before one that is not"
    for number, choice in enumerate(choices.texts):
        is_number = isinstance(choice, int) and not isinstance(choice, bool)
        if not is_number and (problem := _wrong_text(choice)):
            yield f"choice {number} {problem}"
    if n < 2:
        yield f"{n} choice{'s' if n != 1 else ''}; at least 2 are needed"
    elif _answer(source, table, row, choices) is None:
        yield f"column {source.label!r} holds {table.columns[source.label][row]!r}; allowed: {answers(choices)}"


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _wrong_text(value: object) -> str | None:
    if _is_empty(value):
        return "is empty"
    if not isinstance(value, str):
        return f"holds {value!r}, which is no text"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair"
    return None


# -------------------------------------------------------------------------------------------------------------- tokens


def scored_texts(tokenizer: Any, split: Split, *, max_length: int) -> list[tuple[Scored, ...]]:
    """Every text as the tokenizer makes it, cut at `max_length`; all tokens but the first count.

    Raises:
        DataError: texts of a single token.
    """
    tokens = tokenizer([texts[0] for texts in split.texts])["input_ids"]
    found: list[tuple[Scored, ...]] = [
        (Scored(one[:max_length], 1, min(len(one), max_length) - 1, max(0, len(one) - max_length)),) for one in tokens
    ]
    short = [
        f"{split.name}: {item} has {len(one)} token{'s' if len(one) != 1 else ''}"
        for item, one in zip(split.item_ids, tokens, strict=True)
        if len(one) < 2
    ]
    raise_problems(short, "texts too short for a likelihood", fix="remove texts of fewer than two tokens")
    return found


def scored_choices(
    tokenizer: Any, split: Split, *, separator: str, choice_score: ChoiceScore, max_length: int
) -> list[tuple[Scored, ...]]:
    """Context, separator and choice as one text; the tokens that it does not share with the context alone count.

    What is longer than `max_length` loses tokens from its start.

    Raises:
        DataError: choices that leave no room for a token before them, or add none.
    """
    contexts = tokenizer([texts[0] for texts in split.texts])["input_ids"]
    whole = iter(
        tokenizer([f"{texts[0]}{separator}{choice}" for texts in split.texts for choice in texts[1:]])["input_ids"]
    )
    found, problems = [], []
    for texts, context, item in zip(split.texts, contexts, split.item_ids, strict=True):
        scored = []
        for number, choice in enumerate(texts[1:]):
            tokens = next(whole)
            n_shared = max(1, _n_shared(context, tokens))
            n_choice = len(tokens) - n_shared
            if not 1 <= n_choice < max_length:
                problems.append(f"{split.name}: {item}, choice {number} has {n_choice} tokens of its own")
            kept = tokens[-max_length:]
            divisor = divisor_of(choice_score, choice, n_choice)
            scored.append(Scored(kept, max(1, len(kept) - n_choice), divisor, len(tokens) - len(kept)))
        found.append(tuple(scored))
    raise_problems(problems, f"choices unfit for {max_length} tokens", fix="raise `max_length`, or mend them")
    return found


def _n_shared(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the common start."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
