from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from fakes import FakeCheckpoint, float_checkpoint
from stockpot.errors import BlendError, IncompatibleError, OutputError
from stockpot.kernel import Chunk, RunningBlend, blend
from stockpot.types import FLOAT_DTYPES, Coefficients


def taken(chunks: Iterable[Chunk]) -> list[tuple[str, str, int, bytes]]:
    return [(chunk.name, str(chunk.spec), chunk.start, bytes(chunk.data)) for chunk in chunks]


def from_scratch(checkpoints: list[FakeCheckpoint], **options: object) -> list[tuple[str, str, int, bytes]]:
    return taken(blend(checkpoints, Coefficients.equal(len(checkpoints)), **options))  # type: ignore[arg-type]


def made(seed: int, dtype: str = "F32") -> FakeCheckpoint:
    random = np.random.default_rng(seed)
    codes = [reference.code_of(float(v), dtype) for v in random.normal(0, 1, 15)]
    step = np.array([seed], "<i8")
    return FakeCheckpoint(
        {
            "a": (dtype, reference.from_codes(codes[:7], dtype), (7,)),
            "step": ("I64", step, ()),
            "none": (dtype, b"", (0, 2)),
            "b": (dtype, reference.from_codes(codes[7:], dtype), (2, 4)),
        },
        source=f"run{seed}",
    )


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    st.sampled_from(sorted(FLOAT_DTYPES)),
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=7),
    st.sampled_from([0, 2**20]),
    st.sampled_from([None, "fp32", "fp64"]),
)
def test_equals_a_blend_from_scratch(
    dtype: str, decisions: list[tuple[int, bool]], budget_bytes: int, output: str | None
) -> None:
    """Any sequence of proposals, some accepted: each gives the bytes of the blend of the accepted ones and itself."""
    accepted: list[FakeCheckpoint] = []
    with RunningBlend(budget_bytes=budget_bytes, chunk_elements=3) as running:
        for seed, is_accepted in decisions:
            candidate = made(seed, dtype)
            got = taken(running.propose(candidate, f"run{seed}", dtype=output))
            assert got == from_scratch([*accepted, candidate], dtype=output, chunk_elements=3)
            if is_accepted:
                running.accept()
                accepted.append(candidate)
        assert running.identities == tuple(c.source for c in accepted)


def test_reads_one_checkpoint_per_proposal() -> None:
    first, second, third = (made(seed) for seed in range(3))
    with RunningBlend() as running:
        running.start(first, "first", identity=("first", 1))
        taken(running.propose(second, "second"))
        running.accept()
        before = first.bytes_read.copy(), second.bytes_read.copy()
        first.close()
        second.close()
        got = taken(running.propose(third, "third"))
        running.accept()
        assert (first.bytes_read, second.bytes_read) == before
        assert third.bytes_read["a"] == 28
        assert running.identities == (("first", 1), "second", "third")
    assert got == from_scratch([made(0), made(1), made(2)])


def test_negative_zero_survives() -> None:
    zero = float_checkpoint(x=[-0.0])
    with RunningBlend() as running:
        running.start(zero, "a")
        assert taken(running.propose(zero, "b"))[0][3] == np.array([-0.0], "<f4").tobytes()


def test_an_abandoned_proposal_cannot_be_accepted() -> None:
    with RunningBlend(chunk_elements=1) as running:
        with pytest.raises(BlendError, match="no whole proposal"):
            running.accept()
        running.start(made(0), "first")
        next(iter(running.propose(made(1), "second")))
        with pytest.raises(BlendError, match="no whole proposal"):
            running.accept()
        assert running.identities == ("first",)
        assert taken(running.propose(made(2), "third")) == from_scratch([made(0), made(2)], chunk_elements=1)
        running.accept()
        with pytest.raises(BlendError, match="no whole proposal"):
            running.accept()


def test_a_replaced_proposal_stops() -> None:
    with RunningBlend(chunk_elements=1) as running:
        running.start(made(0), "first")
        old = running.propose(made(1), "second")
        next(old)
        running.propose(made(2), "third")
        with pytest.raises(BlendError, match="replaced by a later one"):
            next(old)


def test_start_begins_anew_with_another_architecture() -> None:
    with RunningBlend() as running:
        running.start(made(0), "first")
        running.start(float_checkpoint(x=np.ones(4)), "other")
        assert running.identities == ("other",)
        assert len(taken(running.propose(float_checkpoint(x=np.zeros(4)), "more"))) == 1


def test_refuses_what_blend_refuses_and_keeps_its_sum() -> None:
    bad = float_checkpoint("bad", x=[[0.0, float("nan")]])
    one = float_checkpoint("one", x=[[1.0, 2.0]])
    with RunningBlend() as running:
        with pytest.raises(BlendError, match="x in 'bad'"):
            running.start(bad, "bad")
        running.start(one, "one")
        with pytest.raises(BlendError, match=r"1 value is not finite, the first is nan at \[0, 1\]"):
            taken(running.propose(bad, "bad"))
        with pytest.raises(BlendError):
            running.accept()
        with pytest.raises(IncompatibleError, match=r"x: \[1, 2\] F32 in 'one' but \[2\] F32 in 'flat'"):
            running.propose(float_checkpoint(x=[1.0, 2.0]), "flat")
        assert taken(running.propose(one, "one")) == from_scratch([one, one])


def test_differing_integers_are_told_once() -> None:
    def steps(value: int) -> FakeCheckpoint:
        return FakeCheckpoint({"step": ("I64", np.full(5, value, "<i8"), (5,))})

    told: list[tuple[str, str]] = []
    with RunningBlend(chunk_elements=2, on_difference=lambda *pair: told.append(pair)) as running:
        running.start(steps(1), "a")
        taken(running.propose(steps(1), "b"))
        taken(running.propose(steps(2), "c"))
    assert told == [("step", "c")]


def test_scratch_files_live_in_the_named_folder_and_are_removed(tmp_path: Path) -> None:
    with RunningBlend(budget_bytes=0, scratch_folder=tmp_path) as running:
        running.start(made(0), "first")
        assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) == 2 * 15 * 8 + 8
        assert taken(running.propose(made(1), "second")) == from_scratch([made(0), made(1)])
    assert not list(tmp_path.iterdir())


def test_a_scratch_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with RunningBlend(budget_bytes=0, scratch_folder=tmp_path / "missing") as running, pytest.raises(OutputError):
        running.start(made(0), "first")


def test_only_is_kept_for_every_proposal() -> None:
    one, two = float_checkpoint(x=[1.0], y=[1.0]), float_checkpoint(x=[3.0], y=[3.0, 4.0])
    with RunningBlend(only=["x"]) as running:
        running.start(one, "one")
        assert taken(running.propose(two, "two")) == from_scratch([one, two], only=["x"])
    assert two.bytes_read == {"x": 8}
