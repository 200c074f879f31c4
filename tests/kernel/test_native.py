"""The compiled pass against the numpy one: the same bits and the same verdict, whatever comes."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stockpot.kernel import native, portable
from stockpot.kernel.fused import combine_for
from stockpot.kernel.passes import MOST_TERMS, OVERFLOWS_AT, Rounding
from stockpot.types import ITEM_BYTES

COMPILED = native.load()
DTYPES = ["F64", "F32", "F16", "BF16"]
needs_it = pytest.mark.skipif(COMPILED is None, reason="built without a C compiler")
FORMS = {"plain": 0, "AVX2": 1, "AVX-512": 2}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    """The compiled pass held to one of its forms."""
    assert COMPILED is not None
    try:
        if COMPILED.allow_form(FORMS[request.param]) != FORMS[request.param]:
            pytest.skip(f"this processor has no {request.param}")
        yield request.param
    finally:
        COMPILED.allow_form(max(FORMS.values()))


def buffer(data: bytes) -> memoryview:
    """A writable copy."""
    return memoryview(bytearray(data))


def any_codes(rng: np.random.Generator, dtype: str, n: int, *, is_finite: bool) -> bytes:
    """Codes of every exponent, so subnormal and huge ones too; some zeros of both signs."""
    unsigned = np.dtype(f"<u{ITEM_BYTES[dtype]}")
    codes = rng.integers(0, 2 ** (8 * unsigned.itemsize), n, dtype=unsigned, endpoint=False)
    exponents = {"F64": 0x7FF << 52, "F32": 0xFF << 23, "F16": 0x1F << 10, "BF16": 0xFF << 7}[dtype]
    if is_finite:
        codes[(codes & unsigned.type(exponents)) == exponents] = 1
    codes[rng.random(n) < 0.05] = 0
    codes[rng.random(n) < 0.05] = 1 << (8 * unsigned.itemsize - 1)
    return codes.tobytes()


def common_values(rng: np.random.Generator, dtype: str, n: int) -> bytes:
    """What weights look like."""
    values = rng.normal(0, 0.05, n)
    if dtype == "BF16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return values.astype({"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]).tobytes()


def outcome(
    combine: object, terms: list[bytes], factors: list[float], dtype: str, n: int, output: str,
    scaling: tuple[float, float], before: bytes | None,
) -> tuple[bool, bytes, bytes]:  # fmt: skip
    out, after = buffer(bytes(n * ITEM_BYTES[output])), buffer(bytes(n * 8))
    is_valid = combine(  # type: ignore[operator]
        [buffer(term) for term in terms], factors, dtype, n, before=None if before is None else buffer(before),
        after=after, rounding=Rounding(*scaling, output, out),
    )  # fmt: skip
    return is_valid, bytes(out), bytes(after)


@needs_it
@pytest.mark.parametrize(("dtype", "output"), list(itertools.product(DTYPES, DTYPES)))
@pytest.mark.usefixtures("form")
def test_compiled_equals_numpy_to_the_bit(dtype: str, output: str) -> None:
    rng = np.random.default_rng([DTYPES.index(dtype), DTYPES.index(output)])
    n_valid = 0
    for round_number in range(120):
        n, k = int(rng.choice([0, 1, 3, 511, 512, 513, 1500])), int(rng.integers(1, MOST_TERMS + 1))
        make = common_values if round_number % 3 else lambda r, d, m: any_codes(r, d, m, is_finite=True)
        terms = [make(rng, dtype, n) for _ in range(k)]
        factors = [[1.0] * k, rng.normal(size=k).tolist(), rng.choice([0.0, 1.0, 0.3], k).tolist()][round_number % 3]
        scaling = (float(rng.choice([1.0, k, 8.0, 3.0])), float(rng.choice([1.0, 0.7])))
        before = None if round_number % 2 else rng.normal(0, 0.1, n).tobytes()
        given = (terms, factors, dtype, n, output, scaling, before)
        expected, found = outcome(portable.combine, *given), outcome(COMPILED, *given)
        assert found[0] == expected[0]
        assert found[2] == expected[2]
        if expected[0]:
            n_valid += 1
            assert found[1] == expected[1]
    assert n_valid > 60


@needs_it
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("form")
def test_compiled_sees_what_is_not_finite_wherever_it_stands(dtype: str) -> None:
    rng = np.random.default_rng(DTYPES.index(dtype))
    bad_codes = {"F64": [0x7FF << 52, 0xFFF8 << 48], "F32": [0x7F800000, 0xFFC00000], "F16": [0x7C00, 0xFE01]}
    bad_codes["BF16"] = [0xFF80, 0x7FC0]
    unsigned = np.dtype(f"<u{ITEM_BYTES[dtype]}")
    n, k = 600, 6
    for position, term, code in itertools.product([0, 511, 512, 599], range(k), bad_codes[dtype]):
        terms = [common_values(rng, dtype, n) for _ in range(k)]
        codes = np.frombuffer(terms[term], unsigned).copy()
        codes[position] = code
        terms[term] = codes.tobytes()
        for factors in ([1.0] * k, [0.0] * k, [0.5] * k):
            given = (terms, factors, dtype, n, "F64", (1.0, 1.0), None)
            assert not outcome(COMPILED, *given)[0]
            assert not outcome(portable.combine, *given)[0]


@needs_it
@pytest.mark.parametrize("output", DTYPES)
@pytest.mark.usefixtures("form")
def test_every_value_near_a_rounding_border_is_rounded_alike(output: str) -> None:
    """The codes of the format, the midpoints between them, and the float64 neighbours of both."""
    rng = np.random.default_rng(3)
    if output == "F64":
        pytest.skip("stored as it is")
    values = np.empty(5000)
    portable.decode(np.frombuffer(any_codes(rng, output, 5000, is_finite=True), np.uint8), output, values)
    middles = (values + np.nextafter(values.astype("f4"), np.float32(np.inf)).astype("f8")) / 2
    steps = values * (1 + 2.0 ** -rng.integers(6, 30, 5000))
    together = np.concatenate([values, middles, steps])
    together = np.concatenate([together, np.nextafter(together, np.inf), np.nextafter(together, -np.inf)])
    together = together[np.abs(together) < OVERFLOWS_AT[output]]
    given = ([together.tobytes()], [1.0], "F64", len(together), output, (1.0, 1.0), None)
    assert outcome(COMPILED, *given)[:2] == outcome(portable.combine, *given)[:2]


@needs_it
@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_sums_that_float32_holds_exactly_and_those_that_it_does_not(dtype: str) -> None:
    """Groups of places with codes at every distance of exponents: sums as long as can be, as large as can be, any."""
    rng = np.random.default_rng(DTYPES.index(dtype))
    mantissa, n_exponents = (10, 31) if dtype == "F16" else (7, 255)
    n, n_valid = 96, 0
    for k, apart in itertools.product([1, 2, 3, 5, 8, 9, MOST_TERMS], [*range(18), n_exponents - 1]):
        highest = rng.integers(apart, max(apart + 1, n_exponents - 6), n)
        highest[32:64] = n_exponents - 1
        exponents = highest - rng.integers(0, apart + 1, (k, n))
        exponents[:-1, :64], exponents[-1] = highest[:64], highest - apart
        fractions, negative = rng.integers(0, 2**mantissa, (k, n)), rng.integers(0, 2, (k, n))
        fractions[:, :64], negative[:, :64] = 2**mantissa - 1, negative[0, :64]
        codes = exponents << mantissa | fractions | negative << 15
        terms = [row.astype("<u2").tobytes() for row in codes]
        for output in ("F64", dtype):
            given = (terms, [1.0] * k, dtype, n, output, (2.0 * k, 1.0), None)
            expected, found = outcome(portable.combine, *given), outcome(COMPILED, *given)
            assert (found[0], found[2]) == (expected[0], expected[2])
            if expected[0]:
                n_valid += 1
                assert found[1] == expected[1]
    assert n_valid > 200


@needs_it
@pytest.mark.usefixtures("form")
def test_the_total_may_be_handed_on_in_place() -> None:
    rng = np.random.default_rng(0)
    terms = [buffer(common_values(rng, "F32", 700)) for _ in range(5)]
    total, at_once = buffer(bytes(5600)), buffer(bytes(5600))
    assert COMPILED is not None
    COMPILED(terms[:2], [1.0, 1.0], "F32", 700, after=total)
    COMPILED(terms[2:], [1.0] * 3, "F32", 700, before=total, after=total)
    COMPILED(terms, [1.0] * 5, "F32", 700, after=at_once)
    assert total == at_once


@needs_it
def test_it_refuses_more_terms_than_it_has_room_for() -> None:
    assert COMPILED is not None
    with pytest.raises(AssertionError, match="100 terms"):
        COMPILED([buffer(bytes(4))] * 100, [1.0] * 100, "F32", 1)


def test_a_missing_or_foreign_library_leaves_the_work_to_numpy(tmp_path: Path) -> None:
    assert native.load(tmp_path / "none.so") is None
    Path(tmp_path, "text.so").write_text("not a library")
    assert native.load(tmp_path / "text.so") is None


def test_the_environment_can_ask_for_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    from stockpot.kernel import fused

    fused._native.cache_clear()
    monkeypatch.setenv("STOCKPOT_PORTABLE", "1")
    try:
        assert combine_for("F32", "F32") is portable.combine
    finally:
        fused._native.cache_clear()


def test_eight_bit_formats_are_left_to_numpy() -> None:
    assert combine_for("F8_E4M3", "F32") is portable.combine
    assert combine_for("F32", "F8_E5M2") is portable.combine


@pytest.mark.skipif(shutil.which("cc") is None or os.name != "posix", reason="no C compiler")
def test_where_there_is_a_compiler_the_pass_is_compiled() -> None:
    assert COMPILED is not None, "install the package again: its build compiles _fused.c"
