#include "protocol/distill.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

static void parent_of(const char *path, char *out, size_t size) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    while (n > 0 && path[n - 1] != '/') n--;
    snprintf(out, size, "%.*s", n > 0 ? (int)n : 1, n > 0 ? path : ".");
}

static ot_status find_ledger(const char *offer, const char *teacher, const char *ledger, ot_distillation *d, ot_error *err) {
    if (ledger == NULL) {
        char beside[2][4096];
        parent_of(offer, beside[0], sizeof beside[0]);
        parent_of(teacher, beside[1], sizeof beside[1]);
        const char *folders[] = {beside[0], beside[1], "."};
        return ot_ledger_find(d->offer.offer_id, folders, 3, &d->ledger, err);
    }
    OT_TRY(ot_ledger_read(ledger, &d->ledger, err));
    if (strcmp(d->ledger.offer_id, d->offer.offer_id) == 0) return OT_OK;
    return ot_fail(err, OT_ERR_REFUSED, "%s is the ledger of offer %s, but %s is offer %s", ledger, d->ledger.offer_id, offer, d->offer.offer_id);
}

/* The emulator's blocks and the middle that they stand for. */
static int64_t emulator_end(const ot_distillation *d) { return d->ledger.n_stack - d->ledger.top; }

static ot_status check(const ot_distillation *d, const char *offer, ot_error *err) {
    const ot_ledger *l = &d->ledger;
    if (d->student->desc.layers != d->offer.layers || l->n_stack != d->offer.layers || l->bottom != d->offer.bottom || l->top != d->offer.top) {
        return ot_fail(err, OT_ERR_REFUSED, "%s: manifest.json, config.json and the ledger disagree about the layers", offer);
    }
    if (l->bottom >= emulator_end(d)) return ot_fail(err, OT_ERR_REFUSED, "%s has no block between its adapter layers: there is nothing to distil", offer);
    for (int64_t i = 0; i < d->student->n_params; i++) {
        const ot_param *p = &d->student->params[i];
        if (!ot_distillation_trains(d, p) || !ot_dtype_is_quantised(p->stored.dtype)) continue;
        return ot_fail(err, OT_ERR_REFUSED, "%s: %s is packed as %s, which cannot be trained: distil first and quantize afterwards", offer, p->name,
                       ot_dtype_info(p->stored.dtype)->name);
    }
    return ot_ledger_check_base(l, d->teacher, err);
}

/* A kept block stands for itself and the dropped ones behind it, so its output is that of the block before the next kept one. Where every place of the
 * middle has its entry (nothing dropped, or shared blocks), that is the block of its place. */
static ot_status match_blocks(ot_distillation *d, ot_error *err) {
    const ot_ledger *l = &d->ledger;
    int64_t n = ot_model_depth(d->student) - l->bottom - l->top, middle = l->base_layers - l->bottom - l->top;
    OT_TRY(ot_malloc(n, sizeof *d->match, "the matched blocks", (void **)&d->match, err));
    for (int64_t i = 0; i < n; i++) {
        int64_t next = i + 1 < n ? l->stack[ot_model_block_at(d->student, l->bottom + i + 1)] : l->base_layers - l->top;
        d->match[i] = n == middle ? l->bottom + i : next - 1;
    }
    return OT_OK;
}

static ot_status open_all(const char *offer, const char *teacher, const char *ledger, ot_distillation *d, ot_error *err) {
    OT_TRY(ot_manifest_read(offer, OT_BUNDLE_OFFER, &d->offer, err));
    if (d->offer.kind != OT_BUNDLE_OFFER) {
        return ot_fail(err, OT_ERR_USAGE, "%s is no offer: it needs the manifest.json that `offsite split` writes", offer);
    }
    OT_TRY(ot_manifest_check_files(&d->offer, offer, err));
    OT_TRY(find_ledger(offer, teacher, ledger, d, err));
    OT_TRY(ot_model_open(offer, OT_F32, &d->student, err));
    OT_TRY(ot_model_open(teacher, OT_F32, &d->teacher, err));
    OT_TRY(check(d, offer, err));
    return match_blocks(d, err);
}

ot_status ot_distillation_open(const char *offer, const char *teacher, const char *ledger, ot_distillation *out, ot_error *err) {
    *out = (ot_distillation){0};
    ot_status status = open_all(offer, teacher, ledger, out, err);
    if (status != OT_OK) ot_distillation_close(out);
    return status;
}

void ot_distillation_close(ot_distillation *d) {
    ot_model_close(d->student);
    ot_model_close(d->teacher);
    ot_ledger_free(&d->ledger);
    ot_manifest_free(&d->offer);
    ot_free(d->match);
    *d = (ot_distillation){0};
}

void ot_distillation_teacher(const ot_distillation *d, ot_teacher *out) {
    const ot_ledger *l = &d->ledger;
    *out = (ot_teacher){.model = d->teacher,
                        .first_block = l->bottom,
                        .end_block = l->base_layers - l->top,
                        .first_item = l->bottom,
                        .end_item = ot_model_depth(d->student) - l->top,
                        .match = d->match};
}

bool ot_distillation_trains(const ot_distillation *d, const ot_param *p) { return p->block >= d->ledger.bottom && p->block < emulator_end(d); }

/* ==== The result. ==== */

static ot_status take_inventory(void *context, const ot_tensor *t, ot_error *err) { return ot_manifest_add(context, t, err); }

static ot_status write_model(const ot_distillation *d, const char *dir, ot_param_values *values, void *context, ot_manifest *manifest, ot_error *err) {
    ot_save_options save = {.own_dtype = true, .dtype = OT_BF16, .values = values, .context = context};
    OT_TRY(ot_model_save_observed(d->student, dir, &save, take_inventory, manifest, err));
    char path[4200], *config = NULL;
    int64_t size = 0;
    if (!ot_path_join(path, sizeof path, dir, "config.json")) return ot_fail(err, OT_ERR_IO, "the path %s is too long", dir);
    OT_TRY(ot_read_file(path, 64 << 20, &config, &size, err));
    ot_status status = ot_manifest_add_files(manifest, dir, ot_model_small_files, err);
    if (status == OT_OK) ot_manifest_make_id(manifest, config);
    ot_free(config);
    return status;
}

static ot_status write_ledger(const ot_distillation *d, const char *dir, const char *offer_id, const char *step, json_t *record, ot_error *err) {
    char path[4200];
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/') n--;
    ot_ledger l = d->ledger;
    int used = snprintf(l.recipe, sizeof l.recipe, "%s%s%s", d->ledger.recipe, d->ledger.recipe[0] != '\0' ? "|" : "", step);
    if (snprintf(path, sizeof path, "%.*s.owner.json", (int)n, dir) >= (int)sizeof path || used >= (int)sizeof l.recipe) {
        return ot_fail(err, OT_ERR_USAGE, "the path %s or the recipe is too long for a ledger", dir);
    }
    memcpy(l.offer_id, offer_id, sizeof l.offer_id);
    l.distilled = json_is_array(d->ledger.distilled) ? json_copy(d->ledger.distilled) : json_array();
    ot_status status = json_array_append(l.distilled, record) == 0 ? ot_ledger_write(&l, path, err) : ot_fail_memory(err, 0, "the ledger");
    json_decref(l.distilled);
    return status;
}

ot_status ot_distillation_write(const ot_distillation *d, const char *dir, ot_param_values *values, void *context, const char *step, json_t *record,
                                ot_error *err) {
    ot_manifest manifest = {.kind = OT_BUNDLE_OFFER, .layers = d->offer.layers, .bottom = d->offer.bottom, .top = d->offer.top};
    memcpy(manifest.architecture, d->offer.architecture, sizeof manifest.architecture);
    json_object_set_new(record, "from_offer_id", json_string(d->offer.offer_id));
    /* manifest.json is what makes the offer finished, so it comes last, and an offer never lacks its ledger. */
    ot_status status = write_model(d, dir, values, context, &manifest, err);
    if (status == OT_OK) status = write_ledger(d, dir, manifest.offer_id, step, record, err);
    if (status == OT_OK) status = ot_manifest_write(&manifest, dir, err);
    ot_manifest_free(&manifest);
    json_decref(record);
    return status;
}
