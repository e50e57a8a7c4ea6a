/* Rank-reduced linears: each matrix becomes the product of two factors that hold `ratio` of its values, the best of that rank. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "emulator/methods.h"

static int64_t rank_of(int64_t out, int64_t in, double ratio) {
    int64_t rank = (int64_t)(ratio * (double)out * (double)in / (double)(out + in));
    return rank < 1 ? 1 : rank;
}

/* ==== The factors, by the eigenvectors U of W W^T (or of W^T W, whichever is smaller): W ~ U_r (U_r^T W). ==== */

typedef struct products {
    const float *w; /* [rows, cols], rows <= cols */
    double *gram;   /* [rows, rows] */
    const double *vectors; /* [rows, rows]: one vector a row */
    const int64_t *order;
    float *projected; /* [rank, cols] */
    int64_t rows, cols, rank;
} products;

static void gram_row(void *context, int64_t i) {
    const products *p = context;
    for (int64_t j = 0; j <= i; j++) {
        const float *a = p->w + i * p->cols, *b = p->w + j * p->cols;
        enum { LANES = 8 };
        double sums[LANES] = {0}, sum = 0;
        int64_t k = 0;
        for (; k + LANES <= p->cols; k += LANES) {
            for (int l = 0; l < LANES; l++) sums[l] += (double)a[k + l] * (double)b[k + l];
        }
        for (; k < p->cols; k++) sum += (double)a[k] * (double)b[k];
        for (int l = 0; l < LANES; l++) sum += sums[l];
        p->gram[i * p->rows + j] = p->gram[j * p->rows + i] = sum;
    }
}

static void project_row(void *context, int64_t i) {
    const products *p = context;
    const double *v = p->vectors + p->order[i] * p->rows;
    float *to = p->projected + i * p->cols;
    for (int64_t k = 0; k < p->cols; k++) to[k] = 0.0F;
    for (int64_t j = 0; j < p->rows; j++) {
        const float *row = p->w + j * p->cols;
        for (int64_t k = 0; k < p->cols; k++) to[k] += (float)v[j] * row[k];
    }
}

/* Indices of the largest values first; equal ones in their order. */
static void sort_down(const double *values, int64_t *order, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        int64_t at = i;
        while (at > 0 && values[order[at - 1]] < values[i]) {
            order[at] = order[at - 1];
            at--;
        }
        order[at] = i;
    }
}

/* w [rows, cols], rows <= cols -> left [rows, rank], right [rank, cols]. */
static ot_status factorise(const float *w, int64_t rows, int64_t cols, int64_t rank, float *left, float *right, ot_error *err) {
    double *room = NULL;
    int64_t *order = NULL;
    ot_status status = ot_calloc(2 * rows * rows + rows, sizeof *room, "a singular value decomposition", (void **)&room, err);
    if (status == OT_OK) status = ot_calloc(rows, sizeof *order, "singular values", (void **)&order, err);
    if (status == OT_OK) {
        double *gram = room, *vectors = room + rows * rows, *values = room + 2 * rows * rows;
        products p = {w, gram, vectors, order, right, rows, cols, rank};
        ot_parallel_for(rows, gram_row, &p);
        status = ot_eigen_symmetric(gram, rows, values, vectors, err);
        if (status == OT_OK) {
            sort_down(values, order, rows);
            ot_parallel_for(rank, project_row, &p);
            for (int64_t i = 0; i < rows; i++) {
                for (int64_t k = 0; k < rank; k++) left[i * rank + k] = (float)vectors[order[k] * rows + i];
            }
        }
    }
    ot_free(order);
    ot_free(room);
    return status;
}

static void transpose(const float *from, int64_t rows, int64_t cols, float *to) {
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < cols; c++) to[c * rows + r] = from[r * cols + c];
    }
}

/* m [rows, cols] -> left [rows, rank], right [rank, cols] */
static ot_status split_matrix(ot_emulator_block *b, const ot_emulator_matrix *m, int64_t rank, ot_emulator_matrix *left, ot_emulator_matrix *right,
                              ot_error *err) {
    *left = (ot_emulator_matrix){.values = ot_arena_alloc(&b->arena, m->rows * rank * 4, err), .rows = m->rows, .cols = rank};
    *right = (ot_emulator_matrix){.values = ot_arena_alloc(&b->arena, rank * m->cols * 4, err), .rows = rank, .cols = m->cols};
    if (left->values == NULL || right->values == NULL) return OT_ERR_MEMORY;
    if (m->rows <= m->cols) return factorise(m->values, m->rows, m->cols, rank, left->values, right->values, err);
    float *turned = ot_arena_alloc(&b->arena, m->rows * m->cols * 4, err), *l = ot_arena_alloc(&b->arena, m->cols * rank * 4, err);
    float *r = ot_arena_alloc(&b->arena, rank * m->rows * 4, err);
    if (turned == NULL || l == NULL || r == NULL) return OT_ERR_MEMORY;
    transpose(m->values, m->rows, m->cols, turned);
    OT_TRY(factorise(turned, m->cols, m->rows, rank, l, r, err));
    transpose(r, rank, m->rows, left->values);
    transpose(l, m->cols, rank, right->values);
    return OT_OK;
}

/* ==== The step. ==== */

static void multiply(const ot_emulator_matrix *left, const ot_emulator_matrix *right, float *to) {
    int64_t rank = left->cols, cols = right->cols;
    for (int64_t r = 0; r < left->rows; r++) {
        float *row = to + r * cols;
        memset(row, 0, (size_t)cols * sizeof *row);
        for (int64_t k = 0; k < rank; k++) {
            for (int64_t c = 0; c < cols; c++) row[c] += left->values[r * rank + k] * right->values[k * cols + c];
        }
    }
}

static ot_status reduce(const ot_emulator_change *c, ot_emulator_block *b, ot_error *err) {
    for (int role = 0; role < OT_ROLE_COUNT; role++) {
        ot_emulator_matrix *m = b->linears[role], left, right;
        if (m->values == NULL) continue;
        OT_TRY(split_matrix(b, m, rank_of(m->rows, m->cols, c->number), &left, &right, err));
        if (c->count == 0) {
            multiply(&left, &right, m->values);
        } else {
            /* out = in . W^T: of W [out, in] the right factor meets the input first; stored [in, out], the left one does. */
            m[0] = b->desc.conv1d ? left : right;
            m[1] = b->desc.conv1d ? right : left;
        }
    }
    return OT_OK;
}

static ot_status apply(ot_emulator *e, const ot_spec_step *step, ot_error *err) {
    const ot_spec_method *spec = &ot_emulator_svd.spec;
    double ratio = ot_spec_get(step, spec, "ratio")->number;
    const char *factors = ot_spec_get(step, spec, "factors")->word;
    bool yes = strcmp(factors, "yes") == 0;
    if (!yes && strcmp(factors, "no") != 0) return ot_fail(err, OT_ERR_USAGE, "--emulator: svd: factors is yes or no, not \"%s\"", factors);
    if (!(ratio > 0)) return ot_fail(err, OT_ERR_USAGE, "--emulator: svd: ratio must be above 0");
    if (e->model == NULL) return ot_fail(err, OT_ERR_USAGE, "--emulator: svd needs a model");
    ot_emulator_change *c = NULL;
    OT_TRY(ot_emulator_add_change(e, "svd", &c, err));
    ot_desc d = e->model->desc;
    if (e->form.heads > 0) d.heads = e->form.heads;
    if (e->form.kv_heads > 0) d.kv_heads = e->form.kv_heads;
    if (e->form.ffn_size > 0) d.ffn_size = e->form.ffn_size;
    for (int role = 0; role < OT_ROLE_COUNT; role++) {
        ot_role_shape s = ot_desc_shape(&d, (ot_role)role);
        if (!s.exists || s.vector || !ot_role_in_block((ot_role)role)) continue;
        if (e->form.rank[role] > 0) return ot_fail(err, OT_ERR_USAGE, "--emulator: svd is given twice: its factors are no matrices to reduce again");
        if (yes) e->form.rank[role] = rank_of(s.rows, s.cols, ratio);
    }
    c->block = reduce;
    c->number = ratio;
    c->count = yes;
    return OT_OK;
}

const ot_emulator_method ot_emulator_svd = {
    .spec = {.name = "svd",
             .help = "every matrix becomes the product of two thin ones, the best of their rank",
             .keys =
                 (const ot_spec_key[]){
                     {"ratio", OT_SPEC_NUMBER, "0.5", 0, 1, "share of a matrix's values that its two factors hold"},
                     {"factors", OT_SPEC_WORD, "yes", 0, 0, "no: ship their product as a plain matrix, no fewer bytes"},
                     {0},
                 }},
    .apply = apply,
};
