"""Values of every kind that a record can hold."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

from stockpot.records import METHODS, Cell, Comparison, Results, Row
from stockpot.types import Coefficients, Ingredient, Score, Soup, Step

fast = settings(deadline=None, derandomize=True, max_examples=60)

numbers = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | numbers | words, st.lists, max_leaves=4
)
mappings = st.dictionaries(words, json_values, max_size=3)
counts = st.none() | st.integers(0, 10**9)
# Names of the hub's form, which no file in the working directory answers to.
sources = st.integers(0, 99).map(lambda number: f"no-such-organisation/model-{number}")
ingredients = st.builds(Ingredient, words, sources, mappings, digest=st.none() | words, key=st.none() | words)
scores = st.builds(
    Score, numbers, stderr=st.none() | numbers, n_examples=counts, n_evaluated=counts, at_most=st.none() | numbers,
    metric=words, higher_is_better=st.booleans(),
)  # fmt: skip


@st.composite
def soups(draw: st.DrawFn) -> Soup:
    chosen = draw(st.lists(ingredients, min_size=1, max_size=4))
    row = st.tuples(*[numbers] * len(chosen))
    groups = draw(st.none() | st.lists(st.lists(words, max_size=2).map(tuple), min_size=1, max_size=3).map(tuple))
    rows = tuple(draw(row) for _ in range(1 if groups is None else len(groups)))
    tried = st.sampled_from(chosen) | ingredients
    steps = draw(st.lists(st.builds(Step, tried, scores, st.booleans()), max_size=4))
    combine = draw(st.sampled_from(["weights", "logits"]))
    return Soup(
        tuple(chosen), Coefficients(rows, groups), draw(words), combine, draw(numbers), tuple(steps),
        approximate=draw(st.booleans()),
    )  # fmt: skip


cells = st.builds(Cell, numbers, st.none() | numbers, counts, st.none() | numbers, counts)
rows = st.builds(
    Row, st.sampled_from(METHODS) | words, st.floats(0, 1e6), st.integers(1, 100),
    st.dictionaries(words, cells, max_size=4), st.lists(words, max_size=3).map(tuple),
    approximate=st.none() | st.booleans(),
)  # fmt: skip
comparisons = st.builds(Comparison, words, words, words, numbers, st.none() | numbers, counts, st.none() | numbers)
results = st.builds(
    Results, words, st.booleans(), st.lists(rows, max_size=4).map(tuple), st.lists(comparisons, max_size=3).map(tuple),
    words, words | mappings, st.lists(words, max_size=2).map(tuple),
)  # fmt: skip
