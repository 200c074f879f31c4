/* The fused pass in vectors, from registers to memory: included once per instruction set by `_fused.c`, which defines
 *
 *   FORM(name)       name with the instruction set's suffix          ON         target attribute of functions
 *   LANES            float64 values of a vector                       VECTOR     the vector's type
 *   LOAD_*(pointer)  LANES values of a dtype, exactly, as float64     STORE_*(pointer, vector)  rounded as the plain form
 *   ADD, MULTIPLY, DIVIDE, SPREAD(value), BEYOND(vector, limit)       whether any magnitude is not below the limit
 *   FLOATS, ADD_FLOATS, WIDE_F16(pointer)                             2 LANES values of float32
 *   CODES, LOAD_CODES, AND_CODES, OR_CODES, LARGER, SMALLER, MINUS (at least 0), ALL(code), NONE_SET     4 LANES 16-bit codes
 *   EVEN_BF16(codes), ODD_BF16(codes)  every second code's value      IN_ORDER(even, odd, v), SPLIT(floats, v)  to VECTORs
 *
 * Four vectors of totals stay in registers over all terms, so that no addition waits for the last one and nothing but
 * terms is loaded: compilers do not find that out by themselves. The operations and their order are the plain form's.
 */

#define STEP (4 * LANES)

static inline __attribute__((always_inline)) ON int FORM(put)(const VECTOR *v, int rounded, void *out, size_t at,
                                                             double limit) {
    int bad = 0;
    for (int q = 0; q < 4; q++) {
        const size_t to = at + (size_t)q * LANES;
        bad |= BEYOND(v[q], SPREAD(limit));
        FOR_DTYPE(rounded, STORE_F64((double *)out + to, v[q]), STORE_F32((float *)out + to, v[q]),
                  STORE_F16((uint16_t *)out + to, v[q]), STORE_BF16((uint16_t *)out + to, v[q]))
    }
    return bad;
}

/* Whether codes without their signs, from `least` to `most` in each place, have sums that float32 holds exactly. All
 * values of a place are multiples of the smallest one's last bit; k of them stay below 2^24 such bits if the codes lie
 * no more than `range` apart. What is infinite or NaN, or could become so, lies above `highest`. */
static inline __attribute__((always_inline)) ON int FORM(is_exact)(CODES least, CODES most, const struct exactness *by) {
    return NONE_SET(OR_CODES(MINUS(MINUS(most, least), ALL(by->range)), MINUS(most, ALL(by->highest))));
}

/* Sums of 16-bit values in float32, half the conversions and twice the values at a time, where they are exact and so
 * those of float64: as a rule, for fine-tuned weights differ little. Returns whether they are. */
static inline __attribute__((always_inline)) ON int FORM(exact_bf16)(VECTOR *v, const struct sum *sum, size_t j) {
    CODES x = LOAD_CODES((const uint16_t *)sum->terms[0] + j), least = AND_CODES(x, ALL(0x7FFF)), most = least;
    FLOATS even = EVEN_BF16(x), odd = ODD_BF16(x);
    for (int i = 1; i < sum->k; i++) {
        x = LOAD_CODES((const uint16_t *)sum->terms[i] + j);
        const CODES magnitude = AND_CODES(x, ALL(0x7FFF));
        least = SMALLER(least, magnitude), most = LARGER(most, magnitude);
        even = ADD_FLOATS(even, EVEN_BF16(x)), odd = ADD_FLOATS(odd, ODD_BF16(x));
    }
    IN_ORDER(even, odd, v);
    return FORM(is_exact)(least, most, &sum->exact_bf16);
}

static inline __attribute__((always_inline)) ON int FORM(exact_f16)(VECTOR *v, const struct sum *sum, size_t j) {
    const uint16_t *from = (const uint16_t *)sum->terms[0] + j;
    CODES least = AND_CODES(LOAD_CODES(from), ALL(0x7FFF)), most = least;
    FLOATS low = WIDE_F16(from), high = WIDE_F16(from + 2 * LANES);
    for (int i = 1; i < sum->k; i++) {
        from = (const uint16_t *)sum->terms[i] + j;
        const CODES magnitude = AND_CODES(LOAD_CODES(from), ALL(0x7FFF));
        least = SMALLER(least, magnitude), most = LARGER(most, magnitude);
        low = ADD_FLOATS(low, WIDE_F16(from)), high = ADD_FLOATS(high, WIDE_F16(from + 2 * LANES));
    }
    SPLIT(low, v), SPLIT(high, v + 2);
    return FORM(is_exact)(least, most, &sum->exact_f16);
}

/* Combines the first n - n % STEP values as `stockpot_combine` does and returns how many these are. */
#define DEFINE_FORM(NAME, ITEM, LOAD, IS_SUMMED)                                                                                \
    ON static size_t FORM(combine_##NAME)(const struct sum *sum, const struct target *target, size_t n, int *bad) {    \
        const size_t whole = n - n % STEP;                                                                             \
        const int first = sum->before == NULL;                                                                         \
        for (size_t j = 0; j < whole; j += STEP) {                                                                     \
            VECTOR v[4];                                                                                               \
            if (first && sum->factors == NULL && IS_SUMMED) {                                                          \
                /* done */                                                                                             \
            } else {                                                                                                   \
                for (int q = 0; q < 4; q++) {                                                                          \
                    const size_t from = j + (size_t)q * LANES;                                                         \
                    if (!first)                                                                                        \
                        v[q] = LOAD_F64(sum->before + from);                                                           \
                    else if (sum->factors == NULL)                                                                     \
                        v[q] = LOAD((const ITEM *)sum->terms[0] + from);                                               \
                    else                                                                                               \
                        v[q] = MULTIPLY(SPREAD(sum->factors[0]), LOAD((const ITEM *)sum->terms[0] + from));            \
                }                                                                                                      \
                for (int i = first; i < sum->k; i++) {                                                                 \
                    const ITEM *x = (const ITEM *)sum->terms[i] + j;                                                   \
                    if (sum->factors == NULL) {                                                                        \
                        for (int q = 0; q < 4; q++) v[q] = ADD(v[q], LOAD(x + q * LANES));                             \
                    } else {                                                                                           \
                        const VECTOR f = SPREAD(sum->factors[i]);                                                      \
                        for (int q = 0; q < 4; q++) v[q] = ADD(v[q], MULTIPLY(f, LOAD(x + q * LANES)));                \
                    }                                                                                                  \
                }                                                                                                      \
            }                                                                                                          \
            if (target->after != NULL)                                                                                 \
                for (int q = 0; q < 4; q++) STORE_F64(target->after + j + (size_t)q * LANES, v[q]);                    \
            if (target->out == NULL) continue;                                                                         \
            for (int q = 0; q < 4; q++) {                                                                              \
                if (target->by.divides) v[q] = DIVIDE(v[q], SPREAD(target->by.divisor));                               \
                v[q] = MULTIPLY(v[q], SPREAD(target->by.multiplier));                                                  \
            }                                                                                                          \
            *bad |= FORM(put)(v, target->rounded, target->out, j, target->limit);                                      \
        }                                                                                                              \
        return whole;                                                                                                  \
    }

DEFINE_FORM(f64, double, LOAD_F64, 0)
DEFINE_FORM(f32, float, LOAD_F32, 0)
DEFINE_FORM(f16, uint16_t, LOAD_F16, FORM(exact_f16)(v, sum, j))
DEFINE_FORM(bf16, uint16_t, LOAD_BF16, FORM(exact_bf16)(v, sum, j))

static size_t FORM(combine)(int stored, const struct sum *sum, const struct target *target, size_t n, int *bad) {
    FOR_DTYPE(stored, return FORM(combine_f64)(sum, target, n, bad), return FORM(combine_f32)(sum, target, n, bad),
              return FORM(combine_f16)(sum, target, n, bad), return FORM(combine_bf16)(sum, target, n, bad))
    return 0;
}

#undef STEP
#undef DEFINE_FORM
#undef FORM
#undef ON
#undef LANES
#undef VECTOR
#undef LOAD_F64
#undef LOAD_F32
#undef LOAD_F16
#undef LOAD_BF16
#undef STORE_F64
#undef STORE_F32
#undef STORE_F16
#undef STORE_BF16
#undef ADD
#undef MULTIPLY
#undef DIVIDE
#undef SPREAD
#undef BEYOND
#undef FLOATS
#undef ADD_FLOATS
#undef WIDE_F16
#undef CODES
#undef LOAD_CODES
#undef AND_CODES
#undef OR_CODES
#undef LARGER
#undef SMALLER
#undef MINUS
#undef ALL
#undef NONE_SET
#undef EVEN_BF16
#undef ODD_BF16
#undef IN_ORDER
#undef SPLIT
