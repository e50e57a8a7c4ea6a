/* Rank-reduced linears: each matrix becomes the product of two factors that hold `ratio` of its values, the best of that rank: for the matrix itself, or
 * (whitened) for what it puts out on a text. The second asks for the W' of that rank with the least sum of |(W - W') x|^2, which is the same with W L and
 * W' L, where L L^T is the sum of x x^T. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "emulator/methods.h"
#include "emulator/moments.h"

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

/* ==== For a text. ==== */

typedef struct dense {
    const double *a, *b; /* [m, k], [k, n] or, turned, [n, k] */
    double *to;          /* [m, n] */
    int64_t n, k;
    bool turned;
} dense;

static void dense_row(void *context, int64_t i) {
    const dense *d = context;
    double *to = d->to + i * d->n;
    const double *a = d->a + i * d->k;
    memset(to, 0, (size_t)d->n * sizeof *to);
    for (int64_t j = 0; d->turned && j < d->n; j++) {
        for (int64_t k = 0; k < d->k; k++) to[j] += a[k] * d->b[j * d->k + k];
    }
    for (int64_t k = 0; !d->turned && k < d->k; k++) {
        for (int64_t j = 0; j < d->n; j++) to[j] += a[k] * d->b[k * d->n + j];
    }
}

static void product(const double *a, const double *b, double *to, int64_t m, int64_t n, int64_t k, bool turned) {
    ot_parallel_for(m, dense_row, &(dense){a, b, to, n, k, turned});
}

/* s [n, n] becomes its lower Cholesky factor; the diagonal is lifted by a millionth of its mean, so that what the text never showed counts a little. */
static bool cholesky(double *s, int64_t n) {
    double mean = 0;
    for (int64_t i = 0; i < n; i++) mean += s[i * n + i] / (double)n;
    for (int64_t i = 0; i < n; i++) {
        s[i * n + i] += 1e-6 * mean;
        for (int64_t j = 0; j <= i; j++) {
            double sum = s[i * n + j];
            for (int64_t k = 0; k < j; k++) sum -= s[i * n + k] * s[j * n + k];
            if (j < i) {
                s[i * n + j] = sum / s[j * n + j];
            } else if (sum > 0) {
                s[i * n + i] = sqrt(sum);
            } else {
                return false;
            }
        }
        for (int64_t j = i + 1; j < n; j++) s[i * n + j] = 0;
    }
    return true;
}

/* z with L^T z = v. */
static void solve_turned(const double *l, int64_t n, const double *v, double *z) {
    memcpy(z, v, (size_t)n * sizeof *z);
    for (int64_t i = n - 1; i >= 0; i--) {
        z[i] /= l[i * n + i];
        for (int64_t k = 0; k < i; k++) z[k] -= l[i * n + k] * z[i];
    }
}

/* w [out, in], s [in, in] -> left [out, rank], right [rank, in]. With A = W L: A A^T = W S W^T = U D U^T gives U_r (U_r^T W); A^T A = V D V^T gives
 * (A V_r) (L^-T V_r)^T, which is the same and smaller where there are more outputs than inputs. */
static ot_status factorise_for(const double *w, double *s, int64_t out, int64_t in, int64_t rank, float *left, float *right, ot_error *err) {
    int64_t n = out <= in ? out : in;
    double *room = NULL;
    int64_t *order = NULL;
    ot_status status = ot_calloc(out * in + 2 * n * n + n + in + out * rank, sizeof *room, "a singular value decomposition", (void **)&room, err);
    if (status == OT_OK) status = ot_calloc(n, sizeof *order, "singular values", (void **)&order, err);
    if (status == OT_OK && out > in && !cholesky(s, in)) status = ot_fail(err, OT_ERR_REFUSED, "svd: the text gives a linear no input that is a finite number");
    if (status == OT_OK) {
        double *a = room, *gram = a + out * in, *vectors = gram + n * n, *values = vectors + n * n, *z = values + n, *picked = z + in;
        product(w, s, a, out, in, in, false);
        if (out <= in) {
            product(a, w, gram, out, out, in, true);
        } else {
            for (int64_t r = 0; r < out; r++) {
                for (int64_t i = 0; i < in; i++) {
                    for (int64_t j = 0; j < in; j++) gram[i * in + j] += a[r * in + i] * a[r * in + j];
                }
            }
        }
        status = ot_eigen_symmetric(gram, n, values, vectors, err);
        if (status == OT_OK) sort_down(values, order, n);
        for (int64_t k = 0; status == OT_OK && k < rank; k++) {
            const double *v = vectors + order[k] * n;
            if (out <= in) {
                product(v, w, z, 1, in, out, false);
                for (int64_t i = 0; i < out; i++) left[i * rank + k] = (float)v[i];
            } else {
                product(a, v, picked, out, 1, in, true);
                for (int64_t i = 0; i < out; i++) left[i * rank + k] = (float)picked[i];
                solve_turned(s, in, v, z);
            }
            for (int64_t i = 0; i < in; i++) right[k * in + i] = (float)z[i];
        }
    }
    ot_free(order);
    ot_free(room);
    return status;
}

/* As split_matrix, for what the linear sees. Inputs that left before are no part of it any more. */
static ot_status split_for(ot_emulator_block *b, const ot_emulator_matrix *m, const float *moments, int64_t width, int64_t rank, ot_emulator_matrix *left,
                           ot_emulator_matrix *right, ot_error *err) {
    bool turned = b->desc.conv1d;
    int64_t out = turned ? m->cols : m->rows, in = turned ? m->rows : m->cols;
    const int64_t *of = turned ? m->row_of : m->col_of;
    double *w = ot_arena_alloc(&b->arena, out * in * (int64_t)sizeof *w, err), *s = ot_arena_alloc(&b->arena, in * in * (int64_t)sizeof *s, err);
    float *l = ot_arena_alloc(&b->arena, out * rank * 4, err), *r = ot_arena_alloc(&b->arena, rank * in * 4, err);
    if (w == NULL || s == NULL || l == NULL || r == NULL) return OT_ERR_MEMORY;
    for (int64_t i = 0; i < out; i++) {
        for (int64_t j = 0; j < in; j++) w[i * in + j] = (double)(turned ? m->values[j * out + i] : m->values[i * in + j]);
    }
    for (int64_t i = 0; i < in; i++) {
        for (int64_t j = 0; j < in; j++) s[i * in + j] = (double)moments[of[i] * width + of[j]];
    }
    OT_TRY(factorise_for(w, s, out, in, rank, l, r, err));
    *left = (ot_emulator_matrix){.values = l, .rows = out, .cols = rank};
    *right = (ot_emulator_matrix){.values = r, .rows = rank, .cols = in};
    if (!turned) return OT_OK;
    float *a = ot_arena_alloc(&b->arena, in * rank * 4, err), *c = ot_arena_alloc(&b->arena, rank * out * 4, err);
    if (a == NULL || c == NULL) return OT_ERR_MEMORY;
    transpose(r, rank, in, a);
    transpose(l, out, rank, c);
    *left = (ot_emulator_matrix){.values = a, .rows = in, .cols = rank};
    *right = (ot_emulator_matrix){.values = c, .rows = rank, .cols = out};
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
        int64_t rank = rank_of(m->rows, m->cols, c->number);
        const ot_moments *seen = c->moments != NULL ? &c->moments[b->source] : NULL;
        if (seen != NULL && seen->of[role] != NULL) {
            OT_TRY(split_for(b, m, seen->of[role], seen->width[role], rank, &left, &right, err));
        } else {
            OT_TRY(split_matrix(b, m, rank, &left, &right, err));
        }
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

/* whiten=yes: what the linears see of the text. */
static ot_status look(ot_emulator *e, const ot_spec_step *step, ot_emulator_change *c, ot_error *err) {
    const ot_spec_method *spec = &ot_emulator_svd.spec;
    const char *whiten = ot_spec_get(step, spec, "whiten")->word;
    if (strcmp(whiten, "no") == 0) return OT_OK;
    if (strcmp(whiten, "yes") != 0) return ot_fail(err, OT_ERR_USAGE, "--emulator: svd: whiten is yes or no, not \"%s\"", whiten);
    if (e->model->desc.vision) return ot_fail(err, OT_ERR_USAGE, "--emulator: svd: whiten=yes looks at text, and this model reads pictures");
    if (e->text == NULL || e->text->rows < 1) return ot_fail(err, OT_ERR_USAGE, "--emulator: svd: whiten=yes looks at a public text: give --data FILE");
    ot_moments *moments = NULL;
    OT_TRY(ot_moments_collect(e, (int64_t)ot_spec_get(step, spec, "examples")->number, (int64_t)ot_spec_get(step, spec, "tokens")->number, &moments, err));
    c->moments = moments;
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
    OT_TRY(look(e, step, c, err));
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
             .help = "every matrix becomes the product of two thin ones, the best of their rank: for its values, or for what it puts out on the text of --data",
             .keys =
                 (const ot_spec_key[]){
                     {"ratio", OT_SPEC_NUMBER, "0.5", 0, 1, "share of a matrix's values that its two factors hold: of a square matrix, half of that in rank"},
                     {"whiten", OT_SPEC_WORD, "no", 0, 0, "yes: lose least of what the matrix puts out on the text of --data; plain svd makes a small model useless"},
                     {"examples", OT_SPEC_INTEGER, "32", 1, 100000, "with whiten=yes: blocks of the text that are looked at, at most"},
                     {"tokens", OT_SPEC_INTEGER, "128", 2, 1 << 24, "with whiten=yes: tokens of each of them, from its beginning"},
                     {"factors", OT_SPEC_WORD, "yes", 0, 0, "no: ship their product as a plain matrix, no fewer bytes"},
                     {0},
                 }},
    .apply = apply,
};
