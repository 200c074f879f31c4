/* The fused pass in vectors, from registers to memory: included once per instruction set by `_fused.c`, which defines
 *
 *   FORM(name)       name with the instruction set's suffix          ON         target attribute of functions
 *   LANES            float64 values of a vector                       VECTOR     the vector's type
 *   LOAD_*(pointer)  LANES values of a dtype, exactly, as float64     STORE_*(pointer, vector)  rounded as the plain form
 *   ADD, MULTIPLY, DIVIDE, SPREAD(value), BEYOND(vector, limit)       whether any magnitude is not below the limit
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

/* Combines the first n - n % STEP values as `stockpot_combine` does and returns how many these are. */
#define DEFINE_FORM(NAME, ITEM, LOAD)                                                                                  \
    ON static size_t FORM(combine_##NAME)(const struct sum *sum, const struct target *target, size_t n, int *bad) {    \
        const size_t whole = n - n % STEP;                                                                             \
        const int first = sum->before == NULL;                                                                         \
        for (size_t j = 0; j < whole; j += STEP) {                                                                     \
            VECTOR v[4];                                                                                               \
            for (int q = 0; q < 4; q++) {                                                                              \
                const size_t from = j + (size_t)q * LANES;                                                             \
                if (!first)                                                                                            \
                    v[q] = LOAD_F64(sum->before + from);                                                               \
                else if (sum->factors == NULL)                                                                         \
                    v[q] = LOAD((const ITEM *)sum->terms[0] + from);                                                   \
                else                                                                                                   \
                    v[q] = MULTIPLY(SPREAD(sum->factors[0]), LOAD((const ITEM *)sum->terms[0] + from));                \
            }                                                                                                          \
            if (sum->factors == NULL)                                                                                  \
                for (int i = first; i < sum->k; i++) {                                                                 \
                    const ITEM *x = (const ITEM *)sum->terms[i] + j;                                                   \
                    for (int q = 0; q < 4; q++) v[q] = ADD(v[q], LOAD(x + q * LANES));                                 \
                }                                                                                                      \
            else                                                                                                       \
                for (int i = first; i < sum->k; i++) {                                                                 \
                    const ITEM *x = (const ITEM *)sum->terms[i] + j;                                                   \
                    const VECTOR f = SPREAD(sum->factors[i]);                                                          \
                    for (int q = 0; q < 4; q++) v[q] = ADD(v[q], MULTIPLY(f, LOAD(x + q * LANES)));                    \
                }                                                                                                      \
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

DEFINE_FORM(f64, double, LOAD_F64)
DEFINE_FORM(f32, float, LOAD_F32)
DEFINE_FORM(f16, uint16_t, LOAD_F16)
DEFINE_FORM(bf16, uint16_t, LOAD_BF16)

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
