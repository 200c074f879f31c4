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

#define INTERFACE_VERSION 3
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
#define HAS_VECTOR_FORMS 1
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

/* Bounds of the 16-bit codes whose sums are exact in float32: see `is_exact` in `_fused_form.h`. */
struct exactness {
    uint16_t range, highest;
};

/* What is summed: terms[k], factors[k] or NULL where all are 1; before may be NULL where k > 0. */
struct sum {
    int k;
    const void *const *terms;
    const double *factors;
    const double *before;
    struct exactness exact_bf16, exact_f16;
};

/* bfloat16 has 8 significant bits, 8 of exponent and the range of float32; float16 has 11 and 5 and lies well inside. A
 * difference of exponents of 24 - 8 or 24 - 11 minus those bits that k terms may add is exact. */
INLINE struct sum sum_of(int k, const void *const *terms, const double *factors, const double *before) {
    int more = 0;
    while (1 << more < k) more++;
    const struct exactness bf16 = {(uint16_t)((16 - more) << 7), (uint16_t)((253 - more) << 7)};
    const struct exactness f16 = {(uint16_t)((13 - more) << 10), 0x7BFF};
    const struct sum sum = {k, terms, factors, before, bf16, f16};
    return sum;
}

/* What becomes of it; after and out may be NULL. */
struct target {
    double *after;
    struct scaling by;
    int rounded;
    double limit;
    void *out;
};

#ifdef HAS_VECTOR_FORMS
#include "_fused_x86.h"
#endif

/* The widest form that may be used: 0 plain, 1 AVX2, 2 AVX-512. */
static int widest_form = 2;

static int form_here(void) {
#ifdef HAS_VECTOR_FORMS
    if (widest_form >= 2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("f16c")) return 2;
    if (widest_form >= 1 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c")) return 1;
#endif
    return 0;
}

/* Allows forms up to `widest` from now on (tests compare them all); returns the one that this processor then uses. */
EXPORT int stockpot_fused_form(int widest) {
    widest_form = widest;
    return form_here();
}

/* How many values a vector form has combined; the rest, or all, is left to the plain one. */
static size_t combined_fast(int stored, const struct sum *sum, const struct target *target, size_t n, int *bad) {
#ifdef HAS_VECTOR_FORMS
    const int form = sum->k == 0 && sum->before == NULL ? 0 : form_here();
    if (form == 2) return combine_avx512(stored, sum, target, n, bad);
    if (form == 1) return combine_avx2(stored, sum, target, n, bad);
#else
    (void)stored, (void)sum, (void)target, (void)n, (void)bad;
#endif
    return 0;
}

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
    const struct sum sum = sum_of(n_used, used, is_scaled ? weights : NULL, before);
    const struct target target = {after, scaling_of(divisor, multiplier), rounded, limit, out};
    for (int i = 0; i < n_unused; i++)
        FOR_DTYPE(stored, bad |= is_not_finite_f64(unused[i], 0, n), bad |= is_not_finite_f32(unused[i], 0, n),
                  bad |= is_not_finite_f16(unused[i], 0, n), bad |= is_not_finite_bf16(unused[i], 0, n))
    for (size_t at = combined_fast(stored, &sum, &target, n, &bad); at < n; at += BLOCK) {
        const size_t m = n - at < BLOCK ? n - at : BLOCK;
        if (before != NULL)
            memcpy(total, before + at, m * sizeof *total);
        else if (!fresh)
            memset(total, 0, m * sizeof *total);
        if (is_scaled)
            FOR_DTYPE(stored, add_scaled_f64(total, used, weights, n_used, at, m, fresh),
                      add_scaled_f32(total, used, weights, n_used, at, m, fresh),
                      add_scaled_f16(total, used, weights, n_used, at, m, fresh),
                      add_scaled_bf16(total, used, weights, n_used, at, m, fresh))
        else
            FOR_DTYPE(stored, add_f64(total, used, n_used, at, m, fresh), add_f32(total, used, n_used, at, m, fresh),
                      add_f16(total, used, n_used, at, m, fresh), add_bf16(total, used, n_used, at, m, fresh))
        if (after != NULL) memcpy(after + at, total, m * sizeof *total);
        if (out == NULL) continue;
        scale(total, m, &target.by);
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
