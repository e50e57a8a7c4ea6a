/* `offsite data FILE...`: what training would see of data files: counts, lengths, what is cut off, and examples with their learnt tokens marked. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/common_data.h"
#include "cli/common_options.h"
#include "cli/data_pictures.h"
#include "cli/output.h"
#include "cli/text.h"
#include "cli/verbs.h"
#include "format/tokenizer.h"

enum { MAX_BINS = 40 };

/* Examples of from .. to tokens. */
typedef struct bin {
    int64_t from, to, examples;
} bin;

/* A file of several that cannot be read. */
typedef struct unreadable {
    const char *path;
    char error[OT_ERROR_TEXT];
} unreadable;

typedef struct job {
    const ot_args *args;
    ot_common_data common;
    ot_data_paths paths;
    ot_data_report *reports; /* [paths.count] */
    unreadable *unread;      /* [n_unread]: files that cannot be read at all, left out of paths */
    int64_t n_unread, unread_room;
    ot_status why; /* of the first of them */
    ot_tokenizer *tokenizer;
    ot_dataset d;
    int64_t shortest, median, longest;
    bin bins[MAX_BINS];
    int n_bins;
    int64_t packed_rows; /* what --pack would make */
    double filled;
} job;

/* ==== Lengths. ==== */

static int64_t length_of(const ot_dataset *d, int64_t e) { return ot_dataset_start(d, e + 1) - ot_dataset_start(d, e); }

static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Bins that double, from the one of the shortest example to that of the longest. */
static void count_bins(job *j) {
    int64_t from = 1;
    while (from * 2 <= j->shortest) from *= 2;
    for (; from <= j->longest && j->n_bins < MAX_BINS; from *= 2) {
        bin *b = &j->bins[j->n_bins++];
        *b = (bin){.from = from, .to = from * 2 - 1};
        for (int64_t e = 0; e < j->d.examples; e++) b->examples += length_of(&j->d, e) >= b->from && length_of(&j->d, e) <= b->to;
    }
}

static ot_status measure(job *j, ot_error *err) {
    int64_t *lengths = NULL;
    OT_TRY(ot_malloc(j->d.examples, sizeof *lengths, "lengths", (void **)&lengths, err));
    for (int64_t e = 0; e < j->d.examples; e++) lengths[e] = length_of(&j->d, e);
    qsort(lengths, (size_t)j->d.examples, sizeof *lengths, by_size);
    j->shortest = lengths[0];
    j->median = lengths[(j->d.examples - 1) / 2];
    j->longest = lengths[j->d.examples - 1];
    ot_free(lengths);
    count_bins(j);
    return OT_OK;
}

/* Last of all, since the examples change their places. */
static ot_status try_packing(job *j, ot_error *err) {
    int64_t capacity = j->common.options.block;
    OT_TRY(ot_dataset_pack(&j->d, capacity, true, 0, err));
    j->packed_rows = j->d.rows;
    j->filled = (double)ot_dataset_columns(&j->d) / ((double)j->d.rows * (double)capacity);
    return OT_OK;
}

/* The file that ended the reading leaves the list. */
static ot_status put_aside(job *j, int64_t at, ot_status why, const ot_error *problem, ot_error *err) {
    OT_TRY(ot_grow((void **)&j->unread, &j->unread_room, j->n_unread + 1, sizeof *j->unread, "the files that cannot be read", err));
    unreadable *u = &j->unread[j->n_unread];
    u->path = j->paths.items[at];
    memcpy(u->error, problem->message, sizeof u->error);
    if (j->n_unread++ == 0) j->why = why;
    memmove(j->paths.items + at, j->paths.items + at + 1, (size_t)(j->paths.count - at - 1) * sizeof *j->paths.items);
    j->paths.count--;
    return OT_OK;
}

/* One bad file of several does not hide what is in the others. */
static ot_status read_files(job *j, ot_error *err) {
    bool several = j->paths.count > 1;
    OT_TRY(ot_calloc(j->paths.count, sizeof *j->reports, "reports", (void **)&j->reports, err));
    while (j->paths.count > 0) {
        ot_error problem = {0};
        int64_t at = 0;
        memset(j->reports, 0, (size_t)j->paths.count * sizeof *j->reports);
        ot_status status = ot_dataset_read(j->paths.items, j->paths.count, &j->common.options, &j->d, j->reports, &problem);
        if (status == OT_OK) return OT_OK;
        while (at < j->paths.count && !j->reports[at].failed) at++;
        if (!several || at == j->paths.count) {
            *err = problem;
            return status;
        }
        OT_TRY(put_aside(j, at, status, &problem, err));
    }
    return OT_OK;
}

static ot_status judge(const job *j, ot_error *err) {
    if (j->n_unread == 0) return OT_OK;
    int64_t all = j->n_unread + j->paths.count;
    if (j->n_unread == all) return ot_fail(err, j->why, "none of the %" PRId64 " files can be read, the first because: %s", all, j->unread[0].error);
    return ot_fail(err, j->why, "%" PRId64 " of %" PRId64 " files cannot be read%s: %s", j->n_unread, all, j->n_unread > 1 ? ", the first because" : "", j->unread[0].error);
}

static ot_status read_data(job *j, ot_error *err) {
    const ot_args *args = j->args;
    const char *model = ot_args_str(args, "model");
    OT_TRY(ot_tokenizer_open(model, &j->tokenizer, err));
    OT_TRY(ot_common_data_options(args, model, ot_tokenizer_vocab_size(j->tokenizer), &j->common, err));
    j->common.options.limit = ot_args_i64(args, "limit");
    for (int64_t i = 0; i < ot_args_operand_count(args, "FILE"); i++) {
        OT_TRY(ot_data_paths_add(&j->paths, "FILE", ot_args_operand_at(args, "FILE", i), err));
    }
    OT_TRY(read_files(j, err));
    return j->paths.count > 0 ? measure(j, err) : OT_OK;
}

/* ==== Examples. ==== */

static bool learnt(const ot_dataset *d, int64_t first, int64_t column) { return column > first && d->targets[column - 1] >= 0; }

static ot_status text_of(const job *j, int64_t from, int64_t to, char **text, size_t *size, ot_error *err) {
    int64_t bytes = 0;
    for (int64_t c = from; c < to; c++) bytes += (int64_t)ot_tokenizer_piece(j->tokenizer, j->d.ids[c], NULL, 0);
    OT_TRY(ot_malloc(bytes + 1, 1, "the text of an example", (void **)text, err));
    *size = 0;
    for (int64_t c = from; c < to; c++) *size += ot_tokenizer_piece(j->tokenizer, j->d.ids[c], *text + *size, (size_t)bytes - *size);
    (*text)[*size] = '\0';
    return OT_OK;
}

/* Calls part() for each stretch of an example that is learnt, or is not. */
typedef void (*part_fn)(void *context, const char *text, size_t size, bool learnt);
static ot_status each_part(const job *j, int64_t example, part_fn part, void *context, ot_error *err) {
    int64_t first = ot_dataset_start(&j->d, example), end = ot_dataset_start(&j->d, example + 1);
    for (int64_t from = first, to = first; from < end; from = to) {
        bool marked = learnt(&j->d, first, from);
        char *text = NULL;
        size_t size = 0;
        while (to < end && learnt(&j->d, first, to) == marked) to++;
        OT_TRY(text_of(j, from, to, &text, &size, err));
        part(context, text, size, marked);
        ot_free(text);
    }
    return OT_OK;
}

/* ==== For people. ==== */

static void put_part(void *context, const char *text, size_t size, bool marked) {
    bool styled = *(const bool *)context;
    const char *begin = styled ? "\033[1;32m" : "[", *end = styled ? "\033[0m" : "]";
    if (marked) fputs(begin, stdout);
    for (size_t at = 0; at < size;) {
        size_t line = strcspn(text + at, "\n");
        char *copy = strndup(text + at, line);
        if (copy != NULL) ot_put_safe(stdout, copy);
        free(copy);
        at += line;
        if (at < size) fputs(text[at] == '\n' ? "\n" : "\\x00", stdout);
        at++;
    }
    if (marked) fputs(end, stdout);
}

static ot_status put_lengths(const job *j, ot_error *err) {
    static const ot_column columns[] = {{"tokens", OT_RIGHT}, {"examples", OT_RIGHT}, {"", OT_LEFT}};
    static const char bar[] = "########################################";
    ot_table t = ot_table_begin(columns, 3);
    int64_t most = 1;
    for (int i = 0; i < j->n_bins; i++) most = j->bins[i].examples > most ? j->bins[i].examples : most;
    for (int i = 0; i < j->n_bins; i++) {
        const bin *b = &j->bins[i];
        char count[32];
        int64_t shown = (b->examples * (int64_t)(sizeof bar - 1) + most - 1) / most;
        ot_table_cell(&t, "%" PRId64 "-%" PRId64, b->from, b->to);
        ot_table_cell(&t, "%s", ot_text_count(b->examples, count, sizeof count));
        ot_table_cell(&t, "%.*s", (int)shown, bar);
    }
    return ot_table_print(&t, stdout, err);
}

static void put_counts(const job *j) {
    for (int64_t i = 0; i < j->paths.count; i++) {
        const ot_data_report *r = &j->reports[i];
        if (r->shape == NULL) continue;
        ot_put_safe(stdout, r->path);
        printf(": %s", r->shape);
        if (r->detail != NULL) printf(" (%s)", r->detail);
        if (r->packing != NULL) printf(", %s", r->packing);
        printf("; %s, %s, %s of them learnt\n", OT_COUNT_OF(r->examples, "example"), OT_COUNT_OF(r->tokens, "token"), OT_COUNT(r->learnt));
        if (r->no_stop != NULL) printf("  the tokenizer has no token %s, which ends a turn of this template: it is learnt as ordinary text\n", r->no_stop);
        if (r->not_utf8 > 0) printf("  byte %" PRId64 " is not UTF-8; such bytes are learnt as they are\n", r->not_utf8 - 1);
        if (r->bad > 0) printf("  %s of %s %s bad and left out\n", OT_COUNT(r->bad), OT_COUNT_OF(r->rows, "row"), r->bad == 1 ? "is" : "are");
        for (int64_t k = 0; k < r->bad && k < OT_DATA_SHOWN; k++) {
            printf("    line %" PRId64 ": ", r->shown[k].line);
            ot_put_safe(stdout, r->shown[k].why);
            putchar('\n');
        }
        if (r->truncated > 0) printf("  %s longer than the block and cut off\n", OT_COUNT_ARE(r->truncated, "example"));
        if (r->split > 0) printf("  %s longer than the block and made into several examples\n", OT_COUNT_ARE(r->split, "row"));
        if (r->empty > 0) printf("  %s nothing to learn within the block and %s left out\n", OT_COUNT_AS(r->empty, "row has", "rows have"), r->empty == 1 ? "is" : "are");
    }
}

static void put_unread(const job *j) {
    for (int64_t i = 0; i < j->n_unread; i++) {
        fputs("cannot be read: ", stdout);
        ot_put_safe(stdout, j->unread[i].path);
        fputs(": ", stdout);
        ot_put_safe(stdout, j->unread[i].error);
        putchar('\n');
    }
}

static ot_status print(job *j, ot_error *err) {
    bool styled = ot_terminal_styled(stdout);
    int64_t shown = ot_args_i64(j->args, "show");
    put_counts(j);
    put_unread(j);
    if (j->paths.count == 0) return OT_OK;
    printf("\nlengths: %s to %s, half of the examples up to %s\n", OT_COUNT(j->shortest), OT_COUNT_OF(j->longest, "token"), OT_COUNT(j->median));
    OT_TRY(put_lengths(j, err));
    for (int64_t e = 0; e < j->d.examples && e < shown; e++) {
        printf("\nexample %" PRId64 ", %s, what is learnt %s:\n", e + 1, OT_COUNT_OF(length_of(&j->d, e), "token"), styled ? "in colour" : "in brackets");
        OT_TRY(each_part(j, e, put_part, &styled, err));
        putchar('\n');
    }
    OT_TRY(try_packing(j, err));
    printf("\nwith --pack: %s of up to %s tokens, filled to %.1f %%\n", OT_COUNT_OF(j->packed_rows, "row"), OT_COUNT(j->common.options.block), 100 * j->filled);
    return OT_OK;
}

/* ==== For machines. ==== */

static void json_file(ot_json_out *out, const ot_data_report *r) {
    ot_json_out_object(out, NULL);
    ot_json_out_str(out, "path", r->path);
    ot_json_out_str(out, "shape", r->shape);
    ot_json_out_str(out, "detail", r->detail);
    ot_json_out_str(out, "packing", r->packing);
    ot_json_out_i64(out, "rows", r->rows);
    ot_json_out_i64(out, "bad", r->bad);
    ot_json_out_array(out, "bad_rows");
    for (int64_t k = 0; k < r->bad && k < OT_DATA_SHOWN; k++) {
        ot_json_out_object(out, NULL);
        ot_json_out_i64(out, "line", r->shown[k].line);
        ot_json_out_str(out, "why", r->shown[k].why);
        ot_json_out_end(out);
    }
    ot_json_out_end(out);
    ot_json_out_i64(out, "examples", r->examples);
    ot_json_out_i64(out, "tokens", r->tokens);
    ot_json_out_i64(out, "learnt", r->learnt);
    ot_json_out_i64(out, "truncated", r->truncated);
    ot_json_out_i64(out, "split", r->split);
    ot_json_out_i64(out, "empty", r->empty);
    if (r->no_stop != NULL) ot_json_out_str(out, "no_stop_token", r->no_stop);
    if (r->not_utf8 > 0) ot_json_out_i64(out, "not_utf8_at", r->not_utf8 - 1);
    ot_json_out_end(out);
}

static void json_lengths(ot_json_out *out, const job *j) {
    ot_json_out_object(out, "lengths");
    ot_json_out_i64(out, "shortest", j->shortest);
    ot_json_out_i64(out, "median", j->median);
    ot_json_out_i64(out, "longest", j->longest);
    ot_json_out_array(out, "histogram");
    for (int i = 0; i < j->n_bins; i++) {
        ot_json_out_object(out, NULL);
        ot_json_out_i64(out, "from", j->bins[i].from);
        ot_json_out_i64(out, "to", j->bins[i].to);
        ot_json_out_i64(out, "examples", j->bins[i].examples);
        ot_json_out_end(out);
    }
    ot_json_out_end(out);
    ot_json_out_end(out);
}

static void json_part(void *context, const char *text, size_t size, bool marked) {
    ot_json_out *out = context;
    ot_json_out_object(out, NULL);
    ot_json_out_text(out, "text", text, size);
    ot_json_out_bool(out, "learnt", marked);
    ot_json_out_end(out);
}

static ot_status json_example(ot_json_out *out, const job *j, int64_t e, ot_error *err) {
    int64_t first = ot_dataset_start(&j->d, e), end = ot_dataset_start(&j->d, e + 1);
    ot_json_out_object(out, NULL);
    ot_json_out_array(out, "ids");
    for (int64_t c = first; c < end; c++) ot_json_out_i64(out, NULL, j->d.ids[c]);
    ot_json_out_end(out);
    ot_json_out_array(out, "learnt");
    for (int64_t c = first; c < end; c++) ot_json_out_i64(out, NULL, learnt(&j->d, first, c));
    ot_json_out_end(out);
    ot_json_out_array(out, "parts");
    OT_TRY(each_part(j, e, json_part, out, err));
    ot_json_out_end(out);
    ot_json_out_end(out);
    return OT_OK;
}

static ot_status print_json(job *j, ot_error *err) {
    ot_json_out out = ot_json_out_open(stdout);
    int64_t shown = ot_args_i64(j->args, "show");
    ot_json_out_object(&out, NULL);
    ot_json_out_array(&out, "files");
    for (int64_t i = 0; i < j->paths.count; i++) {
        if (j->reports[i].shape != NULL) json_file(&out, &j->reports[i]);
    }
    ot_json_out_end(&out);
    if (j->n_unread > 0) {
        ot_json_out_array(&out, "unreadable");
        for (int64_t i = 0; i < j->n_unread; i++) {
            ot_json_out_object(&out, NULL);
            ot_json_out_str(&out, "path", j->unread[i].path);
            ot_json_out_str(&out, "error", j->unread[i].error);
            ot_json_out_end(&out);
        }
        ot_json_out_end(&out);
    }
    if (j->paths.count == 0) return ot_json_out_close(&out, err);
    ot_json_out_i64(&out, "examples", j->d.examples);
    ot_json_out_i64(&out, "tokens", j->d.tokens);
    ot_json_out_i64(&out, "learnt", ot_dataset_targets(&j->d));
    ot_json_out_i64(&out, "block", j->common.options.block);
    json_lengths(&out, j);
    ot_json_out_array(&out, "shown");
    for (int64_t e = 0; e < j->d.examples && e < shown; e++) OT_TRY(json_example(&out, j, e, err));
    ot_json_out_end(&out);
    OT_TRY(try_packing(j, err));
    ot_json_out_object(&out, "packed");
    ot_json_out_i64(&out, "rows", j->packed_rows);
    ot_json_out_f64(&out, "filled", j->filled);
    ot_json_out_end(&out);
    return ot_json_out_close(&out, err);
}

static ot_status run(const ot_args *args, ot_error *err) {
    job j = {.args = args};
    const char *file = ot_args_operand(args, "FILE");
    bool text = ot_args_has(args, "model") && ot_path_ends(file, ".csv"); /* any file may be text */
    if (ot_pictures_is(file) && !text) return ot_data_pictures(args, err);
    if (ot_path_ends(file, "/") && !ot_path_exists(file)) return ot_fail(err, OT_ERR_IO, "there is no folder %s", file);
    if (!ot_args_has(args, "model")) return ot_args_fail(args, err, "--model is missing: text is read with its tokenizer and chat template (pictures need none)");
    ot_status status = read_data(&j, err);
    if (status == OT_OK) status = ot_args_flag(args, "json") ? print_json(&j, err) : print(&j, err);
    if (status == OT_OK) status = judge(&j, err);
    ot_free(j.unread);
    ot_dataset_free(&j.d);
    ot_tokenizer_close(j.tokenizer);
    ot_free(j.reports);
    ot_data_paths_free(&j.paths);
    ot_common_data_free(&j.common);
    return status;
}

static const ot_operand operands[] = {
    {.name = "FILE", .kind = OT_KIND_PATH, .repeated = true, .help = "text, JSON lines, either packed by gzip or zstd, or .safetensors with input_ids [N, T]; or pictures: a folder with a folder for each class, a .tar archive "
             "of them or of WebDataset's samples, a .csv list"},
    {0},
};
static const ot_option options[] = {
    {.name = "model", .letter = 'm', .kind = OT_KIND_PATH, .value = "MODEL",
     .help = "whose tokenizer and chat template are used: a model, an offer, a GGUF file, or a folder with tokenizer files alone; pictures need none"},
    {.name = "block", .kind = OT_KIND_I64, .fallback = "512", .min = 2, .max = OT_NO_MAX, .help = "tokens in an example at most, as in training"},
    {.name = "limit", .kind = OT_KIND_I64, .fallback = "0", .min = 0, .max = OT_NO_MAX, .shown = "all", .help = "examples to read at most"},
    {.name = "show", .kind = OT_KIND_I64, .fallback = "1", .min = 0, .max = OT_NO_MAX, .help = "examples to show as text"},
    {0},
};
static const ot_option_group group = {"Looking", options};
static const ot_example examples[] = {
    {"What fine-tuning would learn from a chat", "offsite data chat.jsonl --model SmolLM2-135M-Instruct.gguf"},
    {"Several files, three examples", "offsite data 'part-*.jsonl.gz' notes.txt --model gpt2/ --block 256 --show 3"},
    {"Pictures: classes, sizes, and every file that cannot be read", "offsite data photos/"},
    {"Rows that call their text \"body\"", "offsite data posts.jsonl --model gpt2/ --map text=body --json"},
    {0},
};

const ot_verb ot_verb_data = {
    .name = "data",
    .audience = OT_FOR_ANYONE,
    .summary = "show what training would see of data files: counts, lengths, learnt tokens",
    .about = "Reads files as --train of the training verbs does, with the same options, and trains nothing. Rows that cannot be used, examples that "
             "are cut off and rows with nothing to learn are counted; the first examples are shown as the model gets them, with the tokens that it "
             "is to learn in brackets, or in colour on a terminal.\n\n"
             "The last line says what --pack would make of the examples.\n\n"
             "Of pictures every one is decoded: how many each class has, their sizes, and each file that cannot be used with the reason.",
    .operands = operands,
    .groups = (const ot_option_group *const[]){&group, &ot_options_data, &ot_options_json, NULL},
    .examples = examples,
    .run = run,
};
