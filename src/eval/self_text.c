#include "eval/self_text.h"

#include <stdlib.h>
#include <string.h>

#include "base/count.h"
#include "base/rng.h"
#include "eval/generate.h"

enum { LANES = 16 };

typedef struct writer {
    const ot_self_text_options *options;
    int64_t done;
} writer;

static bool count_token(void *context, int64_t sequence, int32_t id) {
    (void)sequence;
    (void)id;
    writer *w = context;
    w->done++;
    if (w->options->observe != NULL) w->options->observe(w->options->context, w->done, w->options->tokens);
    return true;
}

static ot_status first_token(const ot_model *m, uint64_t seed, int32_t *id, ot_error *err) {
    const json_t *bos = json_object_get(m->config, "bos_token_id");
    if (json_is_integer(bos) && json_integer_value(bos) >= 0 && json_integer_value(bos) < m->desc.vocab_size) {
        *id = (int32_t)json_integer_value(bos);
        return OT_OK;
    }
    int64_t ends = 0;
    OT_TRY(ot_generate_end_ids(m, id, 1, &ends, err));
    if (ends == 0) *id = (int32_t)(ot_rng_hash(seed, 0) % (uint64_t)m->desc.vocab_size);
    return OT_OK;
}

/* One sequence of `block` tokens: the first and what was written after it. */
static ot_status append(ot_dataset_builder *b, int32_t first, const int32_t *written, int64_t block, int32_t *row, ot_error *err) {
    row[0] = first;
    memcpy(row + 1, written, (size_t)(block - 1) * sizeof *row);
    int32_t *targets = row + block;
    memcpy(targets, row + 1, (size_t)(block - 1) * sizeof *row);
    targets[block - 1] = -1;
    return ot_dataset_append(b, row, row[0], targets, NULL, block, err);
}

static ot_status write_rows(const ot_model *m, const ot_self_text_options *o, int32_t *row, ot_dataset_builder *b, ot_error *err) {
    int32_t first = 0;
    OT_TRY(first_token(m, o->seed, &first, err));
    ot_prompt prompts[LANES];
    for (int i = 0; i < LANES; i++) prompts[i] = (ot_prompt){&first, 1};
    writer w = {.options = o};
    int64_t rows = o->tokens / o->block;
    for (int64_t r = 0; r < rows; r += LANES) {
        int64_t n = rows - r < LANES ? rows - r : LANES;
        ot_generate_options generate = {
            .backend = o->backend,
            .compute = o->compute,
            .max_new = o->block - 1,
            .sampling = {.temperature = o->temperature, .top_p = 1.0, .seed = ot_rng_hash(o->seed, (uint64_t)(r / LANES) + 1)},
            .lanes = LANES,
            .token = count_token,
            .context = &w,
        };
        ot_generated g = {0};
        OT_TRY(ot_generate(m, prompts, n, &generate, &g, err));
        ot_status status = OT_OK;
        for (int64_t i = 0; i < n && status == OT_OK; i++) status = append(b, first, g.ids + i * (o->block - 1), o->block, row, err);
        ot_generated_free(&g);
        OT_TRY(status);
    }
    return OT_OK;
}

ot_status ot_self_text(const ot_model *m, const ot_self_text_options *options, ot_dataset *out, ot_error *err) {
    if (m->desc.vision) return ot_fail(err, OT_ERR_UNSUPPORTED, "a model that reads images writes no text");
    if (options->block < 2 || options->tokens < options->block) {
        return ot_fail(err, OT_ERR_USAGE, "%lld token%s less than one block of %lld: ask for more, or for a smaller block", (long long)options->tokens, options->tokens == 1 ? " is" : "s are",
                       (long long)options->block);
    }
    ot_dataset_builder b = {0};
    int32_t *row = NULL;
    OT_TRY(ot_malloc(2 * options->block, sizeof *row, "a row of text", (void **)&row, err));
    ot_status status = write_rows(m, options, row, &b, err);
    ot_free(row);
    if (status != OT_OK) {
        ot_dataset_free(&b.d);
        return status;
    }
    *out = b.d;
    return OT_OK;
}
