#include "protocol/verify.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/count.h"
#include "base/file.h"
#include "format/safetensors.h"
#include "protocol/adapter.h"

enum { CONFIG_LIMIT = 64 << 20, CHUNK = 4096 };

typedef struct verification {
    const char *dir;
    ot_verify_report *report;
    void (*observe)(void *context, int64_t done, int64_t total);
    void *context;
    const char **files; /* names of the files that were checked */
    int64_t n_files;
} verification;

/* What is missing or malformed in a bundle is a reason to refuse it; a disk that fails or a missing permission is none. */
static ot_status as_refusal(ot_status status, ot_error *err) {
    bool absent = status == OT_ERR_IO && (err->sys_errno == 0 || err->sys_errno == ENOENT);
    if (!absent && status != OT_ERR_FORMAT && status != OT_ERR_UNSUPPORTED && status != OT_ERR_USAGE) return status;
    return err->code = OT_ERR_REFUSED;
}

/* Room for the names of so many files. */
static ot_status expect_files(verification *v, int64_t n, ot_error *err) {
    v->files = ot_arena_alloc(&v->report->arena, (n + 3 + v->report->manifest.n_files) * (int64_t)sizeof *v->files, err);
    if (v->files == NULL) return OT_ERR_MEMORY;
    v->files[v->n_files++] = "manifest.json";
    return OT_OK;
}

/* ==== Tensors. ==== */

static ot_status check_finite(const ot_tensor *t, const char *file, ot_error *err) {
    if (!ot_dtype_is_float(t->dtype)) return OT_OK;
    float values[CHUNK];
    const char *data = t->data;
    int64_t total = ot_tensor_elements(t), size = ot_dtype_info(t->dtype)->block_bytes;
    for (int64_t done = 0; done < total; done += CHUNK) {
        int64_t n = total - done < CHUNK ? total - done : CHUNK;
        ot_decode_f32(t->dtype, data + done * size, values, n);
        for (int64_t i = 0; i < n; i++) {
            if (isfinite(values[i])) continue;
            return ot_fail(err, OT_ERR_REFUSED, "%s: tensor %s holds %g at element %lld", file, t->name, (double)values[i], (long long)(done + i));
        }
    }
    return OT_OK;
}

static ot_status check_tensor(verification *v, const ot_tensor *t, const char *file, ot_error *err) {
    ot_verify_report *r = v->report;
    OT_TRY(ot_manifest_check(&r->manifest, t, file, err));
    OT_TRY(check_finite(t, file, err));
    r->tensors++;
    r->values += ot_tensor_elements(t);
    r->bytes += t->bytes;
    if (v->observe != NULL) v->observe(v->context, r->tensors, r->manifest.n_tensors);
    return OT_OK;
}

static ot_status check_file(verification *v, const ot_safetensors *st, ot_error *err) {
    v->report->files++;
    const char *name = ot_arena_strdup(&v->report->arena, ot_path_base(ot_safetensors_path(st)), err);
    if (name == NULL) return OT_ERR_MEMORY;
    v->files[v->n_files++] = name;
    for (int64_t i = 0; i < ot_safetensors_count(st); i++) OT_TRY(check_tensor(v, ot_safetensors_at(st, i), ot_safetensors_path(st), err));
    return OT_OK;
}

/* ==== Offers. ==== */

static ot_status check_id(const verification *v, ot_error *err) {
    char path[4200], *config = NULL;
    int64_t size = 0;
    if (!ot_path_join(path, sizeof path, v->dir, "config.json")) return ot_fail(err, OT_ERR_IO, "the path %s is too long", v->dir);
    OT_TRY(ot_read_file(path, CONFIG_LIMIT, &config, &size, err));
    ot_manifest again = v->report->manifest; /* a view: its own id is written */
    ot_manifest_make_id(&again, config);
    ot_free(config);
    if (strcmp(again.offer_id, v->report->manifest.offer_id) == 0) return OT_OK;
    return ot_fail(err, OT_ERR_REFUSED, "%s: the offer id does not follow from config.json and the manifest's tensors and files: one of them was changed", v->dir);
}

static ot_status check_description(const verification *v, const ot_model *m, ot_error *err) {
    const ot_manifest *manifest = &v->report->manifest;
    if (strcmp(manifest->architecture, m->desc.arch->name) != 0) {
        return ot_fail(err, OT_ERR_REFUSED, "%s: manifest.json says the architecture is %s, but config.json says %s", v->dir, manifest->architecture,
                       m->desc.arch->name);
    }
    if (manifest->layers != m->desc.layers) {
        return ot_fail(err, OT_ERR_REFUSED, "%s: manifest.json says %lld layers, but config.json says %lld", v->dir, (long long)manifest->layers,
                       (long long)m->desc.layers);
    }
    return OT_OK;
}

static ot_status check_weights(verification *v, const ot_model *m, ot_error *err) {
    const ot_manifest *manifest = &v->report->manifest;
    OT_TRY(check_description(v, m, err));
    OT_TRY(expect_files(v, m->n_files, err));
    /* The id vouches for config.json, and a wrong index of shards could only make tensors missing. */
    v->files[v->n_files++] = "config.json";
    v->files[v->n_files++] = "model.safetensors.index.json";
    for (int64_t i = 0; i < m->n_files; i++) OT_TRY(check_file(v, m->files[i], err));
    if (v->report->tensors != manifest->n_tensors) {
        return ot_fail(err, OT_ERR_REFUSED, "%s: the manifest lists %lld tensors, but the weights hold %lld of them", v->dir,
                       (long long)manifest->n_tensors, (long long)v->report->tensors);
    }
    if (m->unused_tensors != 0) {
        return ot_fail(err, OT_ERR_REFUSED, "%s: %lld tensor%s of no part of the model that config.json describes", v->dir, (long long)m->unused_tensors,
                       m->unused_tensors == 1 ? " is" : "s are");
    }
    return check_id(v, err);
}

/* What the manifest lists besides weights; after expect_files. */
static ot_status check_listed(verification *v, ot_error *err) {
    const ot_manifest *m = &v->report->manifest;
    for (int64_t i = 0; i < m->n_files; i++) {
        OT_TRY(as_refusal(ot_manifest_check_file(&m->files[i], v->dir, err), err));
        v->files[v->n_files++] = m->files[i].name;
    }
    return OT_OK;
}

static ot_status check_offer(verification *v, ot_error *err) {
    ot_model *m = NULL;
    OT_TRY(as_refusal(ot_model_open(v->dir, OT_F32, &m, err), err));
    ot_status status = m->source == OT_SOURCE_HF ? check_weights(v, m, err) : ot_fail(err, OT_ERR_REFUSED, "%s is no model folder", v->dir);
    ot_model_close(m);
    return status == OT_OK ? check_listed(v, err) : status;
}

/* ==== Returns. ==== */

static ot_status check_fit(verification *v, const char *offer, ot_error *err) {
    ot_manifest of_offer;
    OT_TRY(ot_manifest_read(offer, OT_BUNDLE_OFFER, &of_offer, err));
    bool is_offer = of_offer.kind == OT_BUNDLE_OFFER;
    ot_manifest_free(&of_offer);
    if (!is_offer) return ot_fail(err, OT_ERR_USAGE, "%s is no offer: it needs the manifest.json that `offsite split` writes", offer);
    ot_model *m = NULL;
    ot_adapter adapter;
    OT_TRY(ot_model_open(offer, OT_F32, &m, err));
    ot_status status = ot_adapter_open(v->dir, m, &adapter, err);
    if (status == OT_OK) ot_adapter_close(&adapter);
    ot_model_close(m);
    v->report->fits_offer = status == OT_OK;
    return status;
}

static ot_status check_return(verification *v, const char *offer, ot_error *err) {
    ot_return r;
    OT_TRY(expect_files(v, 1, err));
    OT_TRY(check_listed(v, err));
    OT_TRY(as_refusal(ot_return_open(v->dir, &r, err), err));
    ot_status status = check_file(v, r.file, err);
    ot_return_close(&r);
    return status == OT_OK && offer != NULL ? check_fit(v, offer, err) : status;
}

/* ==== Everything else in the folder. ==== */

static bool is_pickle(const char *name) {
    static const char *const suffixes[] = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"};
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        if (ot_path_ends(name, suffixes[i])) return true;
    }
    return false;
}

static bool is_checked(const verification *v, const char *name) {
    for (int64_t i = 0; i < v->n_files; i++) {
        if (strcmp(v->files[i], name) == 0) return true;
    }
    return false;
}

static ot_status list_others(verification *v, ot_error *err) {
    ot_verify_report *r = v->report;
    char **names = NULL;
    int64_t count = 0;
    OT_TRY(ot_list_dir(v->dir, &r->arena, &names, &count, err));
    r->others = ot_arena_alloc(&r->arena, (count + 1) * (int64_t)sizeof *r->others, err);
    if (r->others == NULL) return OT_ERR_MEMORY;
    for (int64_t i = 0; i < count; i++) {
        if (is_pickle(names[i])) {
            return ot_fail(err, OT_ERR_REFUSED, "%s: %s looks like a pickle, which can run code when opened: no bundle needs one", v->dir, names[i]);
        }
        if (!is_checked(v, names[i])) r->others[r->n_others++] = names[i];
    }
    return OT_OK;
}

/* ==== All of it. ==== */

static ot_status verify(verification *v, const char *offer, ot_error *err) {
    ot_manifest *manifest = &v->report->manifest;
    if (!ot_path_exists(v->dir)) return ot_manifest_read(v->dir, OT_BUNDLE_NONE, manifest, err);
    if (!ot_path_is_dir(v->dir)) return ot_fail(err, OT_ERR_IO, "%s is no folder: give an offer or a return", v->dir);
    OT_TRY(as_refusal(ot_manifest_read(v->dir, OT_BUNDLE_NONE, manifest, err), err));
    if (manifest->kind == OT_BUNDLE_NONE && ot_manifest_unfinished(v->dir)) {
        return ot_fail(err, OT_ERR_REFUSED, "%s is an unfinished run and no bundle yet: go on with the same command and --resume", v->dir);
    }
    if (manifest->kind == OT_BUNDLE_NONE) {
        return ot_fail(err, OT_ERR_REFUSED, "%s is no bundle: it holds no manifest.json, so nothing can be checked", v->dir);
    }
    if (manifest->kind == OT_BUNDLE_OFFER && offer != NULL) {
        return ot_fail(err, OT_ERR_USAGE, "%s is an offer itself: --offer goes with a return", v->dir);
    }
    OT_TRY(manifest->kind == OT_BUNDLE_OFFER ? check_offer(v, err) : check_return(v, offer, err));
    return list_others(v, err);
}

ot_status ot_verify(const char *dir, const char *offer, void (*observe)(void *context, int64_t done, int64_t total), void *context,
                    ot_verify_report *out, ot_error *err) {
    *out = (ot_verify_report){0};
    ot_error own = {0}; /* as_refusal reads it, so there must be one */
    verification v = {.dir = dir, .report = out, .observe = observe, .context = context};
    ot_status status = verify(&v, offer, &own);
    if (status != OT_OK) {
        if (err != NULL) *err = own;
        ot_verify_report_free(out);
    }
    return status;
}

void ot_verify_report_free(ot_verify_report *r) {
    ot_manifest_free(&r->manifest);
    ot_arena_free(&r->arena);
    *r = (ot_verify_report){0};
}
