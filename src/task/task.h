/* Evaluation tasks as data: how a row of an official data set becomes a context, the choices that may follow it, and the right one, exactly as
 * lm-evaluation-harness 0.4 renders them. Training on a task goes through the same functions, so it sees what evaluation scores.
 *
 *     ot_task_set_options options = {.folders = &folder, .n_folders = 1};
 *     OT_TRY(ot_task_set_open(task, &options, &set, err));
 *     for (int64_t i = 0; i < ot_task_set_count(set); i++) {
 *         ot_arena arena = {0};
 *         ot_task_doc doc;
 *         OT_TRY(ot_task_set_doc(set, i, &arena, &doc, err));   // doc.context, doc.choices[doc.gold]
 *         OT_TRY(ot_task_continuation(&doc, doc.gold, &arena, &continuation, err));
 *         OT_TRY(ot_encode_pair(encoder, doc.context, continuation, &arena, &pair, err));   // task/encode.h: ids of both
 *         ot_arena_free(&arena);
 *     }
 *
 * A new task is one file with a const ot_task and one line in task_list.c; a user's own is a YAML file (task/own.h). */
#ifndef OT_TASK_TASK_H
#define OT_TASK_TASK_H

#include "task/rows.h"

typedef enum ot_task_kind {
    OT_TASK_CHOICE,  /* which continuation is likeliest (or: is any of them what greedy decoding writes) */
    OT_TASK_ROLLING, /* the likelihood of a whole text in windows of the greatest length */
    OT_TASK_BLOCKS,  /* the paper's perplexity: one text cut into blocks that do not overlap */
    OT_TASK_GENERATE, /* what greedy decoding writes, compared with the answers */
    OT_TASK_TARGET, /* the likelihood of one answer, which is scored without the delimiter */
} ot_task_kind;

enum {
    OT_METRIC_ACC = 1,          /* the likeliest choice is the right one; TARGET: greedy decoding writes the answer */
    OT_METRIC_ACC_NORM = 2,     /* the same with likelihoods divided by the choices' characters */
    OT_METRIC_EXACT_MATCH = 4,  /* greedy decoding writes one of the right choices */
    OT_METRIC_WORD_PERPLEXITY = 8,
    OT_METRIC_BYTE_PERPLEXITY = 16,
    OT_METRIC_BITS_PER_BYTE = 32,
    OT_METRIC_PERPLEXITIES = OT_METRIC_WORD_PERPLEXITY | OT_METRIC_BYTE_PERPLEXITY | OT_METRIC_BITS_PER_BYTE,
    OT_METRIC_BLOCKS = 64,     /* perplexity, loss */
    OT_METRIC_ACC_BYTES = 128, /* as ACC_NORM, by UTF-8 bytes */
    OT_METRIC_TARGET_PERPLEXITY = 256,
};

enum { OT_GOLD_ALL = -1, OT_GOLD_SOME = -2 }; /* every choice is right; those of `golds` are */

/* One document, rendered. Texts are slices of the row or of the arena. */
typedef struct ot_task_doc {
    ot_str description; /* in front of everything, once */
    ot_str context;
    ot_str question; /* the context without description and examples */
    ot_str *choices; /* without the delimiter in front; GENERATE: the answers that count */
    int64_t n_choices, gold;
    int64_t *golds, n_golds; /* OT_GOLD_SOME: one at least */
    ot_str delimiter;     /* between context and choice */
    bool joined;          /* no delimiter where an answer is scored or learnt, only in examples */
    ot_str page;          /* ROLLING: what is scored */
    int64_t words, bytes; /* ROLLING: what its likelihood is divided by */
} ot_task_doc;

/* GENERATE: how far is decoded, and what becomes of it before it is compared. */
typedef struct ot_task_generation {
    const char *const *until; /* texts that end the answer, which is what stands before the first of them */
    int64_t n_until, max_tokens;
    const char *filter; /* the harness's name for what is done to an answer; "none" */
    bool strip, lower;  /* that is done to it */
    bool ignore_case, ignore_punctuation, ignore_numbers; /* of both sides, when they are compared */
} ot_task_generation;

/* Where a user's task says that its rows are. */
typedef struct ot_task_file {
    const char *split, *path;
} ot_task_file;

typedef struct ot_task ot_task;
struct ot_task {
    const char *name;
    const char *help; /* one line */
    const char *dataset, *config; /* where the official rows come from */
    const char *version;
    ot_task_kind kind;
    unsigned metrics;
    const char *split;     /* what is scored: DIR/NAME.SPLIT.jsonl */
    const char *const *examples; /* splits that few-shot examples come from, the first whose file is there; NULL: no examples */
    bool no_test_split;    /* the harness's own definition has none: examples equal to the document are left out */
    ot_status (*render)(const ot_task *task, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err);
    /* What the harness's own preparation makes of the row's fields, for records; NULL: it leaves them. */
    void (*prepared)(const ot_task_doc *doc, json_t *row);
    /* ROLLING, BLOCKS: a plain text file DIR/NAME.SPLIT.txt (or of one of the other names) as rows; NULL: JSONL only. */
    const char *const *text_names;
    ot_status (*rows_of_text)(ot_str text, ot_rows *rows, ot_error *err);
    /* Of a user's task (task/own.h); the tasks of the table leave them out. */
    const struct ot_own_task *own;
    const char *fewshot_delimiter; /* NULL: two line feeds */
    bool first_examples;           /* the first rows instead of drawn ones */
    int64_t shots;                 /* when nothing else is asked for */
    const ot_task_file *files;     /* [n_files] */
    int64_t n_files;
    const ot_task_generation *generation;
};

/* All tasks, NULL-terminated. */
extern const ot_task *const ot_tasks[];
/* The task of a name; the error lists all. */
ot_status ot_task_find(const char *name, const ot_task **out, ot_error *err);
/* The same, or a user's task when the name ends in .yaml or .yml. Close it when done. */
ot_status ot_task_open(const char *name_or_path, const ot_task **out, ot_error *err);
void ot_task_close(const ot_task *task); /* NULL and tasks of the table are left alone */
/* A row as a document without examples, its description in front: what training learns and evaluation scores. */
ot_status ot_task_render(const ot_task *task, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err);

/* ==== The documents of a task. ==== */

typedef struct ot_task_set_options {
    const char *const *folders; /* looked through in order */
    int64_t n_folders;
    const char *file;  /* rows from this file instead of the folders; NULL: look there */
    const char *split; /* NULL: the task's own */
    int64_t shots; /* examples in front of each; -1: the task's own number */
    int64_t limit; /* documents at most, 0: all */
} ot_task_set_options;

typedef struct ot_task_set ot_task_set;
/* Every document that would be scored, rendered: whatever is wrong with a file is known before any is scored. */
ot_status ot_task_check(const ot_task *task, const ot_task_set_options *options, ot_error *err);
ot_status ot_task_set_open(const ot_task *task, const ot_task_set_options *options, ot_task_set **out, ot_error *err);
void ot_task_set_close(ot_task_set *set);
int64_t ot_task_set_count(const ot_task_set *set); /* at most the limit */
int64_t ot_task_set_rows(const ot_task_set *set);  /* of the file */
int64_t ot_task_set_shots(const ot_task_set *set); /* examples that are really drawn */
const ot_row *ot_task_set_row(const ot_task_set *set, int64_t i);
/* Document i with its few-shot examples in front. With examples, documents must be asked for in order from 0: each draws from one generator. */
ot_status ot_task_set_doc(ot_task_set *set, int64_t i, ot_arena *arena, ot_task_doc *doc, ot_error *err);
/* Rows of the file that examples come from, drawn for the document asked for last; [shots]. */
const int64_t *ot_task_set_drawn(const ot_task_set *set);

/* What is scored after the context: delimiter and choice. */
ot_status ot_task_continuation(const ot_task_doc *doc, int64_t choice, ot_arena *arena, ot_str *out, ot_error *err);
/* What training teaches after the context: delimiter and right answer, and for GENERATE the first text that ends one, so that it is learnt too. */
ot_status ot_task_lesson(const ot_task *task, const ot_task_doc *doc, ot_arena *arena, ot_str *out, ot_error *err);
/* The choice that training teaches: the right one; where several are, the first. */
static inline int64_t ot_task_answer(const ot_task_doc *doc) {
    return doc->gold == OT_GOLD_ALL ? 0 : doc->gold == OT_GOLD_SOME ? doc->golds[0] : doc->gold;
}
static inline bool ot_task_is_right(const ot_task_doc *doc, int64_t choice) {
    for (int64_t i = 0; doc->gold == OT_GOLD_SOME && i < doc->n_golds; i++) {
        if (doc->golds[i] == choice) return true;
    }
    return doc->gold == OT_GOLD_ALL || doc->gold == choice;
}

/* ==== For the files of tasks. ==== */

/* context = the parts in order; the delimiter is one space. */
ot_status ot_task_context(ot_arena *arena, ot_task_doc *doc, const ot_str *parts, int64_t n, ot_error *err);
/* The choices as a JSON list, for `prepared`. */
json_t *ot_task_choices_json(const ot_task_doc *doc);
/* n empty choices. */
ot_status ot_task_choices(ot_arena *arena, ot_task_doc *doc, int64_t n, ot_error *err);

#endif
