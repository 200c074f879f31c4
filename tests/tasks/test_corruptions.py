"""Corruptions: the rate is kept, items are independent, no text is lost."""

from __future__ import annotations

import difflib
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockpot.config import CORRUPTION_NAMES
from stockpot.tasks.corruptions import CORRUPTIONS, corrupt, typos, word_drop

WORDS = ("averaging", "the", "weights", "of", "many", "fine", "tuned", "models", "improves", "accuracy", "at", "once")
TEXTS = tuple((" ".join(WORDS[i % 5 : i % 5 + 8]),) for i in range(200))
kinds = pytest.mark.parametrize("kind", sorted(CORRUPTIONS))
texts = st.lists(st.tuples(st.text(max_size=30)), max_size=8)


def test_configuration_knows_them_all() -> None:
    assert set(CORRUPTION_NAMES) == set(CORRUPTIONS)


@kinds
def test_the_same_seed_gives_the_same_and_another_seed_another(kind: str) -> None:
    assert corrupt(TEXTS, kind, 0.3, 0) == corrupt(TEXTS, kind, 0.3, 0)
    assert corrupt(TEXTS, kind, 0.3, 0) != corrupt(TEXTS, kind, 0.3, 1)


@kinds
def test_items_do_not_see_each_other(kind: str) -> None:
    whole = corrupt(TEXTS, kind, 0.3, 0)
    assert corrupt(TEXTS[:50], kind, 0.3, 0) == whole[:50]
    replaced = (("something else altogether",), *TEXTS[1:])
    assert corrupt(replaced, kind, 0.3, 0)[1:] == whole[1:]


@kinds
def test_equal_texts_of_different_items_are_corrupted_differently(kind: str) -> None:
    same = ((" ".join(WORDS),),) * 5
    assert len(set(corrupt(same, kind, 0.3, 0))) >= 4  # two texts may lose the same number of words


@kinds
def test_columns_have_streams_of_their_own(kind: str) -> None:
    text = " ".join(WORDS)
    ((first, second),) = corrupt([(text, text)], kind, 0.3, 0)
    assert first != second


@kinds
@settings(deadline=None, derandomize=True, max_examples=50)
@given(texts, st.floats(0, 1), st.integers(0, 9))
def test_layout_is_kept_and_no_text_becomes_blank(kind: str, texts: list[tuple[str]], rate: float, seed: int) -> None:
    for (before,), (after,) in zip(texts, corrupt(texts, kind, rate, seed), strict=True):
        assert bool(before.strip()) == bool(after.strip())


@kinds
def test_rate_zero_changes_nothing(kind: str) -> None:
    assert corrupt(TEXTS, kind, 0.0, 0) == TEXTS


def test_words_are_dropped_at_the_rate_and_in_order() -> None:
    kept = corrupt(TEXTS, "word_drop", 0.4, 0)
    n_words = sum(len(text.split()) for (text,) in TEXTS)
    share = sum(len(text.split()) for (text,) in kept) / n_words
    assert abs(share - 0.6) < 4 * (0.24 / n_words) ** 0.5
    for (before,), (after,) in zip(TEXTS, kept, strict=True):
        words = iter(before.split())
        assert all(word in words for word in after.split())


def test_all_words_dropped_leaves_one() -> None:
    assert {word_drop("a b c", 1.0, Random(seed)) for seed in range(30)} == {"a", "b", "c"}


def test_typos_happen_at_the_rate() -> None:
    # A mistake that covers two characters saves one chance for another; at a rate of 8 % that is lost in the noise.
    unlike = [
        sum(tag != "equal" for tag, *_ in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes())
        for (before,), (after,) in zip(TEXTS, corrupt(TEXTS, "typos", 0.08, 0), strict=True)
    ]
    per_character = sum(unlike) / sum(len(text) for (text,) in TEXTS)
    assert 0.07 < per_character < 0.11


def test_every_kind_of_mistake_is_made() -> None:
    made = {typos("ab", 0.5, Random(seed)) for seed in range(300)}
    assert "ba" in made
    assert {"a", "b"} <= made
    assert any(len(text) == 3 and text[0] == "a" and text[2] == "b" for text in made)
    assert any(len(text) == 2 and text[0] == "a" and text[1] != "b" for text in made)


def test_a_letter_is_never_substituted_by_itself() -> None:
    # Of one letter: deleted it stays as it is (no text becomes blank), else it is substituted or gets a companion.
    made = {typos("A", 1.0, Random(seed)) for seed in range(300)}
    assert "a" not in made
    assert {text for text in made if len(text) == 1 and text != "A"} == set("bcdefghijklmnopqrstuvwxyz")


def test_streams_are_frozen_for_ever() -> None:
    """A test set must not change under a user."""
    assert corrupt([("a small and simple audio framework",)], "typos", 0.2, 0) == (
        ("a small ads imple audoi framework",),
    )
    assert corrupt([("a small and simple audio framework",)], "word_drop", 0.4, 0) == (("a small and audio",),)
    assert corrupt([("A small and Simple audio framework",)], "casing", 0.5, 0) == (
        ("a SMALL AND Simple audio FRAMEWORK",),
    )
    assert corrupt([("a small and simple audio framework",)], "truncation", 0.4, 0) == (("a small and",),)


def test_words_change_their_case_at_the_rate_and_nothing_else() -> None:
    texts = tuple((f"The  {text}\tEND",) for (text,) in TEXTS)
    after = corrupt(texts, "casing", 0.3, 0)
    assert [text.lower() for (text,) in after] == [text.lower() for (text,) in texts]
    pairs = [
        (b, a)
        for (before,), (now,) in zip(texts, after, strict=True)
        for b, a in zip(before.split(), now.split(), strict=True)
    ]
    changed = [(b, a) for b, a in pairs if b != a]
    assert abs(len(changed) / len(pairs) - 0.3) < 4 * (0.21 / len(pairs)) ** 0.5
    assert all(a in (a.upper(), a.lower()) for _, a in changed)


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.8])
def test_texts_lose_their_ends_at_the_rate(rate: float) -> None:
    texts = ((" ".join(WORDS * 3),),) * 400
    lost = []
    for (before,), (after,) in zip(texts, corrupt(texts, "truncation", rate, 0), strict=True):
        assert before.startswith(after)
        assert not after.endswith(" ")
        lost.append(1 - len(after.split()) / len(before.split()))
    assert abs(sum(lost) / len(lost) - rate) < 0.05
