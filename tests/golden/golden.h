/* The golden runner: runs the real binary on folders of reference fixtures and judges what comes out.
 * A check is one named line with a worst error; a run collects checks; the list of passing checks is judged at the end. */
#ifndef OT_TEST_GOLDEN_H
#define OT_TEST_GOLDEN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "format/safetensors.h"

enum { GOLD_PATH = 1024, GOLD_TEXT = 256, GOLD_ARGS = 64 };

/* ---- checks ---- */

typedef struct gold_check {
    char name[GOLD_TEXT];
    bool failed, judged;
    double ratio;        /* worst error / bar over everything judged under this name: at most 1 passes */
    double tight;        /* the same against the bar a float32 engine should reach */
    double error, bar;   /* where ratio was largest */
    double key, key_tight; /* ratios of key biases, which are rounding noise blown up: kept apart from what can be right or wrong */
    char detail[3 * GOLD_TEXT]; /* the tensor of the largest ratio, or the first reason to fail */
} gold_check;

typedef struct gold_run {
    const char *binary; /* the program under test */
    const char *root;   /* folder of fixtures */
    const char *shared; /* folder with tokenizers/, for vocabularies that the fixtures point at */
    const char *smol;   /* SmolLM2 as GGUF, or NULL */
    const char *prefix; /* in front of every name, "" or "own/" */
    const char *only;   /* run only groups at or under this name, or NULL */
    bool all;           /* every pair of layerdrop.json instead of the telling ones */
    bool keep, verbose;
    char temp[GOLD_PATH];
    int64_t serial; /* numbers temporary files and runs */
    int64_t spawned;
    gold_check **checks;
    int64_t count, capacity;
    char skipped[8][GOLD_TEXT]; /* groups that could not be run for want of a file from elsewhere */
    int64_t n_skipped;
} gold_run;

/* Should anything under this group be run? */
bool gold_wanted(const gold_run *run, const char *group);
/* Says so, and keeps the group's listed checks from being missed. */
void gold_skip(gold_run *run, const char *group, const char *why);
gold_check *gold_check_add(gold_run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
void gold_fail(gold_check *check, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* One measured error against its two bars. */
void gold_judge(gold_check *check, const char *label, double error, double bar, double tight);
bool gold_passes(const gold_check *check);
bool gold_passes_tight(const gold_check *check);

/* ---- comparing tensors ---- */

/* Passes when max|actual - expected| <= atol + rtol * max(max|expected|, floor). */
typedef struct gold_bar {
    double rtol, atol, floor;
} gold_bar;

extern const gold_bar GOLD_EXACT;

/* Where a tensor has a key bias that no position encoding makes matter: judged by another bar. */
typedef struct gold_key_bias {
    bool on;       /* the model has no rotary positions */
    int64_t heads; /* for query_key_value.bias stored as [heads, 3, d] */
} gold_key_bias;
bool gold_is_key_bias(const gold_key_bias *kind, const char *name, int64_t elements, int64_t element);
/* Read from a configuration; a missing file or key leaves it off. */
gold_key_bias gold_key_bias_of(const char *config_path);

typedef struct gold_options {
    gold_bar bar, tight;
    const gold_key_bias *key_bias; /* NULL: no special case */
    double key_bar, key_tight;     /* absolute */
    const int64_t *row_mask;       /* [rows]: rows with 0 are left out; NULL: all rows */
    int64_t rows;
} gold_options;

/* A missing tensor (NULL), another shape or kind fails. `label` names it in messages. */
void gold_compare(gold_check *check, const char *label, const ot_tensor *expected, const ot_tensor *actual, const gold_options *how);
void gold_compare_floats(gold_check *check, const char *label, const float *expected, const float *actual, int64_t n,
                         const gold_options *how);
/* Same dtype, shape and bytes. */
void gold_compare_bytes(gold_check *check, const char *label, const ot_tensor *expected, const ot_tensor *actual);
double gold_max_abs(const ot_tensor *t);
/* A decoded copy; free with free(). Exits the runner when memory is out or the dtype is not one of numbers. */
float *gold_floats(const ot_tensor *t);
int64_t *gold_ints(const ot_tensor *t);
bool gold_same_shape(const ot_tensor *a, const ot_tensor *b);

/* ---- files ---- */

typedef char gold_path[GOLD_PATH];
/* Formatted path, checked for length. */
void gold_join(gold_path out, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool gold_exists(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A fresh name in the temporary folder, ending in suffix. */
void gold_temp(gold_run *run, gold_path out, const char *suffix);
/* NULL when the file is missing or broken, with the reason in why (may be NULL). */
ot_safetensors *gold_open(const char *path, char *why);
/* As gold_open for fixtures: a broken fixture ends the runner. */
ot_safetensors *gold_open_fixture(const char *path);
json_t *gold_json(const char *path, char *why);
/* Names in a folder, sorted; free with gold_names_free. An absent folder has none. */
char **gold_names(const char *dir, int64_t *count);
void gold_names_free(char **names, int64_t count);
void gold_write_tensors(const char *path, const ot_tensor *tensors, int64_t count);
void gold_write_text(const char *path, const char *text);
ot_tensor gold_view(const char *name, ot_dtype dtype, const void *data, int32_t n_dims, const int64_t *shape);
_Noreturn void gold_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Block number of a tensor's name: its first component made of digits alone, or -1. */
int64_t gold_block_of(const char *name);
/* The name with that number replaced. */
void gold_renumber(char *out, size_t size, const char *name, int64_t block);

/* ---- running the binary ---- */

typedef struct gold_args {
    const char *v[GOLD_ARGS];
    int n;
} gold_args;
void gold_arg(gold_args *args, ...) __attribute__((sentinel)); /* strings up to NULL */

typedef struct gold_result {
    int code; /* exit code; 128 + signal; 124 after the time limit */
    gold_path out, err;
    char text[2 * GOLD_TEXT]; /* "exit 2: offsite: ..." for messages */
} gold_result;
/* Runs the binary with these arguments; standard input from `in` or empty. */
gold_result gold_exec(gold_run *run, const gold_args *args, const char *in);
/* First line of a captured stream, without its newline. */
void gold_first_line(const char *path, char *line, size_t size);

/* ---- the sections: each walks its folder and adds checks ---- */

/* A forward run compared with a golden file; shared by models, gguf and the training section. */
void gold_forward_checks(gold_run *run, const char *name, const char *model, const char *config, const char *golden);
/* `offsite forward`: writes input from the given tensors, returns the opened output or NULL with why. Close it. */
ot_safetensors *gold_forward(gold_run *run, const char *model, const char *input, const char *flags, const char *adapter, char *why);

void gold_section_models(gold_run *run);
void gold_section_gguf(gold_run *run);
void gold_section_train(gold_run *run);
void gold_section_emulator(gold_run *run);
void gold_section_tokenizers(gold_run *run);

/* ---- training runs, shared by train and distill ---- */

typedef struct gold_log {
    int64_t steps;
    float loss[64], lm[64], kd[64], grad_norm[64], learning_rate[64];
} gold_log;
/* False with why when the file is missing, a step is out of order or a number is absent. */
bool gold_read_log(const char *path, gold_log *log, char *why);
/* Compares a golden series with a series of the log. */
void gold_compare_series(gold_check *check, const char *label, const ot_tensor *expected, const float *actual, int64_t count,
                         double rtol, double atol);

#endif
