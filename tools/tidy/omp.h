/* Stands in for gcc's omp.h under clang-tidy, which brings none of its own. */
#ifndef OT_TIDY_OMP_H
#define OT_TIDY_OMP_H

void omp_set_num_threads(int threads);
int omp_get_num_threads(void);
int omp_get_max_threads(void);
int omp_get_num_procs(void);
int omp_get_thread_num(void);
int omp_in_parallel(void);

#endif
