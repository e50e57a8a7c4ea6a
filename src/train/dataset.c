#include "train/dataset.h"

#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "train/stream.h"

int64_t ot_dataset_columns(const ot_dataset *d) { return ot_dataset_start(d, ot_dataset_first(d, d->rows)); }

int64_t ot_dataset_targets(const ot_dataset *d) {
    int64_t n = 0;
    for (int64_t r = 0; r < d->rows; r++) n += d->counted[r];
    return n;
}

int64_t ot_dataset_most_targets(const ot_dataset *d) {
    int64_t most = 0;
    for (int64_t r = 0; r < d->rows; r++) most = d->counted[r] > most ? d->counted[r] : most;
    return most;
}

int64_t ot_dataset_most_examples(const ot_dataset *d) {
    int64_t most = 1;
    for (int64_t r = 0; d->packs != NULL && r < d->rows; r++) most = d->packs[r + 1] - d->packs[r] > most ? d->packs[r + 1] - d->packs[r] : most;
    return most;
}

int64_t ot_dataset_bytes(const ot_dataset *d) {
    if (d->pixels != NULL) return d->rows * 8 + d->pixels->channels * d->pixels->height * d->pixels->width * 4 + d->pixels->held;
    if (d->stream != NULL) return ot_stream_bytes(d->stream);
    int64_t tables = (d->starts != NULL ? d->examples + 1 : 0) + (d->packs != NULL ? d->rows + 1 : 0);
    return ot_dataset_columns(d) * (8 + (d->mask != NULL ? 8 : 0)) + d->rows * 4 + (d->firsts != NULL ? d->examples * 4 : 0) + tables * 8;
}

void ot_dataset_free(ot_dataset *d) {
    if (d->pixels != NULL) d->pixels->close(d->pixels);
    ot_stream_close(d->stream);
    ot_free(d->picture);
    ot_free(d->starts);
    ot_free(d->packs);
    ot_free(d->ids);
    ot_free(d->targets);
    ot_free(d->firsts);
    ot_free(d->mask);
    ot_free(d->counted);
    *d = (ot_dataset){0};
}

void ot_dataset_count_firsts(ot_dataset *d) {
    if (d->counts_firsts || d->firsts == NULL) return;
    if (d->stream != NULL) ot_stream_count_firsts(d->stream);
    d->counts_firsts = true;
    for (int64_t r = 0; r < d->rows; r++) {
        for (int64_t e = ot_dataset_first(d, r); e < ot_dataset_first(d, r + 1); e++) d->counted[r] += d->firsts[e] >= 0;
    }
}

ot_status ot_dataset_add_row(ot_network *net, const ot_dataset *d, int64_t row, ot_error *err) {
    return ot_dataset_add_training_row(net, d, row, -1, err);
}

ot_status ot_dataset_add_training_row(ot_network *net, const ot_dataset *d, int64_t row, int64_t epoch, ot_error *err) {
    if (d->pixels != NULL) {
        OT_TRY(d->pixels->get(d->pixels, row, epoch, d->picture, err));
        return ot_network_add_image(net, d->picture, d->targets[row], err);
    }
    for (int64_t e = ot_dataset_first(d, row); e < ot_dataset_first(d, row + 1); e++) {
        int64_t at = ot_dataset_start(d, e);
        if (d->counts_firsts) ot_network_expect(net, d->firsts[e]);
        OT_TRY(ot_network_add(net, d->ids + at, d->mask == NULL ? NULL : d->mask + at, d->targets + at, ot_dataset_start(d, e + 1) - at, NULL, err));
    }
    return OT_OK;
}

void ot_dataset_order(const ot_dataset *d, bool shuffle, uint64_t seed, int64_t epoch, int64_t *order) {
    if (!shuffle) {
        for (int64_t i = 0; i < d->rows; i++) order[i] = i;
        return;
    }
    ot_rng rng;
    ot_rng_seed(&rng, ot_rng_hash(seed, (uint64_t)epoch));
    ot_rng_permutation(&rng, order, d->rows);
}

/* ==== Building. ==== */

ot_status ot_dataset_append(ot_dataset_builder *b, const int32_t *ids, int32_t first, const int32_t *targets, const int64_t *mask, int64_t count,
                            ot_error *err) {
    ot_dataset *d = &b->d;
    int64_t columns = b->columns + count;
    OT_TRY(ot_grow((void **)&d->starts, &b->starts_room, d->rows + 2, 8, "example starts", err));
    OT_TRY(ot_grow((void **)&d->counted, &b->counted_room, d->rows + 1, 4, "target counts", err));
    OT_TRY(ot_grow((void **)&d->ids, &b->ids_room, columns, 4, "token ids", err));
    OT_TRY(ot_grow((void **)&d->targets, &b->targets_room, columns, 4, "targets", err));
    OT_TRY(ot_grow((void **)&d->firsts, &b->firsts_room, d->rows + 1, 4, "targets", err));
    if (mask != NULL || d->mask != NULL) {
        bool none = d->mask == NULL;
        OT_TRY(ot_grow((void **)&d->mask, &b->mask_room, columns, 8, "the attention mask", err));
        for (int64_t i = none ? 0 : b->columns; i < b->columns; i++) d->mask[i] = 1;
        for (int64_t i = 0; i < count; i++) d->mask[b->columns + i] = mask == NULL || mask[i] != 0;
    }
    memcpy(d->ids + b->columns, ids, (size_t)count * 4);
    memcpy(d->targets + b->columns, targets, (size_t)count * 4);
    int32_t counted = 0;
    for (int64_t i = 0; i < count; i++) {
        counted += targets[i] >= 0;
        d->tokens += mask == NULL || mask[i] != 0;
    }
    d->counted[d->rows] = counted;
    d->firsts[d->rows] = first;
    d->starts[d->rows] = b->columns;
    d->examples = ++d->rows;
    d->starts[d->rows] = b->columns = columns;
    if (count > d->length) d->length = count;
    return OT_OK;
}

/* ==== Packing. ==== */

enum { OPEN_PACKS = 64 }; /* few enough to look at all of them for every example */

typedef struct packing {
    const ot_dataset *d;
    int64_t *pack_of; /* [examples] */
    int64_t n_packs;
    int64_t open[OPEN_PACKS], room[OPEN_PACKS];
    int n_open;
} packing;

static int64_t length_of(const ot_dataset *d, int64_t example) { return ot_dataset_start(d, example + 1) - ot_dataset_start(d, example); }

/* The open pack that an example fits into most tightly, or a new one. With one open pack, neighbours stay together. */
static void place(packing *p, int64_t example, int64_t capacity, int most_open) {
    int64_t length = length_of(p->d, example);
    int best = -1;
    for (int i = 0; i < p->n_open; i++) {
        if (p->room[i] >= length && (best < 0 || p->room[i] < p->room[best])) best = i;
    }
    if (best < 0) {
        best = p->n_open;
        if (p->n_open < most_open) {
            p->n_open++;
        } else {
            best = 0; /* the fullest goes */
            for (int i = 1; i < p->n_open; i++) best = p->room[i] < p->room[best] ? i : best;
        }
        p->open[best] = p->n_packs++;
        p->room[best] = capacity;
    }
    p->pack_of[example] = p->open[best];
    p->room[best] -= length;
}

/* Lay the examples down pack by pack, in `order` within a pack. */
static ot_status rebuild(const ot_dataset *d, const packing *p, const int64_t *order, int64_t *places, ot_dataset *out, ot_error *err) {
    int64_t columns = ot_dataset_columns(d);
    *out = (ot_dataset){.rows = p->n_packs, .examples = d->examples, .tokens = d->tokens, .text_tokens = d->text_tokens};
    OT_TRY(ot_malloc(d->examples + 1, 8, "example starts", (void **)&out->starts, err));
    OT_TRY(ot_calloc(p->n_packs + 1, 8, "packs", (void **)&out->packs, err));
    OT_TRY(ot_malloc(columns, 4, "token ids", (void **)&out->ids, err));
    OT_TRY(ot_malloc(columns, 4, "targets", (void **)&out->targets, err));
    OT_TRY(ot_malloc(d->examples, 4, "targets", (void **)&out->firsts, err));
    OT_TRY(ot_calloc(p->n_packs, 4, "target counts", (void **)&out->counted, err));
    if (d->mask != NULL) OT_TRY(ot_malloc(columns, 8, "the attention mask", (void **)&out->mask, err));
    for (int64_t e = 0; e < d->examples; e++) out->packs[p->pack_of[e] + 1]++;
    for (int64_t r = 0; r < p->n_packs; r++) out->packs[r + 1] += out->packs[r];
    int64_t *next = places, *from = places + p->n_packs; /* where the next example of a pack goes; which example lies where */
    memcpy(next, out->packs, (size_t)p->n_packs * 8);
    for (int64_t i = 0; i < d->examples; i++) from[next[p->pack_of[order[i]]]++] = order[i];
    int64_t at = 0;
    for (int64_t i = 0; i < d->examples; i++) {
        int64_t start = ot_dataset_start(d, from[i]), length = length_of(d, from[i]);
        out->starts[i] = at;
        out->firsts[i] = d->firsts[from[i]];
        memcpy(out->ids + at, d->ids + start, (size_t)length * 4);
        memcpy(out->targets + at, d->targets + start, (size_t)length * 4);
        if (d->mask != NULL) memcpy(out->mask + at, d->mask + start, (size_t)length * 8);
        for (int64_t t = 0; t < length; t++) out->counted[p->pack_of[from[i]]] += d->targets[start + t] >= 0;
        at += length;
    }
    out->starts[d->examples] = at;
    for (int64_t r = 0; r < out->rows; r++) {
        int64_t row = out->starts[out->packs[r + 1]] - out->starts[out->packs[r]];
        out->length = row > out->length ? row : out->length;
    }
    return OT_OK;
}

ot_status ot_dataset_pack(ot_dataset *d, int64_t capacity, bool shuffle, uint64_t seed, ot_error *err) {
    int64_t *order = NULL, *places = NULL;
    packing p = {.d = d};
    ot_dataset packed = {0};
    ot_status status = ot_malloc(d->examples, 8, "the packing order", (void **)&order, err);
    if (status == OT_OK) status = ot_malloc(d->examples, 8, "the packing", (void **)&p.pack_of, err);
    if (status == OT_OK) status = ot_malloc(d->examples, 16, "the packing", (void **)&places, err);
    if (status == OT_OK) {
        ot_rng rng;
        ot_rng_seed(&rng, ot_rng_hash(seed ^ 0x7061636BULL, 0));
        for (int64_t i = 0; i < d->examples; i++) order[i] = i;
        if (shuffle) ot_rng_permutation(&rng, order, d->examples);
        for (int64_t i = 0; i < d->examples; i++) place(&p, order[i], capacity, shuffle ? OPEN_PACKS : 1);
        status = rebuild(d, &p, order, places, &packed, err);
    }
    ot_free(order);
    ot_free(places);
    ot_free(p.pack_of);
    if (status != OT_OK) {
        ot_dataset_free(&packed);
        return status;
    }
    ot_dataset_free(d);
    *d = packed;
    return OT_OK;
}
