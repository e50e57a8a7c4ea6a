/* `offsite bench`: the speed of training steps on this machine. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/parallel.h"
#include "base/room.h"
#include "cli/common_model.h"
#include "cli/common_options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/text.h"
#include "cli/verbs.h"
#include "model/sizes.h"
#include "peft/peft.h"
#include "train/bench.h"

static const char *const modes[] = {"ft", "ft-lora", "ot", "ot-lora", NULL};
static const char *const phases[] = {"forward", "recompute", "backward"};

typedef struct bench_job {
    const ot_args *args;
    ot_bench_options options;
    ot_bench_peak peak;
    bool offsite, pictures;
    const char *peft;
    ot_optimizer_choice optimizer;
    int64_t layers, keep, trained;
} bench_job;

static void print_json(const bench_job *job, const ot_bench_result *r, ot_json_out *out) {
    const char *operand = ot_args_operand(job->args, "MODEL");
    ot_json_out_object(out, NULL);
    ot_json_out_str(out, "engine", "offsite " OFFSITE_VERSION);
    ot_json_out_str(out, "model", operand != NULL ? operand : ot_args_str(job->args, "size"));
    ot_json_out_str(out, "mode", ot_args_str(job->args, "mode"));
    ot_json_out_str(out, "peft", job->peft);
    ot_json_out_str(out, "optimizer", job->optimizer.optimizer->spec.name);
    ot_json_out_str(out, "dtype", ot_args_str(job->args, "dtype"));
    ot_json_out_str(out, "backend", job->options.backend->name);
    ot_json_out_bool(out, "forward_only", job->options.forward_only);
    ot_json_out_bool(out, "recompute", job->options.recompute);
    ot_json_out_i64(out, "blocks", job->layers);
    ot_json_out_i64(out, "batch", job->options.batch);
    ot_json_out_i64(out, "seq", job->options.sequence);
    ot_json_out_i64(out, "threads", ot_threads());
    ot_json_out_i64(out, "trained_values", job->trained);
    ot_json_out_f64(out, "tokens_per_s", r->tokens_per_second);
    if (job->pictures) ot_json_out_f64(out, "images_per_s", r->sequences_per_second);
    ot_json_out_f64(out, "step_s", r->seconds);
    ot_json_out_f64(out, "best_step_s", r->seconds_best);
    ot_json_out_f64(out, "loss", r->loss);
    ot_json_out_i64(out, "planned_bytes", r->planned_bytes);
    ot_json_out_i64(out, "peak_rss_bytes", ot_memory_peak());
    if (!job->options.profile) return;
    ot_json_out_f64(out, "optimizer_s", r->optimizer_seconds);
    ot_json_out_f64(out, "blocks_s", r->block_seconds);
    ot_json_out_f64(out, "low_rank_s", r->low_rank_seconds);
    ot_json_out_f64(out, "peak_flops", job->peak.flops_per_second);
    ot_json_out_f64(out, "peak_bytes_per_s", job->peak.bytes_per_second);
    ot_json_out_array(out, "profile");
    for (int i = 0; i < r->n_lines; i++) {
        const ot_bench_line *l = &r->lines[i];
        ot_json_out_object(out, NULL);
        ot_json_out_str(out, "op", ot_op_info(l->kind)->name);
        ot_json_out_str(out, "phase", phases[l->phase]);
        ot_json_out_bool(out, "in_block", l->in_block);
        ot_json_out_bool(out, "low_rank", l->low_rank);
        ot_json_out_i64(out, "calls", l->entries);
        ot_json_out_f64(out, "seconds", l->seconds);
        ot_json_out_f64(out, "flops", l->flops);
        ot_json_out_f64(out, "bytes", l->bytes);
        ot_json_out_end(out);
    }
    ot_json_out_end(out);
}

static int slowest_first(const void *a, const void *b) {
    const ot_bench_line *x = a, *y = b;
    return x->seconds < y->seconds ? 1 : x->seconds > y->seconds ? -1 : 0;
}

static ot_status print_profile(const bench_job *job, ot_bench_result *r, ot_error *err) {
    static const ot_column columns[] = {{"operation", OT_LEFT}, {"phase", OT_LEFT},     {"calls", OT_RIGHT}, {"ms", OT_RIGHT},
                                        {"share", OT_RIGHT},    {"GFLOP", OT_RIGHT},    {"MB", OT_RIGHT},    {"GFLOP/s", OT_RIGHT},
                                        {"GB/s", OT_RIGHT},     {"of peak", OT_RIGHT}};
    ot_table t = ot_table_begin(columns, sizeof columns / sizeof *columns);
    double whole = r->plan_seconds + r->optimizer_seconds;
    qsort(r->lines, (size_t)r->n_lines, sizeof *r->lines, slowest_first);
    for (int i = 0; i < r->n_lines; i++) {
        const ot_bench_line *l = &r->lines[i];
        /* The floor is the longer of arithmetic and traffic at what the machine attains. */
        double arithmetic = l->flops / job->peak.flops_per_second, traffic = l->bytes / job->peak.bytes_per_second;
        ot_table_cell(&t, "%s%s", ot_op_info(l->kind)->name, l->low_rank ? " of low rank" : l->in_block ? "" : " outside");
        ot_table_cell(&t, "%s", phases[l->phase]);
        ot_table_cell(&t, "%s", OT_COUNT(l->entries));
        ot_table_cell(&t, "%.2f", l->seconds * 1e3);
        ot_table_cell(&t, "%.1f %%", 100 * l->seconds / whole);
        ot_table_cell(&t, "%.2f", l->flops / 1e9);
        ot_table_cell(&t, "%.1f", l->bytes / 1e6);
        ot_table_cell(&t, "%.1f", l->flops / 1e9 / l->seconds);
        ot_table_cell(&t, "%.1f", l->bytes / 1e9 / l->seconds);
        ot_table_cell(&t, "%.0f %%", 100 * (arithmetic > traffic ? arithmetic : traffic) / l->seconds);
    }
    OT_TRY(ot_table_print(&t, stdout, err));
    printf("optimizer %.2f ms (%.1f %%)\n", r->optimizer_seconds * 1e3, 100 * r->optimizer_seconds / whole);
    if (r->low_rank_seconds > 0) {
        printf("blocks %.2f ms, of which products of a rank up to %d take %.2f ms (%.1f %%)\n", r->block_seconds * 1e3, OT_BENCH_LOW_RANK,
               r->low_rank_seconds * 1e3, 100 * r->low_rank_seconds / r->block_seconds);
    }
    printf("this machine attains %.0f GFLOP/s and %.1f GB/s through the backend %s\n", job->peak.flops_per_second / 1e9,
           job->peak.bytes_per_second / 1e9, job->options.backend->name);
    return OT_OK;
}

/* Tuned blocks at either end: the paper's 2 of language models and 4 of vision towers. */
static int64_t outer(const ot_desc *d) { return d->vision ? 4 : 2; }

static ot_status measure(bench_job *job, ot_model *m, ot_bench_result *r, ot_error *err) {
    ot_trainables t = {0};
    ot_peft peft = {0};
    int64_t layers = m->desc.layers;
    bool *tuned = calloc((size_t)layers, sizeof *tuned);
    if (tuned == NULL) return ot_fail_memory(err, (uint64_t)layers, "a block table");
    for (int64_t b = 0; b < layers; b++) tuned[b] = !job->offsite || b < outer(&m->desc) || b >= layers - outer(&m->desc);
    job->layers = layers;
    job->pictures = m->desc.vision;
    if (job->pictures) job->options.sequence = ot_desc_image_rows(&m->desc, m->desc.image_height, m->desc.image_width);
    ot_status status = OT_OK;
    if (!job->options.forward_only) status = ot_peft_begin(&peft, job->peft, m, tuned, 0, &t, err);
    if (status == OT_OK && !job->options.forward_only) status = ot_peft_declare_head(m, 10.0, &t, err);
    job->options.hooks = job->options.forward_only ? NULL : ot_peft_hooks(&peft);
    job->options.optimizer = &job->optimizer;
    job->trained = t.count;
    if (status == OT_OK && job->options.profile) status = ot_bench_measure_peak(job->options.backend, job->options.compute, &job->peak, err);
    if (status == OT_OK) status = ot_bench_run(m, &t, &job->options, r, err);
    ot_trainables_free(&t);
    ot_peft_end(&peft);
    free(tuned);
    return status;
}

static ot_status print(const bench_job *job, ot_bench_result *r, ot_error *err) {
    if (ot_args_flag(job->args, "json")) {
        ot_json_out out = ot_json_out_open(stdout);
        print_json(job, r, &out);
        return ot_json_out_close(&out, err);
    }
    char bytes[32], planned[32];
    if (job->pictures) printf("%.2f pictures/s, ", r->sequences_per_second);
    printf("%.1f tokens/s: %.1f ms a step (median of %" PRId64 ", best %.1f), %s, planned %s, peak %s\n", r->tokens_per_second,
           r->seconds * 1e3, job->options.steps, r->seconds_best * 1e3, OT_COUNT_OF(job->trained, "trained value"), ot_text_bytes(r->planned_bytes, planned, sizeof planned),
           ot_text_bytes(ot_memory_peak(), bytes, sizeof bytes));
    return job->options.profile ? print_profile(job, r, err) : OT_OK;
}

/* Random weights of a size, or a file's, and the steps. */
static ot_status run_way(bench_job *job, ot_bench_result *r, ot_error *err) {
    const ot_args *args = job->args;
    const char *path = ot_args_operand(args, "MODEL");
    ot_model *m = NULL;
    if (path != NULL) {
        OT_TRY(ot_model_open(path, OT_F32, &m, err));
    } else {
        int64_t layers = 0;
        if (job->offsite) {
            /* The outer blocks, and as many of the middle as the PyTorch yardstick keeps. */
            bool vision = strncmp(ot_args_str(args, "size"), "vit", 3) == 0;
            OT_TRY(ot_model_size_layers(ot_args_str(args, "size"), &layers, err));
            int64_t ends = 2 * outer(&(ot_desc){.vision = vision}), usual = (layers - ends) * 2 / 5;
            job->keep = ot_args_has(args, "keep") ? ot_args_i64(args, "keep") : usual < 2 ? 2 : usual;
            layers = ends + job->keep;
        }
        OT_TRY(ot_model_of_size(ot_args_str(args, "size"), layers, job->options.compute, &m, err));
    }
    ot_status status = measure(job, m, r, err);
    ot_model_close(m);
    return status;
}

/* ==== The table of the ways of tuning. ==== */

static const struct {
    const char *name;
    bool offsite;
    const char *peft;
} ways[] = {
    {"FT", false, "full"},           {"OT", true, "full"},     {"OT + Houlsby", true, "houlsby"}, {"OT + LoRA", true, "lora"},
    {"OT + BitFit", true, "bitfit"}, {"OT + prefix", true, "prefix"}, {"OT + prompt", true, "prompt"},   {"OT + IA3", true, "ia3"},
    {"FT + LoRA", false, "lora"},
};
enum { WAYS = sizeof ways / sizeof *ways };

typedef struct way_result {
    ot_status status;
    char message[256];
    double tokens_per_second, seconds;
    int64_t trained, planned, peak;
} way_result;

static void run_child(bench_job *job, int to) {
    ot_bench_result r = {0};
    ot_error err = {0};
    way_result out = {.status = run_way(job, &r, &err)};
    snprintf(out.message, sizeof out.message, "%.255s", out.status == OT_OK ? "" : err.message);
    out.tokens_per_second = r.tokens_per_second;
    out.seconds = r.seconds;
    out.trained = job->trained;
    out.planned = r.planned_bytes;
    out.peak = ot_memory_peak();
    _exit(write(to, &out, sizeof out) == (ssize_t)sizeof out ? 0 : 1);
}

/* Each way in a process of its own: its peak of memory is its own, and one that does not fit takes nothing with it. This process has no threads yet. */
static ot_status run_apart(bench_job *job, way_result *out, ot_error *err) {
    int ends[2];
    *out = (way_result){.status = OT_ERR_MEMORY, .message = "the process was ended, as it is when memory runs out"};
    if (pipe(ends) != 0) return ot_fail_errno(err, errno, "cannot start a measurement");
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        run_child(job, ends[1]);
    }
    close(ends[1]);
    ssize_t got = pid > 0 ? read(ends[0], out, sizeof *out) : 0;
    close(ends[0]);
    if (pid < 0) return ot_fail_errno(err, errno, "cannot start a measurement");
    waitpid(pid, NULL, 0);
    if (got != (ssize_t)sizeof *out) *out = (way_result){.status = OT_ERR_MEMORY, .message = "the process was ended, as it is when memory runs out"};
    return OT_OK;
}

static const way_result *baseline(const way_result *all) { return all[0].status == OT_OK ? &all[0] : NULL; }

static ot_status print_table(const bench_job *job, const way_result *all, ot_error *err) {
    static const ot_column columns[] = {{"way", OT_LEFT},       {"trained", OT_RIGHT}, {"tokens/s", OT_RIGHT}, {"s a step", OT_RIGHT}, {"x FT", OT_RIGHT},
                                        {"planned", OT_RIGHT}, {"peak", OT_RIGHT},    {"FT / peak", OT_RIGHT}};
    ot_table t = ot_table_begin(columns, sizeof columns / sizeof *columns);
    const way_result *ft = baseline(all);
    for (int i = 0; i < WAYS; i++) {
        const way_result *r = &all[i];
        char planned[32], peak[32];
        bool ok = r->status == OT_OK;
        ot_table_cell(&t, "%s", ways[i].name);
        ot_table_cell(&t, "%s", OT_COUNT(r->trained));
        ot_table_cell(&t, ok ? "%.1f" : "-", r->tokens_per_second);
        ot_table_cell(&t, ok ? "%.2f" : "-", r->seconds);
        ot_table_cell(&t, ok && ft != NULL ? "%.2f" : "-", ok && ft != NULL ? r->tokens_per_second / ft->tokens_per_second : 0);
        ot_table_cell(&t, "%s", r->planned > 0 ? ot_text_bytes(r->planned, planned, sizeof planned) : "-");
        ot_table_cell(&t, "%s", ok ? ot_text_bytes(r->peak, peak, sizeof peak) : "-");
        ot_table_cell(&t, ok && ft != NULL ? "%.2f" : "-", ok && ft != NULL ? (double)ft->peak / (double)r->peak : 0);
    }
    OT_TRY(ot_table_print(&t, stdout, err));
    for (int i = 0; i < WAYS; i++) {
        if (all[i].status != OT_OK) printf("%s: %s\n", ways[i].name, all[i].message);
    }
    printf("%s, %" PRId64 " x %" PRId64 " tokens, %s, %s, %s\n", ot_args_str(job->args, "size"), job->options.batch, job->options.sequence,
           ot_args_str(job->args, "dtype"), job->optimizer.optimizer->spec.name, OT_COUNT_OF(ot_threads(), "thread"));
    return OT_OK;
}

static ot_status print_table_json(const bench_job *job, const way_result *all, ot_error *err) {
    ot_json_out out = ot_json_out_open(stdout);
    ot_json_out_object(&out, NULL);
    ot_json_out_str(&out, "model", ot_args_str(job->args, "size"));
    ot_json_out_str(&out, "dtype", ot_args_str(job->args, "dtype"));
    ot_json_out_str(&out, "optimizer", job->optimizer.optimizer->spec.name);
    ot_json_out_bool(&out, "recompute", job->options.recompute);
    ot_json_out_i64(&out, "batch", job->options.batch);
    ot_json_out_i64(&out, "seq", job->options.sequence);
    ot_json_out_i64(&out, "threads", ot_threads());
    ot_json_out_array(&out, "ways");
    for (int i = 0; i < WAYS; i++) {
        const way_result *r = &all[i], *ft = baseline(all);
        bool ok = r->status == OT_OK;
        ot_json_out_object(&out, NULL);
        ot_json_out_str(&out, "way", ways[i].name);
        ot_json_out_str(&out, "peft", ways[i].peft);
        ot_json_out_i64(&out, "trained_values", r->trained);
        ot_json_out_i64(&out, "planned_bytes", r->planned);
        ot_json_out_str(&out, "failed", ok ? NULL : r->message);
        if (ok) {
            ot_json_out_f64(&out, "tokens_per_s", r->tokens_per_second);
            ot_json_out_f64(&out, "step_s", r->seconds);
            ot_json_out_i64(&out, "peak_rss_bytes", r->peak);
        }
        if (ok && ft != NULL) {
            ot_json_out_f64(&out, "speed_to_ft", r->tokens_per_second / ft->tokens_per_second);
            ot_json_out_f64(&out, "memory_to_ft", (double)ft->peak / (double)r->peak);
        }
        ot_json_out_end(&out);
    }
    return ot_json_out_close(&out, err);
}

static ot_status run_table(bench_job *job, ot_error *err) {
    way_result all[WAYS];
    int failed = 0;
    for (int i = 0; i < WAYS; i++) {
        job->offsite = ways[i].offsite;
        job->peft = ways[i].peft;
        job->options.room = ot_memory_room();
        ot_note(job->args, "%d of %d, %s", i + 1, (int)WAYS, ways[i].name);
        OT_TRY(run_apart(job, &all[i], err));
        char peak[32];
        if (all[i].status == OT_OK) ot_note(job->args, "  %.1f tokens/s, peak %s", all[i].tokens_per_second, ot_text_bytes(all[i].peak, peak, sizeof peak));
        else ot_note(job->args, "  %s", all[i].message);
        /* What stops full tuning, unless it is want of memory, stops all of them; what stops a method is its own. */
        if (i == 0 && all[i].status != OT_OK && all[i].status != OT_ERR_MEMORY) return ot_fail(err, all[i].status, "%s", all[i].message);
        failed += all[i].status != OT_OK;
    }
    OT_TRY(ot_args_flag(job->args, "json") ? print_table_json(job, all, err) : print_table(job, all, err));
    return failed < WAYS ? OT_OK : ot_fail(err, OT_ERR_MEMORY, "no way of tuning could be measured; the last: %s", all[WAYS - 1].message);
}

/* ==== The verb. ==== */

static ot_status run(const ot_args *args, ot_error *err) {
    bench_job job = {.args = args,
                     .options = {.batch = ot_args_i64(args, "batch"),
                                 .sequence = ot_args_i64(args, "seq"),
                                 .steps = ot_args_i64(args, "steps"),
                                 .warm_up = ot_args_i64(args, "warm-up"),
                                 .forward_only = ot_args_flag(args, "forward-only"),
                                 .recompute = ot_args_flag(args, "recompute"),
                                 .profile = ot_args_flag(args, "profile")}};
    const char *mode = ot_args_str(args, "mode");
    bool table = ot_args_flag(args, "table");
    job.offsite = strncmp(mode, "ot", 2) == 0;
    job.peft = ot_args_has(args, "peft") ? ot_args_str(args, "peft") : strstr(mode, "lora") != NULL ? "lora:r=4,alpha=32,dropout=0" : "full";
    if (ot_args_has(args, "peft") && strstr(mode, "lora") != NULL) return ot_args_fail(args, err, "--mode %s names a method already: leave --peft out", mode);
    if (table && (ot_args_operand(args, "MODEL") != NULL || ot_args_has(args, "mode") || ot_args_has(args, "peft") || job.options.forward_only || job.options.profile)) {
        return ot_args_fail(args, err, "--table measures every way of tuning on random weights of --size: it goes without a MODEL, --mode, --peft, --forward-only and --profile");
    }
    OT_TRY(ot_optimizer_parse(ot_args_str(args, "optimizer"), &job.optimizer, err));
    OT_TRY(ot_common_backend(args, &job.options.backend, &job.options.compute, err));
    if (table) return run_table(&job, err);
    ot_bench_result r = {0};
    OT_TRY(run_way(&job, &r, err));
    return print(&job, &r, err);
}

static const ot_option options[] = {
    {.name = "size", .kind = OT_KIND_STRING, .value = "NAME", .fallback = "gpt2-small",
     .help = "random weights of this shape, without a MODEL: gpt2-small, gpt2-medium, gpt2-xl, opt-125m, opt-1.3b, opt-6.7b, smollm2-135m, vit-tiny, vit-base, vit-large"},
    {.name = "mode", .kind = OT_KIND_ENUM, .choices = modes, .fallback = "ft",
     .help = "what is trained: every block (ft), the outer 2 + 2 (of vision towers 4 + 4) against a short middle (ot), or LoRA r=4 on the same blocks (-lora)"},
    {.name = "peft", .kind = OT_KIND_STRING, .value = "METHOD", .shown = "what --mode says", .help = "what is trained in the blocks of --mode ft or ot, see offsite help peft"},
    {.name = "table", .kind = OT_KIND_FLAG, .help = "all ways of tuning side by side, each in a process of its own: full fine-tuning, and offsite-tuning with every method"},
    {.name = "optimizer", .kind = OT_KIND_STRING, .value = "METHOD", .fallback = "adamw", .help = "adamw, adamw8bit or sgd, as for offsite tune"},
    {.name = "keep", .kind = OT_KIND_I64, .min = 1, .max = 100000, .shown = "two fifths of the middle", .help = "middle blocks of the ot modes"},
    {.name = "batch", .kind = OT_KIND_I64, .fallback = "1", .min = 1, .max = 65536, .help = "sequences or pictures a step"},
    {.name = "seq", .kind = OT_KIND_I64, .fallback = "512", .min = 2, .max = 1 << 20, .help = "tokens a sequence; pictures have the model's own"},
    {.name = "steps", .kind = OT_KIND_I64, .fallback = "5", .min = 1, .max = 100000, .help = "measured steps"},
    {.name = "warm-up", .kind = OT_KIND_I64, .fallback = "2", .min = 0, .max = 1000, .help = "steps before those, which are not measured"},
    {.name = "forward-only", .kind = OT_KIND_FLAG, .help = "measure evaluation instead of training"},
    {.name = "profile", .kind = OT_KIND_FLAG, .help = "operation by operation: time, arithmetic, traffic, share of what the machine attains"},
    {0},
};
static const ot_option_group group = {"Benchmark", options};
static const ot_operand operands[] = {{.name = "MODEL", .kind = OT_KIND_PATH, .optional = true, .help = "a model folder or GGUF file instead of --size"}, {0}};
static const ot_example examples[] = {
    {"Full fine-tuning of a GPT-2-small-size model in bf16", "offsite bench --dtype bf16"},
    {"Where the time goes", "offsite bench --mode ot --profile"},
    {"Speed and memory of every way of tuning an OPT-1.3B, against full fine-tuning", "offsite bench --table --size opt-1.3b --steps 1 --warm-up 1"},
    {0},
};

const ot_verb ot_verb_bench = {
    .name = "bench",
    .audience = OT_FOR_ANYONE,
    .summary = "measure the speed of training steps on this machine",
    .about = "Whole steps: forward, backward, clipping, AdamW. In bf16, frozen matrices are stored in bf16 and trained values in f32, as in real runs. "
             "The median of the steps is reported: on a noisy machine compare ratios of runs made side by side.",
    .examples = examples,
    .operands = operands,
    .groups = (const ot_option_group *const[]){&group, &ot_options_memory, &ot_options_compute, &ot_options_json, NULL},
    .run = run,
};
