/* The fused pass: many checkpoints' values summed in float64 and rounded once, a block of a few KiB at a time, so that
 * every byte passes through the processor's nearest cache once. `portable.py` states the same in numpy; both give the
 * same bits, because both do the same IEEE operations in the same order. Compiled without contraction (no FMA) and
 * without any option that lets the compiler reorder arithmetic.
 *
 *   total = before + sum over i of factor[i] * x[i]         in order; the first term starts it where before is absent
 *   out   = round(total / divisor * multiplier)
 */
#define _XOPEN_SOURCE 700
#define _FILE_OFFSET_BITS 64
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define INTERFACE_VERSION 2
#define BLOCK 512
#define MOST_TERMS 64
#define READ_FAILED (-2)

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#define EXPORT __attribute__((visibility("default")))
#define ALIGNED __attribute__((aligned(64)))
#else
#define INLINE static inline
#define EXPORT __declspec(dllexport)
#define ALIGNED
#endif

/* One build for every processor: the loader of glibc picks the clone that this one can run. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif

#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_AVX2_FORM 1
#include <immintrin.h>
#endif

enum dtype { F64 = 0, F32 = 1, F16 = 2, BF16 = 3 };
static const size_t ITEM_BYTES[] = {8, 4, 2, 2};

INLINE float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE double from_f64(double x) { return x; }
INLINE double from_f32(float x) { return (double)x; }
INLINE double from_bf16(uint16_t x) { return (double)float_of((uint32_t)x << 16); }

/* The exponent is moved by a multiplication, which is exact for subnormal numbers too; infinity and NaN stay so. */
INLINE double from_f16(uint16_t x) {
    float magnitude = float_of((uint32_t)(x & 0x7FFF) << 13) * 0x1p112f;
    uint32_t special = (x & 0x7C00) == 0x7C00 ? 0x7F800000u : 0u;
    return (double)float_of(bits_of(magnitude) | special | (uint32_t)(x & 0x8000) << 16);
}

/* Four terms a sweep: the running block is loaded and stored a quarter as often; the order of the sum stays. */
#define DEFINE_TERMS(NAME, ITEM, GET)                                                                                  \
    INLINE void add_##NAME(double *restrict total, const void *const *terms, int k, size_t at, size_t m, int fresh) {  \
        int i = 0;                                                                                                     \
        if (fresh && k >= 4) {                                                                                         \
            const ITEM *a = (const ITEM *)terms[0] + at, *b = (const ITEM *)terms[1] + at;                             \
            const ITEM *c = (const ITEM *)terms[2] + at, *d = (const ITEM *)terms[3] + at;                             \
            for (size_t j = 0; j < m; j++) total[j] = ((GET(a[j]) + GET(b[j])) + GET(c[j])) + GET(d[j]);               \
            i = 4;                                                                                                     \
        } else if (fresh) {                                                                                            \
            const ITEM *a = (const ITEM *)terms[0] + at;                                                               \
            for (size_t j = 0; j < m; j++) total[j] = GET(a[j]);                                                       \
            i = 1;                                                                                                     \
        }                                                                                                              \
        for (; i + 4 <= k; i += 4) {                                                                                   \
            const ITEM *a = (const ITEM *)terms[i] + at, *b = (const ITEM *)terms[i + 1] + at;                         \
            const ITEM *c = (const ITEM *)terms[i + 2] + at, *d = (const ITEM *)terms[i + 3] + at;                     \
            for (size_t j = 0; j < m; j++)                                                                             \
                total[j] = (((total[j] + GET(a[j])) + GET(b[j])) + GET(c[j])) + GET(d[j]);                             \
        }                                                                                                              \
        for (; i < k; i++) {                                                                                           \
            const ITEM *a = (const ITEM *)terms[i] + at;                                                               \
            for (size_t j = 0; j < m; j++) total[j] += GET(a[j]);                                                      \
        }                                                                                                              \
    }                                                                                                                  \
    INLINE void add_scaled_##NAME(double *restrict total, const void *const *terms, const double *factors, int k,      \
                                  size_t at, size_t m, int fresh) {                                                    \
        int i = 0;                                                                                                     \
        if (fresh) {                                                                                                   \
            const ITEM *a = (const ITEM *)terms[0] + at;                                                               \
            const double f = factors[0];                                                                               \
            for (size_t j = 0; j < m; j++) total[j] = f * GET(a[j]);                                                   \
            i = 1;                                                                                                     \
        }                                                                                                              \
        for (; i + 2 <= k; i += 2) {                                                                                   \
            const ITEM *a = (const ITEM *)terms[i] + at, *b = (const ITEM *)terms[i + 1] + at;                         \
            const double f = factors[i], g = factors[i + 1];                                                           \
            for (size_t j = 0; j < m; j++) total[j] = (total[j] + f * GET(a[j])) + g * GET(b[j]);                      \
        }                                                                                                              \
        for (; i < k; i++) {                                                                                           \
            const ITEM *a = (const ITEM *)terms[i] + at;                                                               \
            const double f = factors[i];                                                                               \
            for (size_t j = 0; j < m; j++) total[j] += f * GET(a[j]);                                                  \
        }                                                                                                              \
    }                                                                                                                  \
    INLINE int is_not_finite_##NAME(const void *term, size_t at, size_t m) {                                           \
        const ITEM *a = (const ITEM *)term + at;                                                                       \
        int bad = 0;                                                                                                   \
        for (size_t j = 0; j < m; j++) bad |= !(fabs(GET(a[j])) <= DBL_MAX);                                           \
        return bad;                                                                                                    \
    }

DEFINE_TERMS(f64, double, from_f64)
DEFINE_TERMS(f32, float, from_f32)
DEFINE_TERMS(f16, uint16_t, from_f16)
DEFINE_TERMS(bf16, uint16_t, from_bf16)

#define FOR_DTYPE(DTYPE, F64_CASE, F32_CASE, F16_CASE, BF16_CASE)                                                      \
    switch (DTYPE) {                                                                                                   \
    case F64: F64_CASE; break;                                                                                         \
    case F32: F32_CASE; break;                                                                                         \
    case F16: F16_CASE; break;                                                                                         \
    default: BF16_CASE; break;                                                                                         \
    }

/* total / divisor * multiplier; where the divisor is a power of two its inverse gives the same result sooner. */
struct scaling {
    int divides;
    double divisor, multiplier;
};

INLINE struct scaling scaling_of(double divisor, double multiplier) {
    int exponent;
    struct scaling by = {divisor != 1.0, divisor, multiplier};
    if (multiplier == 1.0 && frexp(divisor, &exponent) == 0.5) by.divides = 0, by.multiplier = 1.0 / divisor;
    return by;
}

#ifdef HAS_AVX2_FORM
/* The same for processors with AVX2 and F16C, sixteen values of all terms at a time: totals stay in registers, which
 * compilers do not find out by themselves, and four sums run side by side, so that no addition waits for the last. */
#define AVX2 __attribute__((target("avx2,f16c")))
#define INLINE_AVX2 static inline __attribute__((always_inline, target("avx2,f16c")))

INLINE_AVX2 __m256d four_f32(const float *x) { return _mm256_cvtps_pd(_mm_loadu_ps(x)); }
INLINE_AVX2 __m256d four_f16(const uint16_t *x) {
    return _mm256_cvtps_pd(_mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)x)));
}
INLINE_AVX2 __m256d four_bf16(const uint16_t *x) {
    const __m128i wide = _mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i *)x));
    return _mm256_cvtps_pd(_mm_castsi128_ps(_mm_slli_epi32(wide, 16)));
}

/* Adds to the first m - m % 16 values and returns how many these are. */
#define DEFINE_AVX2_TERMS(NAME, ITEM)                                                                                  \
    AVX2 static size_t add_avx2_##NAME(double *total, const void *const *terms, int k, size_t at, size_t m,            \
                                       int fresh) {                                                                    \
        const size_t whole = m - m % 16;                                                                               \
        for (size_t j = 0; j < whole; j += 16) {                                                                       \
            __m256d a, b, c, d;                                                                                        \
            if (fresh) {                                                                                               \
                const ITEM *x = (const ITEM *)terms[0] + at + j;                                                       \
                a = four_##NAME(x), b = four_##NAME(x + 4), c = four_##NAME(x + 8), d = four_##NAME(x + 12);           \
            } else {                                                                                                   \
                a = _mm256_loadu_pd(total + j), b = _mm256_loadu_pd(total + j + 4);                                    \
                c = _mm256_loadu_pd(total + j + 8), d = _mm256_loadu_pd(total + j + 12);                               \
            }                                                                                                          \
            for (int i = fresh; i < k; i++) {                                                                          \
                const ITEM *x = (const ITEM *)terms[i] + at + j;                                                       \
                a = _mm256_add_pd(a, four_##NAME(x)), b = _mm256_add_pd(b, four_##NAME(x + 4));                        \
                c = _mm256_add_pd(c, four_##NAME(x + 8)), d = _mm256_add_pd(d, four_##NAME(x + 12));                   \
            }                                                                                                          \
            _mm256_storeu_pd(total + j, a), _mm256_storeu_pd(total + j + 4, b);                                        \
            _mm256_storeu_pd(total + j + 8, c), _mm256_storeu_pd(total + j + 12, d);                                   \
        }                                                                                                              \
        return whole;                                                                                                  \
    }                                                                                                                  \
    AVX2 static size_t add_scaled_avx2_##NAME(double *total, const void *const *terms, const double *factors, int k,   \
                                              size_t at, size_t m, int fresh) {                                        \
        const size_t whole = m - m % 16;                                                                               \
        for (size_t j = 0; j < whole; j += 16) {                                                                       \
            __m256d a, b, c, d;                                                                                        \
            if (fresh) {                                                                                               \
                const ITEM *x = (const ITEM *)terms[0] + at + j;                                                       \
                const __m256d f = _mm256_set1_pd(factors[0]);                                                          \
                a = _mm256_mul_pd(f, four_##NAME(x)), b = _mm256_mul_pd(f, four_##NAME(x + 4));                        \
                c = _mm256_mul_pd(f, four_##NAME(x + 8)), d = _mm256_mul_pd(f, four_##NAME(x + 12));                   \
            } else {                                                                                                   \
                a = _mm256_loadu_pd(total + j), b = _mm256_loadu_pd(total + j + 4);                                    \
                c = _mm256_loadu_pd(total + j + 8), d = _mm256_loadu_pd(total + j + 12);                               \
            }                                                                                                          \
            for (int i = fresh; i < k; i++) {                                                                          \
                const ITEM *x = (const ITEM *)terms[i] + at + j;                                                       \
                const __m256d f = _mm256_set1_pd(factors[i]);                                                          \
                a = _mm256_add_pd(a, _mm256_mul_pd(f, four_##NAME(x)));                                                \
                b = _mm256_add_pd(b, _mm256_mul_pd(f, four_##NAME(x + 4)));                                            \
                c = _mm256_add_pd(c, _mm256_mul_pd(f, four_##NAME(x + 8)));                                            \
                d = _mm256_add_pd(d, _mm256_mul_pd(f, four_##NAME(x + 12)));                                           \
            }                                                                                                          \
            _mm256_storeu_pd(total + j, a), _mm256_storeu_pd(total + j + 4, b);                                        \
            _mm256_storeu_pd(total + j + 8, c), _mm256_storeu_pd(total + j + 12, d);                                   \
        }                                                                                                              \
        return whole;                                                                                                  \
    }

/* The whole way to float32 in registers: sums, scales, checks, rounds and stores the first m - m % 16 values. */
#define DEFINE_AVX2_BLEND(NAME, ITEM)                                                                                  \
    AVX2 static size_t blend_avx2_##NAME(const void *const *terms, int k, size_t at, size_t m, const struct scaling *by,\
                                         double limit, float *out, int *bad) {                                         \
        const size_t whole = m - m % 16;                                                                               \
        const __m256d divisor = _mm256_set1_pd(by->divisor), multiplier = _mm256_set1_pd(by->multiplier);              \
        const __m256d most = _mm256_set1_pd(limit), sign = _mm256_set1_pd(-0.0);                                       \
        __m256d beyond = _mm256_setzero_pd();                                                                          \
        for (size_t j = 0; j < whole; j += 16) {                                                                       \
            const ITEM *x = (const ITEM *)terms[0] + at + j;                                                           \
            __m256d v[4] = {four_##NAME(x), four_##NAME(x + 4), four_##NAME(x + 8), four_##NAME(x + 12)};              \
            for (int i = 1; i < k; i++) {                                                                              \
                x = (const ITEM *)terms[i] + at + j;                                                                   \
                v[0] = _mm256_add_pd(v[0], four_##NAME(x)), v[1] = _mm256_add_pd(v[1], four_##NAME(x + 4));            \
                v[2] = _mm256_add_pd(v[2], four_##NAME(x + 8)), v[3] = _mm256_add_pd(v[3], four_##NAME(x + 12));       \
            }                                                                                                          \
            for (int q = 0; q < 4; q++) {                                                                              \
                if (by->divides) v[q] = _mm256_div_pd(v[q], divisor);                                                  \
                v[q] = _mm256_mul_pd(v[q], multiplier);                                                                \
                beyond = _mm256_or_pd(beyond, _mm256_cmp_pd(_mm256_andnot_pd(sign, v[q]), most, _CMP_NLT_UQ));         \
                _mm_storeu_ps(out + at + j + 4 * q, _mm256_cvtpd_ps(v[q]));                                            \
            }                                                                                                          \
        }                                                                                                              \
        *bad |= _mm256_movemask_pd(beyond) != 0;                                                                       \
        return whole;                                                                                                  \
    }

DEFINE_AVX2_TERMS(f32, float)
DEFINE_AVX2_TERMS(f16, uint16_t)
DEFINE_AVX2_TERMS(bf16, uint16_t)
DEFINE_AVX2_BLEND(f32, float)
DEFINE_AVX2_BLEND(f16, uint16_t)
DEFINE_AVX2_BLEND(bf16, uint16_t)

static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c"); }

/* How many values went the whole way; the rest, or all, is left to the plain one. */
static size_t blended_fast(int stored, const void *const *terms, int k, size_t at, size_t m, const struct scaling *by,
                           double limit, float *out, int *bad) {
    if (k == 0 || !has_avx2()) return 0;
    FOR_DTYPE(stored, return 0, return blend_avx2_f32(terms, k, at, m, by, limit, out, bad),
              return blend_avx2_f16(terms, k, at, m, by, limit, out, bad),
              return blend_avx2_bf16(terms, k, at, m, by, limit, out, bad))
    return 0;
}

/* How many values a fast form has added; the rest, or all, is left to the plain one. */
static size_t added_fast(int stored, double *total, const void *const *terms, const double *factors, int k, size_t at,
                         size_t m, int fresh) {
    if (k == 0 || !has_avx2()) return 0;
    if (factors == NULL)
        FOR_DTYPE(stored, return 0, return add_avx2_f32(total, terms, k, at, m, fresh),
                  return add_avx2_f16(total, terms, k, at, m, fresh),
                  return add_avx2_bf16(total, terms, k, at, m, fresh))
    FOR_DTYPE(stored, return 0, return add_scaled_avx2_f32(total, terms, factors, k, at, m, fresh),
              return add_scaled_avx2_f16(total, terms, factors, k, at, m, fresh),
              return add_scaled_avx2_bf16(total, terms, factors, k, at, m, fresh))
    return 0;
}
#else
static size_t added_fast(int stored, double *total, const void *const *terms, const double *factors, int k, size_t at,
                         size_t m, int fresh) {
    (void)stored, (void)total, (void)terms, (void)factors, (void)k, (void)at, (void)m, (void)fresh;
    return 0;
}

static size_t blended_fast(int stored, const void *const *terms, int k, size_t at, size_t m, const struct scaling *by,
                           double limit, float *out, int *bad) {
    (void)stored, (void)terms, (void)k, (void)at, (void)m, (void)by, (void)limit, (void)out, (void)bad;
    return 0;
}
#endif

/* Cut to 13 significant bits, the last one set where something was cut ("rounded to odd", Boldo and Melquiond, 2008):
 * exact as a float32 wherever the 16-bit formats have values, and safe to round once more to at most 11 bits. */
INLINE float to_odd(double value) {
    const uint64_t cut = ((uint64_t)1 << 40) - 1;
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = (bits | ((bits & cut) + cut)) & ~cut;
    memcpy(&value, &bits, sizeof value);
    return (float)value;
}

INLINE uint16_t to_bf16(double value) {
    uint32_t bits = bits_of(to_odd(value));
    bits += 0x7FFF + ((bits >> 16) & 1);
    return (uint16_t)(bits >> 16);
}

/* Below 2^-14 the addition of a half puts the number on the grid of the subnormal ones: one rounding, to even. */
INLINE uint16_t to_f16(double value) {
    uint32_t bits = bits_of(to_odd(value));
    uint32_t sign = (bits >> 16) & 0x8000;
    uint32_t magnitude = bits & 0x7FFFFFFF;
    uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - 0x3F000000;
    uint32_t normal = (magnitude + 0xFFF + ((magnitude >> 13) & 1) - (112u << 23)) >> 13;
    return (uint16_t)(sign | (magnitude < (113u << 23) ? subnormal : normal));
}

INLINE double to_f64(double value) { return value; }
INLINE float to_f32(double value) { return (float)value; }

#define DEFINE_ROUNDING(NAME, ITEM, PUT)                                                                               \
    INLINE int round_##NAME(const double *restrict total, ITEM *restrict out, size_t m, double limit) {                \
        int bad = 0;                                                                                                   \
        for (size_t j = 0; j < m; j++) {                                                                               \
            bad |= !(fabs(total[j]) < limit);                                                                          \
            out[j] = PUT(total[j]);                                                                                    \
        }                                                                                                              \
        return bad;                                                                                                    \
    }

DEFINE_ROUNDING(f64, double, to_f64)
DEFINE_ROUNDING(f32, float, to_f32)
DEFINE_ROUNDING(f16, uint16_t, to_f16)
DEFINE_ROUNDING(bf16, uint16_t, to_bf16)

INLINE void scale(double *restrict total, size_t m, const struct scaling *by) {
    if (by->divides)
        for (size_t j = 0; j < m; j++) total[j] /= by->divisor;
    if (by->multiplier != 1.0)
        for (size_t j = 0; j < m; j++) total[j] *= by->multiplier;
}

EXPORT int stockpot_fused_version(void) { return INTERFACE_VERSION; }

/* terms, factors: [k], at most MOST_TERMS; before, after, out: each may be NULL. A term with factor 0 is only checked.
 * Returns 1 where such a term is not finite or a result does not lie within +-limit, -1 for arguments it cannot take. */
EXPORT CLONES int stockpot_combine(int k, const void *const *terms, const double *factors, int stored, size_t n,
                                   const double *before, double *after, double divisor, double multiplier, int rounded,
                                   double limit, void *out) {
    const void *used[MOST_TERMS], *unused[MOST_TERMS];
    double weights[MOST_TERMS];
    double total[BLOCK] ALIGNED;
    int n_used = 0, n_unused = 0, is_scaled = 0, bad = 0;
    if (k < 0 || k > MOST_TERMS || stored < 0 || stored > BF16 || rounded < 0 || rounded > BF16) return -1;
    for (int i = 0; i < k; i++) {
        if (factors[i] == 0.0) {
            unused[n_unused++] = terms[i];
        } else {
            is_scaled |= factors[i] != 1.0;
            weights[n_used] = factors[i];
            used[n_used++] = terms[i];
        }
    }
    const int fresh = before == NULL && n_used > 0;
    const struct scaling by = scaling_of(divisor, multiplier);
    size_t begin = 0;
    if (fresh && n_unused == 0 && !is_scaled && after == NULL && out != NULL && rounded == F32)
        begin = blended_fast(stored, used, n_used, 0, n, &by, limit, out, &bad);
    for (size_t at = begin; at < n; at += BLOCK) {
        const size_t m = n - at < BLOCK ? n - at : BLOCK;
        for (int i = 0; i < n_unused; i++)
            FOR_DTYPE(stored, bad |= is_not_finite_f64(unused[i], at, m), bad |= is_not_finite_f32(unused[i], at, m),
                      bad |= is_not_finite_f16(unused[i], at, m), bad |= is_not_finite_bf16(unused[i], at, m))
        if (before != NULL)
            memcpy(total, before + at, m * sizeof *total);
        else if (!fresh)
            memset(total, 0, m * sizeof *total);
        const size_t done = added_fast(stored, total, used, is_scaled ? weights : NULL, n_used, at, m, fresh);
        double *rest = total + done;
        const size_t from = at + done, left = m - done;
        if (is_scaled)
            FOR_DTYPE(stored, add_scaled_f64(rest, used, weights, n_used, from, left, fresh),
                      add_scaled_f32(rest, used, weights, n_used, from, left, fresh),
                      add_scaled_f16(rest, used, weights, n_used, from, left, fresh),
                      add_scaled_bf16(rest, used, weights, n_used, from, left, fresh))
        else
            FOR_DTYPE(stored, add_f64(rest, used, n_used, from, left, fresh),
                      add_f32(rest, used, n_used, from, left, fresh), add_f16(rest, used, n_used, from, left, fresh),
                      add_bf16(rest, used, n_used, from, left, fresh))
        if (after != NULL) memcpy(after + at, total, m * sizeof *total);
        if (out == NULL) continue;
        scale(total, m, &by);
        FOR_DTYPE(rounded, bad |= round_f64(total, (double *)out + at, m, limit),
                  bad |= round_f32(total, (float *)out + at, m, limit),
                  bad |= round_f16(total, (uint16_t *)out + at, m, limit),
                  bad |= round_bf16(total, (uint16_t *)out + at, m, limit))
    }
    return bad;
}

/* Fills memory from a file; a read may return less than was asked for. Whatever goes wrong is left to the caller's slow
 * way, which says what it was. */
static int filled(int file, char *memory, size_t n_bytes, int64_t offset) {
    while (n_bytes > 0) {
        const ssize_t count = pread(file, memory, n_bytes, (off_t)offset);
        if (count > 0) {
            memory += count;
            offset += count;
            n_bytes -= (size_t)count;
        } else if (count == 0 || errno != EINTR) {
            return 0;
        }
    }
    return 1;
}

/* Reads n elements of k files, `step` elements at a time so that what was read is still in a near cache when it is
 * summed, and combines them. scratch: step float64, then min(k, MOST_TERMS) times step elements of the stored dtype.
 * Returns READ_FAILED where a file did not give all its bytes, else as stockpot_combine. */
EXPORT int stockpot_read_and_combine(int k, const int *files, const int64_t *offsets, int64_t first, size_t step,
                                     char *scratch, const double *factors, int stored, size_t n, double divisor,
                                     double multiplier, int rounded, double limit, char *out) {
    const void *terms[MOST_TERMS];
    double *total = (double *)scratch;
    char *memory = scratch + step * sizeof *total;
    int bad = 0;
    if (k < 1 || step < 1 || stored < 0 || stored > BF16 || rounded < 0 || rounded > BF16) return -1;
    const size_t item = ITEM_BYTES[stored], room = step * item;
    for (int i = 0; i < MOST_TERMS; i++) terms[i] = memory + (size_t)i * room;
    for (size_t at = 0; at < n; at += step) {
        const size_t m = n - at < step ? n - at : step;
        const int64_t from = first + (int64_t)(at * item);
        int is_started = 0;
        for (int start = 0; start < k; start += MOST_TERMS) {
            const int count = k - start < MOST_TERMS ? k - start : MOST_TERMS;
            const int is_last = start + count == k;
            for (int i = 0; i < count; i++)
                if (!filled(files[start + i], memory + (size_t)i * room, m * item, offsets[start + i] + from))
                    return READ_FAILED;
            const int result = stockpot_combine(count, terms, factors + start, stored, m, is_started ? total : NULL,
                                                is_last ? NULL : total, divisor, multiplier, rounded, limit,
                                                is_last ? out + at * ITEM_BYTES[rounded] : NULL);
            if (result < 0) return result;
            bad |= result;
            for (int i = 0; i < count; i++) is_started |= factors[start + i] != 0.0;
        }
    }
    return bad;
}
