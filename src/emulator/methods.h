/* For the files of this folder: the methods, and what they share. */
#ifndef OT_EMULATOR_METHODS_H
#define OT_EMULATOR_METHODS_H

#include "emulator/emulator.h"

extern const ot_emulator_method ot_emulator_layerdrop, ot_emulator_prune, ot_emulator_fakequant, ot_emulator_quantize, ot_emulator_crash,
    ot_emulator_svd, ot_emulator_distill;

/* Append a change of values to the pipeline; USAGE when the middle is packed already. */
ot_status ot_emulator_add_change(ot_emulator *e, const char *method, ot_emulator_change **out, ot_error *err);
/* USAGE when an earlier step shares blocks, so that `method` has no longer a plain list to pick from. */
ot_status ot_emulator_need_list(const ot_emulator *e, const char *method, ot_error *err);

/* Keep the given columns (or rows) of a matrix, in place; picked is increasing. */
void ot_emulator_keep(ot_emulator_matrix *m, bool rows, const int64_t *picked, int64_t count);

/* Linear centred kernel alignment of n examples, from two centred Gram matrices [n, n]. */
double ot_cka(const double *a, const double *b, int64_t n);
/* Merge adjacent clusters of n things until `keep` are left, always the pair whose border is most alike: similarity[i * n + j]. starts [keep] gets the
 * first thing of each cluster. */
void ot_crash_clusters(const double *similarity, int64_t n, int64_t keep, int64_t *starts);

/* Eigenvalues (any order) and eigenvectors (rows of vectors [n, n]) of the symmetric matrix a [n, n], which is overwritten. */
ot_status ot_eigen_symmetric(double *a, int64_t n, double *values, double *vectors, ot_error *err);

#endif
