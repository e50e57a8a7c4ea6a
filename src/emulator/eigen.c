/* Eigenvectors of a symmetric matrix in double: Householder tridiagonalisation, then QL with implicit shifts. Vectors are rows, so that the inner
 * loops run along memory; chunks do not depend on the number of threads, so neither do the bits. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/parallel.h"
#include "emulator/methods.h"

enum { ROWS = 16, ITERATIONS = 60, LANES = 8 };

/* Partial sums in a fixed order: fast, and the same everywhere. */
static double dot(const double *a, const double *b, int64_t n) {
    double sums[LANES] = {0}, total = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int k = 0; k < LANES; k++) sums[k] += a[i + k] * b[i + k];
    }
    for (; i < n; i++) total += a[i] * b[i];
    for (int k = 0; k < LANES; k++) total += sums[k];
    return total;
}

/* v and scale of the reflection H = 1 - scale v v^T that clears column k below its first subdiagonal; v is zero up to k. */
typedef struct reflection {
    double *a;       /* [n, n] */
    double *vectors; /* [n, n]: row k keeps v of step k while the matrix is reduced */
    double *scales, *p;
    int64_t n, k;
} reflection;

static void times_v(void *context, int64_t chunk) {
    const reflection *r = context;
    const double *v = r->vectors + r->k * r->n;
    for (int64_t i = r->k + 1 + chunk * ROWS; i < r->n && i < r->k + 1 + (chunk + 1) * ROWS; i++) {
        r->p[i] = r->scales[r->k] * dot(r->a + i * r->n + r->k + 1, v + r->k + 1, r->n - r->k - 1);
    }
}

static void rank_two(void *context, int64_t chunk) {
    const reflection *r = context;
    const double *v = r->vectors + r->k * r->n;
    for (int64_t i = r->k + 1 + chunk * ROWS; i < r->n && i < r->k + 1 + (chunk + 1) * ROWS; i++) {
        double *row = r->a + i * r->n;
        for (int64_t j = r->k + 1; j < r->n; j++) row[j] -= v[i] * r->p[j] + r->p[i] * v[j];
    }
}

static int64_t chunks_below(const reflection *r) { return (r->n - r->k - 1 + ROWS - 1) / ROWS; }

static void reduce(reflection *r, double *diagonal, double *beside) {
    for (r->k = 0; r->k + 1 < r->n; r->k++) {
        int64_t k = r->k, n = r->n;
        double *v = r->vectors + k * n, norm = 0;
        memset(v, 0, (size_t)n * sizeof *v);
        for (int64_t i = k + 1; i < n; i++) {
            v[i] = r->a[i * n + k];
            norm += v[i] * v[i];
        }
        norm = sqrt(norm);
        double head = v[k + 1], alpha = head > 0 ? -norm : norm;
        v[k + 1] -= alpha;
        double half_square = norm * (norm + fabs(head)); /* of v */
        r->scales[k] = norm > 0 ? 1 / half_square : 0;
        diagonal[k] = r->a[k * n + k];
        beside[k] = norm > 0 ? alpha : head;
        if (norm == 0) continue;
        ot_parallel_for(chunks_below(r), times_v, r);
        double half = 0.5 * r->scales[k] * dot(r->p + k + 1, v + k + 1, n - k - 1);
        for (int64_t i = k + 1; i < n; i++) r->p[i] -= half * v[i];
        ot_parallel_for(chunks_below(r), rank_two, r);
    }
    diagonal[r->n - 1] = r->a[r->n * r->n - 1];
    beside[r->n - 1] = 0;
}

/* Rows of a <- rows times H, for the reflections from the last to the first: a starts as the identity. */
static void apply_all(void *context, int64_t chunk) {
    const reflection *r = context;
    int64_t n = r->n;
    for (int64_t i = chunk * ROWS; i < n && i < (chunk + 1) * ROWS; i++) {
        double *row = r->a + i * n;
        for (int64_t k = n - 2; k >= 0; k--) {
            const double *v = r->vectors + k * n;
            if (i <= k || r->scales[k] == 0) continue;
            double scale = r->scales[k] * dot(row + k + 1, v + k + 1, n - k - 1);
            for (int64_t j = k + 1; j < n; j++) row[j] -= scale * v[j];
        }
    }
}

/* Two rows of z turn by the angle with this cosine and sine. */
static void turn(double *z, int64_t n, int64_t i, double c, double s) {
    double *restrict low = z + i * n, *restrict high = low + n;
    for (int64_t j = 0; j < n; j++) {
        double h = high[j], l = low[j];
        high[j] = s * l + c * h;
        low[j] = c * l - s * h;
    }
}

/* One QL sweep over the unreduced part [l, m]. */
static void sweep(double *d, double *e, double *z, int64_t n, int64_t l, int64_t m) {
    double g = (d[l + 1] - d[l]) / (2 * e[l]), r = hypot(g, 1), s = 1, c = 1, p = 0;
    g = d[m] - d[l] + e[l] / (g + (g >= 0 ? fabs(r) : -fabs(r)));
    for (int64_t i = m - 1; i >= l; i--) {
        double f = s * e[i], b = c * e[i];
        r = hypot(f, g);
        e[i + 1] = r;
        if (r == 0) {
            d[i + 1] -= p;
            e[m] = 0;
            return;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - p;
        r = (d[i] - g) * s + 2 * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
        turn(z, n, i, c, s);
    }
    d[l] -= p;
    e[l] = g;
    e[m] = 0;
}

static ot_status iterate(double *d, double *e, double *z, int64_t n, ot_error *err) {
    for (int64_t l = 0; l < n; l++) {
        for (int tries = 0;; tries++) {
            int64_t m = l;
            while (m < n - 1 && fabs(e[m]) > 1e-16 * (fabs(d[m]) + fabs(d[m + 1]))) m++;
            if (m == l) break;
            if (tries == ITERATIONS) return ot_fail(err, OT_ERR_NUMERIC, "the singular values of a matrix could not be found: does it hold numbers that are not finite?");
            sweep(d, e, z, n, l, m);
        }
    }
    return OT_OK;
}

ot_status ot_eigen_symmetric(double *a, int64_t n, double *values, double *vectors, ot_error *err) {
    double *room = NULL;
    if (n < 1) return OT_OK;
    OT_TRY(ot_calloc(3 * n, sizeof *room, "eigenvalues", (void **)&room, err));
    reflection r = {.a = a, .vectors = vectors, .scales = room, .p = room + n, .n = n};
    double *beside = room + 2 * n;
    reduce(&r, values, beside);
    memset(a, 0, (size_t)n * (size_t)n * sizeof *a);
    for (int64_t i = 0; i < n; i++) a[i * n + i] = 1;
    ot_parallel_for((n + ROWS - 1) / ROWS, apply_all, &r);
    memcpy(vectors, a, (size_t)n * (size_t)n * sizeof *a);
    ot_status status = iterate(values, beside, vectors, n, err);
    ot_free(room);
    return status;
}
