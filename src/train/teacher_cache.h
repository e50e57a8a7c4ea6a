/* A teacher's hidden states of every row of a data set on disk, so that several epochs run its blocks once. The file is written whole and atomically
 * before the first step, belongs to one run (its fingerprint) and is of no use to another. */
#ifndef OT_TRAIN_TEACHER_CACHE_H
#define OT_TRAIN_TEACHER_CACHE_H

#include <signal.h>

#include "model/network.h"
#include "train/dataset.h"

typedef struct ot_teacher_cache ot_teacher_cache;

/* Of the file. */
int64_t ot_teacher_cache_bytes(const ot_dataset *data, const ot_teacher *teacher);
/* Bytes that are free where the file would lie, -1: unknown. */
int64_t ot_teacher_cache_room(const char *path);

/* The file of this run, NULL in *out when there is none. Another's, or a damaged one, counts as none. */
ot_status ot_teacher_cache_open(const char *path, const char *fingerprint, const ot_dataset *data, const ot_teacher *teacher, ot_teacher_cache **out,
                                ot_error *err);
/* net: with the teacher alone, for batches of `batch` rows. INTERRUPTED once *stop is raised; nothing is left then. */
ot_status ot_teacher_cache_make(const char *path, const char *fingerprint, ot_network *net, const ot_dataset *data, const ot_teacher *teacher, int64_t batch,
                                const volatile sig_atomic_t *stop, ot_error *err);
void ot_teacher_cache_close(ot_teacher_cache *c);

/* Output k of the teacher for a row of the data: [*count, hidden size]. */
const float *ot_teacher_cache_row(const ot_teacher_cache *c, int64_t row, int64_t k, int64_t *count);

#endif
