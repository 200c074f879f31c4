/* What the vector form (`_fused_form.h`) is made of with AVX2 and with AVX-512. */
#include <immintrin.h>

/* Rounding to 16 bits as below (`to_odd`, `to_bf16`), in vectors; to float16 in hardware, which rounds as `to_f16`. */
#define WITH_AVX2 __attribute__((target("avx2,f16c")))
#define INLINE_AVX2 static inline __attribute__((always_inline, target("avx2,f16c")))

INLINE_AVX2 __m128 odd_avx2(__m256d value) {
    const __m256i cut = _mm256_set1_epi64x(((int64_t)1 << 40) - 1), bits = _mm256_castpd_si256(value);
    const __m256i sticky = _mm256_add_epi64(_mm256_and_si256(bits, cut), cut);
    return _mm256_cvtpd_ps(_mm256_castsi256_pd(_mm256_andnot_si256(cut, _mm256_or_si256(bits, sticky))));
}
INLINE_AVX2 void store_bf16_avx2(uint16_t *to, __m256d value) {
    const __m128i bits = _mm_castps_si128(odd_avx2(value));
    const __m128i last = _mm_and_si128(_mm_srli_epi32(bits, 16), _mm_set1_epi32(1));
    const __m128i high = _mm_srli_epi32(_mm_add_epi32(bits, _mm_add_epi32(last, _mm_set1_epi32(0x7FFF))), 16);
    _mm_storel_epi64((__m128i *)to, _mm_packus_epi32(high, high));
}
INLINE_AVX2 __m256d load_bf16_avx2(const uint16_t *x) {
    const __m128i wide = _mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i *)x));
    return _mm256_cvtps_pd(_mm_castsi128_ps(_mm_slli_epi32(wide, 16)));
}

#define LOW_AVX2(x) _mm256_cvtps_pd(_mm256_castps256_ps128(x))
#define HIGH_AVX2(x) _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))
INLINE_AVX2 void in_order_avx2(__m256 even, __m256 odd, __m256d *v) {
    const __m256 a = _mm256_unpacklo_ps(even, odd), b = _mm256_unpackhi_ps(even, odd); /* 0-3 and 8-11, 4-7 and 12-15 */
    v[0] = LOW_AVX2(a), v[1] = LOW_AVX2(b), v[2] = HIGH_AVX2(a), v[3] = HIGH_AVX2(b);
}

#define FORM(name) name##_avx2
#define ON WITH_AVX2
#define LANES 4
#define VECTOR __m256d
#define LOAD_F64(x) _mm256_loadu_pd(x)
#define LOAD_F32(x) _mm256_cvtps_pd(_mm_loadu_ps(x))
#define LOAD_F16(x) _mm256_cvtps_pd(_mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)(x))))
#define LOAD_BF16(x) load_bf16_avx2(x)
#define STORE_F64(to, v) _mm256_storeu_pd(to, v)
#define STORE_F32(to, v) _mm_storeu_ps(to, _mm256_cvtpd_ps(v))
#define STORE_F16(to, v) _mm_storel_epi64((__m128i *)(to), _mm_cvtps_ph(odd_avx2(v), _MM_FROUND_TO_NEAREST_INT))
#define STORE_BF16(to, v) store_bf16_avx2(to, v)
#define ADD(a, b) _mm256_add_pd(a, b)
#define MULTIPLY(a, b) _mm256_mul_pd(a, b)
#define DIVIDE(a, b) _mm256_div_pd(a, b)
#define SPREAD(x) _mm256_set1_pd(x)
#define BEYOND(v, limit) \
    (_mm256_movemask_pd(_mm256_cmp_pd(_mm256_andnot_pd(_mm256_set1_pd(-0.0), v), limit, _CMP_NLT_UQ)) != 0)
#define FLOATS __m256
#define ADD_FLOATS(a, b) _mm256_add_ps(a, b)
#define WIDE_F16(x) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x)))
#define CODES __m256i
#define LOAD_CODES(x) _mm256_loadu_si256((const __m256i *)(x))
#define AND_CODES(a, b) _mm256_and_si256(a, b)
#define OR_CODES(a, b) _mm256_or_si256(a, b)
#define LARGER(a, b) _mm256_max_epu16(a, b)
#define SMALLER(a, b) _mm256_min_epu16(a, b)
#define MINUS(a, b) _mm256_subs_epu16(a, b)
#define ALL(code) _mm256_set1_epi16((short)(code))
#define NONE_SET(a) _mm256_testz_si256(a, a)
#define EVEN_BF16(x) _mm256_castsi256_ps(_mm256_slli_epi32(x, 16))
#define ODD_BF16(x) _mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32((int)0xFFFF0000)))
#define IN_ORDER(even, odd, v) in_order_avx2(even, odd, v)
#define SPLIT(x, v) ((v)[0] = LOW_AVX2(x), (v)[1] = HIGH_AVX2(x))
#include "_fused_form.h"

#define WITH_AVX512 __attribute__((target("avx512f,avx512bw,avx2,f16c")))
#define INLINE_AVX512 static inline __attribute__((always_inline, target("avx512f,avx512bw,avx2,f16c")))

INLINE_AVX512 __m256 odd_avx512(__m512d value) {
    const __m512i cut = _mm512_set1_epi64(((int64_t)1 << 40) - 1), bits = _mm512_castpd_si512(value);
    const __m512i sticky = _mm512_add_epi64(_mm512_and_si512(bits, cut), cut);
    return _mm512_cvtpd_ps(_mm512_castsi512_pd(_mm512_andnot_si512(cut, _mm512_or_si512(bits, sticky))));
}
INLINE_AVX512 void store_bf16_avx512(uint16_t *to, __m512d value) {
    const __m256i bits = _mm256_castps_si256(odd_avx512(value));
    const __m256i last = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i sum = _mm256_add_epi32(bits, _mm256_add_epi32(last, _mm256_set1_epi32(0x7FFF)));
    const __m512i high = _mm512_castsi256_si512(_mm256_srli_epi32(sum, 16));
    _mm_storeu_si128((__m128i *)to, _mm256_castsi256_si128(_mm512_cvtepi32_epi16(high)));
}
INLINE_AVX512 __m512d load_bf16_avx512(const uint16_t *x) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)x));
    return _mm512_cvtps_pd(_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
}

#define LOW_AVX512(x) _mm512_cvtps_pd(_mm512_castps512_ps256(x))
#define HIGH_AVX512(x) _mm512_cvtps_pd(_mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1)))
INLINE_AVX512 void in_order_avx512(__m512 even, __m512 odd, __m512d *v) {
    const __m512i from_0 = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512 a = _mm512_permutex2var_ps(even, from_0, odd);
    const __m512 b = _mm512_permutex2var_ps(even, _mm512_add_epi32(from_0, _mm512_set1_epi32(8)), odd);
    v[0] = LOW_AVX512(a), v[1] = HIGH_AVX512(a), v[2] = LOW_AVX512(b), v[3] = HIGH_AVX512(b);
}

#define FORM(name) name##_avx512
#define ON WITH_AVX512
#define LANES 8
#define VECTOR __m512d
#define LOAD_F64(x) _mm512_loadu_pd(x)
#define LOAD_F32(x) _mm512_cvtps_pd(_mm256_loadu_ps(x))
#define LOAD_F16(x) _mm512_cvtps_pd(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x))))
#define LOAD_BF16(x) load_bf16_avx512(x)
#define STORE_F64(to, v) _mm512_storeu_pd(to, v)
#define STORE_F32(to, v) _mm256_storeu_ps(to, _mm512_cvtpd_ps(v))
#define STORE_F16(to, v) _mm_storeu_si128((__m128i *)(to), _mm256_cvtps_ph(odd_avx512(v), _MM_FROUND_TO_NEAREST_INT))
#define STORE_BF16(to, v) store_bf16_avx512(to, v)
#define ADD(a, b) _mm512_add_pd(a, b)
#define MULTIPLY(a, b) _mm512_mul_pd(a, b)
#define DIVIDE(a, b) _mm512_div_pd(a, b)
#define SPREAD(x) _mm512_set1_pd(x)
#define BEYOND(v, limit) (_mm512_cmp_pd_mask(_mm512_abs_pd(v), limit, _CMP_NLT_UQ) != 0)
#define FLOATS __m512
#define ADD_FLOATS(a, b) _mm512_add_ps(a, b)
#define WIDE_F16(x) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(x)))
#define CODES __m512i
#define LOAD_CODES(x) _mm512_loadu_si512(x)
#define AND_CODES(a, b) _mm512_and_si512(a, b)
#define OR_CODES(a, b) _mm512_or_si512(a, b)
#define LARGER(a, b) _mm512_max_epu16(a, b)
#define SMALLER(a, b) _mm512_min_epu16(a, b)
#define MINUS(a, b) _mm512_subs_epu16(a, b)
#define ALL(code) _mm512_set1_epi16((short)(code))
#define NONE_SET(a) (_mm512_test_epi16_mask(a, a) == 0)
#define EVEN_BF16(x) _mm512_castsi512_ps(_mm512_slli_epi32(x, 16))
#define ODD_BF16(x) _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32((int)0xFFFF0000)))
#define IN_ORDER(even, odd, v) in_order_avx512(even, odd, v)
#define SPLIT(x, v) ((v)[0] = LOW_AVX512(x), (v)[1] = HIGH_AVX512(x))
#include "_fused_form.h"
