/* `offsite eval`: how well a model, an offer or an adapted model predicts a text. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "cli/common_model.h"
#include "cli/common_options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "eval/perplexity.h"

static void observe(void *context, int64_t done, int64_t total, double loss) {
    (void)total;
    ot_progress_sample s = OT_PROGRESS_SAMPLE;
    s.step = done;
    s.loss = loss;
    ot_progress_step(context, &s);
}

static ot_status print(const ot_args *args, const ot_perplexity *p, ot_error *err) {
    bool per_block = ot_args_flag(args, "per-block");
    if (ot_args_flag(args, "json")) {
        ot_json_out out = ot_json_out_open(stdout);
        ot_json_out_object(&out, NULL);
        ot_json_out_f64(&out, "perplexity", p->perplexity);
        ot_json_out_f64(&out, "loss", p->loss);
        ot_json_out_i64(&out, "blocks", p->blocks);
        ot_json_out_i64(&out, "tokens", p->tokens);
        if (per_block) {
            ot_json_out_array(&out, "per_block");
            for (int64_t i = 0; i < p->blocks; i++) ot_json_out_f64(&out, NULL, p->per_block[i]);
        }
        return ot_json_out_close(&out, err);
    }
    printf("perplexity %.4f (loss %.6f over %" PRId64 " blocks, %" PRId64 " tokens)\n", p->perplexity, p->loss, p->blocks, p->tokens);
    for (int64_t i = 0; per_block && i < p->blocks; i++) printf("%6" PRId64 "  %.6f\n", i, p->per_block[i]);
    return OT_OK;
}

static ot_status evaluate(const ot_args *args, const ot_common_model *c, ot_error *err) {
    const ot_model *m = c->model;
    ot_dataset data = {0};
    ot_perplexity p = {0};
    ot_progress progress;
    ot_perplexity_options options = {.hooks = c->hooks, .observe = observe, .context = &progress};
    OT_TRY(ot_common_backend(args, &options.backend, &options.compute, err));
    OT_TRY(ot_dataset_open(ot_args_str(args, "blocks"), m->path, ot_args_i64(args, "block"), m->desc.vocab_size,
                           ot_args_has(args, "limit") ? ot_args_i64(args, "limit") : 0, &data, err));
    ot_progress_begin(&progress, args, "eval", "block", data.rows, 0);
    ot_status status = ot_perplexity_run(m, &data, &options, &p, err);
    ot_progress_end(&progress);
    if (status == OT_OK) status = print(args, &p, err);
    ot_free(p.per_block);
    ot_dataset_free(&data);
    return status;
}

static ot_status run(const ot_args *args, ot_error *err) {
    ot_common_model c = {0};
    OT_TRY(ot_common_open(args, &c, err));
    ot_status status = evaluate(args, &c, err);
    ot_common_close(&c);
    return status;
}

static const ot_option options[] = {
    {.name = "blocks", .kind = OT_KIND_PATH, .value = "FILE", .required = true, .help = "text, or .safetensors with input_ids [N, T]"},
    {.name = "block", .kind = OT_KIND_I64, .fallback = "512", .min = 2, .max = OT_NO_MAX, .help = "tokens in a block cut from text; the remainder is dropped"},
    {.name = "limit", .kind = OT_KIND_I64, .min = 1, .max = OT_NO_MAX, .shown = "all", .help = "blocks to score, from the first"},
    {.name = "per-block", .kind = OT_KIND_FLAG, .help = "print the loss of every block too"},
    {0},
};
static const ot_option_group group = {"Data", options};
static const ot_operand operands[] = {{.name = "MODEL", .kind = OT_KIND_PATH, .help = "a Hugging Face model folder, an offer or a GGUF file"}, {0}};
static const ot_example examples[] = {
    {"Perplexity of a model and of its emulator", "offsite eval gpt2/ --blocks test.txt; offsite eval offer --blocks test.txt"},
    {0},
};

const ot_verb ot_verb_eval = {
    .name = "eval",
    .audience = OT_FOR_ANYONE,
    .summary = "measure perplexity over blocks of a text",
    .about = "The text is tokenised whole without special tokens and cut into blocks that do not overlap. The loss of a block is the mean over its block - 1 "
             "predictions, perplexity the exponential of the mean over blocks: the measure of the paper.",
    .examples = examples,
    .operands = operands,
    .groups = (const ot_option_group *const[]){&group, &ot_options_adapter, &ot_options_compute, &ot_options_json, NULL},
    .run = run,
};
