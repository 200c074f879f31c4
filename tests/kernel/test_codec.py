from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from stockpot.kernel.codec import decode, encode, fits
from stockpot.kernel.passes import OVERFLOWS_AT
from stockpot.types import FLOAT_DTYPES, ITEM_BYTES

NARROW = ["F16", "BF16", "F8_E4M3", "F8_E5M2"]


def decoded(data: bytes, dtype: str) -> np.ndarray:
    out = np.empty(len(data) // ITEM_BYTES[dtype])
    decode(np.frombuffer(data, np.uint8), dtype, out)
    return out


def encoded(values: np.ndarray, dtype: str) -> list[int]:
    out = np.empty(len(values) * ITEM_BYTES[dtype], np.uint8)
    encode(np.asarray(values, np.float64), dtype, out)
    return out.view(f"<u{ITEM_BYTES[dtype]}").tolist()


def same(here: np.ndarray, there: np.ndarray) -> bool:
    """Equal values, NaN in the same places, zeros of the same sign."""
    numbers = ~np.isnan(there)
    signs = np.array_equal(np.signbit(here[numbers]), np.signbit(there[numbers]))
    return np.array_equal(here, there, equal_nan=True) and signs


def all_codes(dtype: str) -> range:
    return range(256 ** ITEM_BYTES[dtype])


@pytest.mark.parametrize("dtype", NARROW)
def test_decodes_every_code(dtype: str) -> None:
    expected = np.array([reference.value_of(code, dtype) for code in all_codes(dtype)])
    assert same(decoded(reference.from_codes(all_codes(dtype), dtype), dtype), expected)


@pytest.mark.parametrize(
    ("dtype", "theirs"),
    [("F16", "float16"), ("BF16", "bfloat16"), ("F8_E4M3", "float8_e4m3fn"), ("F8_E5M2", "float8_e5m2")],
)
def test_decodes_every_code_as_torch_does(dtype: str, theirs: str) -> None:
    torch = pytest.importorskip("torch")
    codes = np.arange(256 ** ITEM_BYTES[dtype], dtype=f"<u{ITEM_BYTES[dtype]}").view(np.uint8)
    expected = torch.from_numpy(codes).view(getattr(torch, theirs)).double().numpy()
    assert same(decoded(codes.tobytes(), dtype), expected)


@pytest.mark.parametrize("dtype", NARROW)
def test_encoding_undoes_decoding_for_every_finite_code(dtype: str) -> None:
    values = decoded(reference.from_codes(all_codes(dtype), dtype), dtype)
    finite = np.isfinite(values)
    assert encoded(values[finite], dtype) == np.flatnonzero(finite).tolist()


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("dtype", NARROW)
def test_rounds_once_at_every_tie(dtype: str, sign: float) -> None:
    """The midpoint of every two neighbours goes to the even one, and one float64 step aside to the nearer one."""
    codes = np.arange(reference.FORMATS[dtype].largest_code)
    middles = np.array([reference.midpoint(int(code), dtype) for code in codes])
    sign_bit = reference.FORMATS[dtype].sign_bit if sign < 0 else 0
    below, above = np.nextafter(middles, 0.0), np.nextafter(middles, np.inf)
    assert encoded(sign * middles, dtype) == (codes + codes % 2 + sign_bit).tolist()
    assert encoded(sign * below, dtype) == (codes + sign_bit).tolist()
    assert encoded(sign * above, dtype) == (codes + 1 + sign_bit).tolist()


@pytest.mark.parametrize("dtype", NARROW)
def test_the_reference_agrees_about_ties(dtype: str) -> None:
    for code in range(0, reference.FORMATS[dtype].largest_code, 1 if dtype.startswith("F8") else 97):
        middle = reference.midpoint(code, dtype)
        near = [math.nextafter(middle, 0.0), middle, math.nextafter(middle, math.inf)]
        assert [reference.code_of(value, dtype) for value in near] == [code, code + code % 2, code + 1]


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.sampled_from(sorted(FLOAT_DTYPES)), st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=9))
def test_encodes_any_number_like_the_reference(dtype: str, numbers: list[float]) -> None:
    scales = [1.0, 2.0**-1000, 2.0**-140, 2.0**-20]
    for value in (number * scale for number in numbers for scale in scales):
        try:
            expected = reference.code_of(value, dtype)
        except OverflowError:
            assert not fits(np.array([value]), dtype)
        else:
            assert fits(np.array([value]), dtype)
            assert encoded(np.array([value]), dtype) == [expected]


@pytest.mark.parametrize("dtype", sorted(FLOAT_DTYPES - {"F64"}))
def test_fits_ends_exactly_where_the_reference_overflows(dtype: str) -> None:
    limit = OVERFLOWS_AT[dtype]
    largest = math.nextafter(limit, 0.0)
    assert fits(np.array([largest, -largest]), dtype)
    assert not fits(np.array([limit]), dtype)
    assert not fits(np.array([-limit]), dtype)
    assert encoded(np.array([largest]), dtype) == [reference.code_of(largest, dtype)]
    with pytest.raises(OverflowError):
        reference.code_of(limit, dtype)


@pytest.mark.parametrize("dtype", sorted(FLOAT_DTYPES))
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nothing_fits_that_is_not_finite(dtype: str, bad: float) -> None:
    assert fits(np.array([1.0, 0.0]), dtype)
    assert not fits(np.array([1.0, bad, 0.0]), dtype)
    assert fits(np.empty(0), dtype)


@pytest.mark.parametrize("dtype", ["F32", "F64"])
def test_wide_codes_survive_a_round_trip(dtype: str) -> None:
    width = ITEM_BYTES[dtype]
    codes = np.random.default_rng(0).integers(0, 256**width, 20_000, dtype=f"<u{width}", endpoint=False)
    edges = np.array([0, 1, 256**width // 2, 256**width // 2 + 1], f"<u{width}")  # zeros, smallest subnormals
    data = np.concatenate([edges, codes]).tobytes()
    values = decoded(data, dtype)
    finite = np.isfinite(values)
    assert encoded(values[finite], dtype) == np.frombuffer(data, f"<u{width}")[finite].tolist()
