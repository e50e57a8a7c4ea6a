#include "train/teacher_cache.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/file.h"
#include "base/mem.h"

/* The file: HEADER bytes of text, padded with zeros; then row by row the outputs, one after another, [positions of the row, hidden size] floats each. */
enum { HEADER = 4096 };

struct ot_teacher_cache {
    ot_map map;
    int64_t *starts; /* [rows + 1] positions in front of a row */
    int64_t outputs, cols;
};

/* ==== Sizes. ==== */

static int64_t positions_of(const ot_dataset *d, int64_t row) {
    int64_t from = ot_dataset_start(d, ot_dataset_first(d, row)), end = ot_dataset_start(d, ot_dataset_first(d, row + 1)), n = 0;
    if (d->mask == NULL) return end - from;
    for (int64_t i = from; i < end; i++) n += d->mask[i] != 0;
    return n;
}

int64_t ot_teacher_cache_bytes(const ot_dataset *d, const ot_teacher *t) {
    int64_t positions = 0;
    for (int64_t r = 0; r < d->rows; r++) positions += positions_of(d, r);
    return HEADER + positions * ot_teacher_outputs(t) * t->model->desc.hidden_size * (int64_t)sizeof(float);
}

int64_t ot_teacher_cache_room(const char *path) {
    char folder[4300];
    struct statvfs fs;
    snprintf(folder, sizeof folder, "%s", path);
    /* The folder may be still to come, and those above it. */
    for (char *slash; (slash = strrchr(folder, '/')) != NULL;) {
        *slash = '\0';
        if (statvfs(*folder != '\0' ? folder : "/", &fs) == 0) return (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
    }
    return statvfs(".", &fs) == 0 ? (int64_t)fs.f_bavail * (int64_t)fs.f_frsize : -1;
}

static void make_header(char header[HEADER], const char *fingerprint, const ot_dataset *d, const ot_teacher *t) {
    memset(header, 0, HEADER);
    snprintf(header, HEADER, "offsite teacher cache 1\n%s\n%" PRId64 " rows, %" PRId64 " outputs of %" PRId64 "\n", fingerprint, d->rows, ot_teacher_outputs(t),
             t->model->desc.hidden_size);
}

/* ==== Reading. ==== */

ot_status ot_teacher_cache_open(const char *path, const char *fingerprint, const ot_dataset *d, const ot_teacher *t, ot_teacher_cache **out, ot_error *err) {
    char header[HEADER];
    ot_map map = {0};
    *out = NULL;
    if (!ot_path_exists(path)) return OT_OK;
    OT_TRY(ot_map_open(path, &map, err));
    make_header(header, fingerprint, d, t);
    if (map.size != ot_teacher_cache_bytes(d, t) || memcmp(map.data, header, HEADER) != 0) {
        ot_map_close(&map);
        return OT_OK;
    }
    ot_teacher_cache *c = NULL;
    ot_status status = ot_calloc(1, (int64_t)sizeof *c, "the teacher's cache", (void **)&c, err);
    if (status == OT_OK) status = ot_malloc(d->rows + 1, sizeof *c->starts, "the teacher's cache", (void **)&c->starts, err);
    if (status != OT_OK) {
        ot_map_close(&map);
        ot_free(c);
        return status;
    }
    c->map = map;
    c->outputs = ot_teacher_outputs(t);
    c->cols = t->model->desc.hidden_size;
    c->starts[0] = 0;
    for (int64_t r = 0; r < d->rows; r++) c->starts[r + 1] = c->starts[r] + positions_of(d, r);
    *out = c;
    return OT_OK;
}

void ot_teacher_cache_close(ot_teacher_cache *c) {
    if (c == NULL) return;
    ot_map_close(&c->map);
    ot_free(c->starts);
    ot_free(c);
}

const float *ot_teacher_cache_row(const ot_teacher_cache *c, int64_t row, int64_t k, int64_t *count) {
    *count = c->starts[row + 1] - c->starts[row];
    const void *at = c->map.data + HEADER + (c->starts[row] * c->outputs + *count * k) * c->cols * (int64_t)sizeof(float);
    return at;
}

/* ==== Writing. ==== */

static ot_status write_batch(ot_writer *w, ot_network *net, const ot_dataset *d, const ot_teacher *t, int64_t first, int64_t end, ot_error *err) {
    int64_t cols = t->model->desc.hidden_size, at = 0;
    ot_network_clear(net);
    for (int64_t r = first; r < end; r++) OT_TRY(ot_dataset_add_row(net, d, r, err));
    OT_TRY(ot_network_run(net, &(ot_run_options){0}, NULL, err));
    for (int64_t r = first; r < end; r++) {
        int64_t n = positions_of(d, r);
        for (int64_t k = 0; k < ot_teacher_outputs(t); k++) {
            OT_TRY(ot_writer_put(w, ot_network_taught(net, k) + at * cols, n * cols * (int64_t)sizeof(float), err));
        }
        at += n;
    }
    return OT_OK;
}

ot_status ot_teacher_cache_make(const char *path, const char *fingerprint, ot_network *net, const ot_dataset *d, const ot_teacher *t, int64_t batch,
                                const volatile sig_atomic_t *stop, ot_error *err) {
    char header[HEADER];
    ot_writer *w = NULL;
    make_header(header, fingerprint, d, t);
    OT_TRY(ot_writer_open(path, &w, err));
    ot_status status = ot_writer_put(w, header, HEADER, err);
    for (int64_t r = 0; status == OT_OK && r < d->rows; r += batch) {
        status = write_batch(w, net, d, t, r, r + batch < d->rows ? r + batch : d->rows, err);
        if (status == OT_OK && stop != NULL && *stop != 0) {
            status = ot_fail(err, OT_ERR_INTERRUPTED, "stopped while the teacher's hidden states were written, before the first step");
        }
    }
    if (status == OT_OK) status = ot_writer_commit(w, err);
    if (status != OT_OK) ot_writer_abort(w);
    return status;
}
