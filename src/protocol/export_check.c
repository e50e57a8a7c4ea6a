#include "protocol/export_check.h"

#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "format/tokenizer.h"

enum { SEQUENCES = 3, MOST_TOKENS = 24 };

/* Decoded weights differ from the exact ones by a part of about 2^-9 (bf16), 2^-12 (f16), 1/250 (8 bits) or 1/10 (4 bits) of their block's largest;
 * logits of deep models over made-up sequences by many times that. Weights in a wrong place give about 1.4. */
double ot_logits_allowed(ot_dtype dtype) {
    switch (dtype) {
    case OT_F32: return 1e-4;
    case OT_F16: return 1e-2;
    case OT_BF16: return 5e-2;
    case OT_Q8_0: return 0.25;
    default: return 1.2;
    }
}

static ot_status fill_images(ot_network *net, const ot_model *m, const ot_logits *l, ot_error *err) {
    int64_t size = m->desc.channels * m->desc.image_height * m->desc.image_width;
    void *room = NULL;
    ot_rng rng;
    ot_rng_seed(&rng, 20230902);
    OT_TRY(ot_malloc(size, 4, "an image", &room, err));
    float *pixels = room;
    ot_status status = OT_OK;
    for (int64_t s = 0; status == OT_OK && s < l->sequences; s++) {
        for (int64_t i = 0; i < size; i++) pixels[i] = (float)ot_rng_normal(&rng);
        status = ot_network_add_image(net, pixels, -1, err);
    }
    ot_free(room);
    return status;
}

static ot_status fill(ot_network *net, const ot_model *m, const ot_logits *l, ot_error *err) {
    if (m->desc.vision) return fill_images(net, m, l, err);
    ot_rng rng;
    int32_t ids[MOST_TOKENS];
    ot_rng_seed(&rng, 20230902);
    for (int64_t s = 0; s < l->sequences; s++) {
        for (int64_t t = 0; t < l->length; t++) ids[t] = (int32_t)(ot_rng_uniform(&rng) * (double)l->vocab);
        OT_TRY(ot_network_add(net, ids, NULL, NULL, l->length, NULL, err));
    }
    return OT_OK;
}

ot_status ot_logits_take(const ot_model *m, const ot_hooks *hooks, ot_logits *out, ot_error *err) {
    int64_t room = m->desc.max_positions - ot_hooks_front(hooks);
    if (m->desc.window > 0 && m->desc.window < room) room = m->desc.window;
    *out = (ot_logits){.sequences = SEQUENCES, .length = room < MOST_TOKENS ? room : MOST_TOKENS, .vocab = m->desc.vocab_size};
    if (m->desc.vision) out->length = 1;
    int64_t rows = out->sequences * out->length, patches = m->desc.vision ? ot_desc_image_rows(&m->desc, m->desc.image_height, m->desc.image_width) : 1;
    ot_network_options options = {.plan = {.backend = ot_backends[0], .compute = OT_F32, .max_rows = rows * patches},
                                  .hooks = hooks,
                                  .outputs = OT_OUT_LOGITS,
                                  .max_segments = out->sequences};
    ot_network *net = NULL;
    OT_TRY(ot_malloc(rows * out->vocab, 4, "logits", (void **)&out->values, err));
    ot_status status = ot_network_new(m, &options, &net, err);
    if (status == OT_OK) status = fill(net, m, out, err);
    if (status == OT_OK) status = ot_network_run(net, &(ot_run_options){0}, NULL, err);
    if (status == OT_OK) memcpy(out->values, ot_network_logits(net), (size_t)(rows * out->vocab) * 4);
    ot_network_free(net);
    if (status != OT_OK) ot_logits_free(out);
    return status;
}

void ot_logits_free(ot_logits *l) {
    ot_free(l->values);
    *l = (ot_logits){0};
}

ot_status ot_logits_compare(const ot_logits *a, const ot_logits *b, ot_logits_distance *out, ot_error *err) {
    double differences = 0, spread = 0;
    *out = (ot_logits_distance){0};
    for (int64_t r = 0; r < a->sequences * a->length; r++) {
        const float *x = a->values + r * a->vocab, *y = b->values + r * b->vocab;
        double mean = 0;
        for (int64_t v = 0; v < a->vocab; v++) mean += (double)x[v] / (double)a->vocab;
        for (int64_t v = 0; v < a->vocab; v++) {
            double d = (double)x[v] - (double)y[v], own = (double)x[v] - mean;
            if (!isfinite(d)) return ot_fail(err, OT_ERR_NUMERIC, "the logits are not finite: a weight does not fit the type that it was written in");
            differences += d * d;
            spread += own * own;
            out->largest = fmax(out->largest, fabs(d));
        }
    }
    out->relative = spread > 0 ? sqrt(differences / spread) : sqrt(differences);
    return OT_OK;
}

/* ==== Tokenizers. ==== */

static const char *const texts[] = {
    "Hello, world! It's a test.",
    "We'll see: they've got 12345 apples & 3.14 pies (about $1,000.50)\n\n  indented\ttext  ",
    "  two blanks in front, three   inside and one behind ",
    "for (int i = 0; i < n; i++) { sum += x[i]; } // code_with_names CamelCase",
    "Der K\xC3\xB6nig a\xC3\x9F na\xC3\xAFve caf\xC3\xA9-cr\xC3\xA8mes; \xD0\x9F\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82 \xCE\xB1\xCE\xB2\xCE\xB3",
    "\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E\xE3\x81\xA8\xE4\xB8\xAD\xE6\x96\x87\xE3\x80\x82\xF0\x9F\x98\x80 \xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB",
    "HTTP/1.1 200 OK\r\nContent-Length: 007\r\n\r\nyear 1999, 42nd",
};

static ot_status compare_one(const ot_tokenizer *a, const ot_tokenizer *b, const char *text, bool *same, ot_error *err) {
    int32_t *x = NULL, *y = NULL;
    int64_t n = 0, m = 0;
    ot_status status = ot_tokenizer_encode(a, text, strlen(text), true, &x, &n, err);
    if (status == OT_OK) status = ot_tokenizer_encode(b, text, strlen(text), true, &y, &m, err);
    *same = status == OT_OK && n == m && (n == 0 || memcmp(x, y, (size_t)n * sizeof *x) == 0);
    ot_free(x);
    ot_free(y);
    return status;
}

ot_status ot_tokenizers_compare(const char *a, const char *b, int64_t *count, bool *leading_blank, ot_error *err) {
    ot_tokenizer *x = NULL, *y = NULL;
    ot_error none;
    *count = 0;
    *leading_blank = true;
    if (ot_tokenizer_open(a, &x, &none) != OT_OK) return OT_OK;
    ot_status status = ot_tokenizer_open(b, &y, err);
    for (size_t i = 0; status == OT_OK && i < sizeof texts / sizeof *texts; i++) {
        bool same = false;
        status = compare_one(x, y, texts[i], &same, err);
        *count += same;
        if (status != OT_OK || same) continue;
        if (texts[i][0] == ' ') {
            *leading_blank = false;
        } else {
            status = ot_fail(err, OT_ERR_REFUSED, "the written tokenizer gives other ids than the model's own for the text \"%.40s...\"", texts[i]);
        }
    }
    ot_tokenizer_close(x);
    ot_tokenizer_close(y);
    return status;
}
