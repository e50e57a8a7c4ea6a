/* Layer-drop: keep some blocks of the middle (paper section 4.3). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/count.h"
#include "base/rng.h"
#include "emulator/methods.h"

void ot_layerdrop_uniform(int64_t n, int64_t keep, int64_t *indices) {
    if (keep == 1) {
        indices[0] = (int64_t)nearbyint((double)(n - 1) / 2.0);
        return;
    }
    double stride = (double)(n - 1) / (double)(keep - 1);
    for (int64_t i = 0; i < keep; i++) indices[i] = (int64_t)nearbyint((double)i * stride);
}

static int increasing(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* list=2,5,8: blocks of the whole model. */
static ot_status from_list(ot_emulator *e, const char *list, int64_t *picked, int64_t *count, ot_error *err) {
    *count = 0;
    for (const char *at = list; *at != '\0';) {
        char *end;
        long long block = strtoll(at, &end, 10);
        if (end == at || (*end != ',' && *end != '\0')) {
            return ot_fail(err, OT_ERR_USAGE, "--emulator: layerdrop: list must be block numbers separated by commas, not \"%s\"", list);
        }
        int64_t i = 0;
        while (i < e->n_kept && e->kept[i] != block) i++;
        if (i == e->n_kept || *count == e->n_kept) {
            return ot_fail(err, OT_ERR_USAGE, "--emulator: layerdrop: block %lld of the list is not in the middle (blocks %lld to %lld)", block,
                           (long long)e->kept[0], (long long)e->kept[e->n_kept - 1]);
        }
        picked[(*count)++] = i;
        at = *end == ',' ? end + 1 : end;
    }
    qsort(picked, (size_t)*count, sizeof *picked, increasing);
    for (int64_t i = 1; i < *count; i++) {
        if (picked[i] == picked[i - 1]) {
            return ot_fail(err, OT_ERR_USAGE, "--emulator: layerdrop: block %lld is in the list twice", (long long)e->kept[picked[i]]);
        }
    }
    return OT_OK;
}

static ot_status pick(const ot_emulator *e, const char *strategy, int64_t keep, uint64_t seed, int64_t *picked, ot_error *err) {
    if (strcmp(strategy, "uniform") == 0) {
        ot_layerdrop_uniform(e->n_kept, keep, picked);
    } else if (strcmp(strategy, "first") == 0) {
        for (int64_t i = 0; i < keep; i++) picked[i] = i;
    } else if (strcmp(strategy, "last") == 0) {
        for (int64_t i = 0; i < keep; i++) picked[i] = e->n_kept - keep + i;
    } else if (strcmp(strategy, "random") == 0) {
        ot_rng rng;
        ot_rng_seed(&rng, seed);
        ot_rng_permutation(&rng, picked, e->n_kept);
        qsort(picked, (size_t)keep, sizeof *picked, increasing);
    } else {
        return ot_fail(err, OT_ERR_USAGE, "--emulator: layerdrop: strategy is uniform, first, last or random, not \"%s\"", strategy);
    }
    return OT_OK;
}

static ot_status apply(ot_emulator *e, const ot_spec_step *step, ot_error *err) {
    const ot_spec_method *spec = &ot_emulator_layerdrop.spec;
    const ot_spec_value *keep = ot_spec_get(step, spec, "keep"), *list = ot_spec_get(step, spec, "list");
    OT_TRY(ot_emulator_need_list(e, "layerdrop", err));
    int64_t *picked = ot_arena_alloc(&e->arena, e->n_kept * (int64_t)sizeof *picked, err);
    if (picked == NULL) return OT_ERR_MEMORY;
    int64_t count = (int64_t)keep->number;
    if (keep->given == list->given) {
        return ot_fail(err, OT_ERR_USAGE, "--emulator: layerdrop needs either keep=K or list=2,5,8");
    }
    if (list->given) {
        OT_TRY(from_list(e, list->word, picked, &count, err));
    } else if (count > e->n_kept) {
        return ot_fail(err, OT_ERR_USAGE, "--emulator: layerdrop: keep=%lld is more than the %lld block%s of the middle", (long long)count,
                       (long long)e->n_kept, OT_PLURAL(e->n_kept));
    } else {
        OT_TRY(pick(e, ot_spec_get(step, spec, "strategy")->word, count, (uint64_t)ot_spec_get(step, spec, "seed")->number, picked, err));
    }
    for (int64_t i = 0; i < count; i++) picked[i] = e->kept[picked[i]];
    e->kept = picked;
    e->n_kept = count;
    return OT_OK;
}

const ot_emulator_method ot_emulator_layerdrop = {
    .spec = {.name = "layerdrop",
             .help = "keep some blocks of the middle",
             .keys =
                 (const ot_spec_key[]){
                     {"keep", OT_SPEC_INTEGER, NULL, 1, 100000, "how many blocks stay"},
                     {"list", OT_SPEC_WORD, NULL, 0, 0, "which blocks of the whole model stay, instead of keep"},
                     {"strategy", OT_SPEC_WORD, "uniform", 0, 0, "uniform, first, last or random"},
                     {"seed", OT_SPEC_INTEGER, "0", 0, 9007199254740992.0, "of strategy=random"},
                     {0},
                 }},
    .apply = apply,
};
