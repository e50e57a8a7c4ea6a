/* The public library: thin functions over the layers below, with types of their own so that those stay free to change. */
#include <offsite/offsite.h>
#include <stdlib.h>
#include <string.h>

#include "eval/generate.h"
#include "format/tokenizer.h"
#include "model/network.h"
#include "protocol/return.h"
#include "protocol/split.h"
#include "protocol/verify.h"

_Static_assert((int)OFFSITE_INTERRUPTED == (int)OT_ERR_INTERRUPTED && (int)OFFSITE_REFUSED == (int)OT_ERR_REFUSED, "status values are one list");
_Static_assert((int)OFFSITE_ERROR_TEXT == (int)OT_ERROR_TEXT, "messages fit");
_Static_assert((int)OFFSITE_ID_TEXT >= (int)OT_OFFER_ID, "ids fit");

struct offsite_model {
    ot_model *model;
};

/* The status and the message go out together. */
static offsite_status pass(ot_status status, const ot_error *err, offsite_error *error) {
    if (status != OT_OK && error != NULL) {
        error->status = (offsite_status)status;
        memcpy(error->message, err->message, sizeof error->message);
    }
    return (offsite_status)status;
}

const char *offsite_version(void) { return OFFSITE_VERSION; }

void offsite_free(void *memory) { ot_free(memory); }

/* ==== Models ==== */

offsite_status offsite_model_open(const char *path, offsite_model **model, offsite_error *error) {
    ot_error err = {0};
    offsite_model *m = calloc(1, sizeof *m);
    if (m == NULL) return pass(ot_fail_memory(&err, sizeof *m, "a model"), &err, error);
    ot_status status = ot_model_open(path, OT_F32, &m->model, &err);
    if (status != OT_OK) {
        free(m);
        return pass(status, &err, error);
    }
    *model = m;
    return OFFSITE_OK;
}

void offsite_model_close(offsite_model *model) {
    if (model == NULL) return;
    ot_model_close(model->model);
    free(model);
}

void offsite_model_describe(const offsite_model *model, offsite_model_info *info) {
    const ot_model *m = model->model;
    *info = (offsite_model_info){.layers = m->desc.layers,
                                 .hidden_size = m->desc.hidden_size,
                                 .vocab_size = m->desc.vocab_size,
                                 .bytes = ot_model_stored_bytes(m)};
    for (int64_t i = 0; i < m->n_params; i++) info->parameters += ot_param_elements(&m->params[i]);
}

static ot_status sequence_loss(const ot_model *m, const int32_t *ids, int64_t count, double *loss, ot_error *err) {
    if (m->desc.vision) return ot_fail(err, OT_ERR_UNSUPPORTED, "this model reads images, not token ids");
    if (count < 2 || count > INT32_MAX / 4) return ot_fail(err, OT_ERR_USAGE, "%lld token ids: a loss needs two or more", (long long)count);
    ot_network *net = NULL;
    int32_t *targets = NULL;
    OT_TRY(ot_malloc(count, sizeof *targets, "targets", (void **)&targets, err));
    for (int64_t i = 0; i < count; i++) targets[i] = i + 1 < count ? ids[i + 1] : -1;
    ot_network_options o = {.plan = {.backend = ot_backends[0], .compute = OT_F32, .max_rows = count, .max_targets = count},
                            .outputs = OT_OUT_LOSS,
                            .max_segments = 1};
    ot_status status = ot_network_new(m, &o, &net, err);
    if (status == OT_OK) {
        ot_network_clear(net);
        status = ot_network_add(net, ids, NULL, targets, count, NULL, err);
    }
    double sum = 0;
    if (status == OT_OK) status = ot_network_run(net, &(ot_run_options){0}, &sum, err);
    ot_network_free(net);
    ot_free(targets);
    OT_TRY(status);
    *loss = sum / (double)(count - 1);
    return OT_OK;
}

offsite_status offsite_model_loss(const offsite_model *model, const int32_t *ids, int64_t count, double *loss, offsite_error *error) {
    ot_error err = {0};
    return pass(sequence_loss(model->model, ids, count, loss, &err), &err, error);
}

static ot_status continue_ids(const ot_model *m, const ot_prompt *prompt, ot_generate_options *o, int32_t *out, int64_t *made, ot_error *err) {
    enum { MOST_ENDS = 16 };
    int32_t ends[MOST_ENDS];
    if (m->desc.vision) return ot_fail(err, OT_ERR_UNSUPPORTED, "this model reads images, not token ids");
    if (prompt->count < 1 || o->max_new < 1) return ot_fail(err, OT_ERR_USAGE, "a text goes on from at least one token by at least one token");
    OT_TRY(ot_generate_end_ids(m, ends, MOST_ENDS, &o->n_end_ids, err));
    o->end_ids = ends;
    ot_generated g = {0};
    OT_TRY(ot_generate(m, prompt, 1, o, &g, err));
    memcpy(out, g.ids, (size_t)g.counts[0] * sizeof *out);
    *made = g.counts[0];
    ot_generated_free(&g);
    return OT_OK;
}

offsite_status offsite_model_generate(const offsite_model *model, const int32_t *ids, int64_t count, int64_t max_new, double temperature,
                                      uint64_t seed, int32_t *out, int64_t *made, offsite_error *error) {
    ot_error err = {0};
    ot_generate_options o = {.backend = ot_backends[0],
                             .compute = OT_F32,
                             .max_new = max_new,
                             .sampling = {.temperature = temperature, .top_p = 1.0, .seed = seed},
                             .lanes = 1};
    return pass(continue_ids(model->model, &(ot_prompt){ids, count}, &o, out, made, &err), &err, error);
}

/* ==== Tokenizers ==== */

static const ot_tokenizer *inner(const offsite_tokenizer *t) { return (const ot_tokenizer *)t; }

offsite_status offsite_tokenizer_open(const char *path, offsite_tokenizer **tokenizer, offsite_error *error) {
    ot_error err = {0};
    return pass(ot_tokenizer_open(path, (ot_tokenizer **)tokenizer, &err), &err, error);
}

void offsite_tokenizer_close(offsite_tokenizer *tokenizer) { ot_tokenizer_close((ot_tokenizer *)tokenizer); }

offsite_status offsite_tokenizer_encode(const offsite_tokenizer *tokenizer, const char *text, size_t size, int32_t **ids, int64_t *count,
                                        offsite_error *error) {
    ot_error err = {0};
    return pass(ot_tokenizer_encode(inner(tokenizer), text, size, false, ids, count, &err), &err, error);
}

offsite_status offsite_tokenizer_decode(const offsite_tokenizer *tokenizer, const int32_t *ids, int64_t count, char **text, offsite_error *error) {
    ot_error err = {0};
    size_t size = 0;
    return pass(ot_tokenizer_decode(inner(tokenizer), ids, count, false, text, &size, &err), &err, error);
}

/* ==== The exchange ==== */

offsite_status offsite_split(const offsite_model *model, const char *offer, const offsite_split_options *options, char offer_id[OFFSITE_ID_TEXT],
                             offsite_error *error) {
    ot_error err = {0};
    ot_split_summary summary;
    ot_split_options o = {.bottom = options->bottom,
                          .top = options->top,
                          .emulator = options->emulator != NULL ? options->emulator : "",
                          .own_dtype = true,
                          .dtype = OT_BF16};
    ot_status status = ot_split(model->model, offer, &o, &summary, &err);
    if (status == OT_OK && offer_id != NULL) memcpy(offer_id, summary.offer_id, sizeof summary.offer_id);
    return pass(status, &err, error);
}

offsite_status offsite_verify(const char *bundle, const char *offer, offsite_error *error) {
    ot_error err = {0};
    ot_verify_report report = {0};
    ot_status status = ot_verify(bundle, offer, NULL, NULL, &report, &err);
    ot_verify_report_free(&report);
    return pass(status, &err, error);
}

offsite_status offsite_plug(const char *model, const char *returned, const char *ledger, const char *output, offsite_error *error) {
    ot_error err = {0};
    ot_plug_summary summary;
    ot_plug_options o = {.ledger = ledger, .own_dtype = true, .dtype = OT_BF16};
    ot_model *m = NULL; /* of its own: plugging lays the tuned values over it */
    ot_status status = ot_model_open(model, OT_F32, &m, &err);
    if (status == OT_OK) status = ot_plug(m, returned, output, &o, &summary, &err);
    ot_model_close(m);
    return pass(status, &err, error);
}
