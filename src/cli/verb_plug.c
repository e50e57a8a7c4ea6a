/* `offsite plug`: the owner puts a return's tuned layers into the whole model. */
#include <inttypes.h>
#include <stdio.h>

#include "base/count.h"
#include "cli/common_model.h"
#include "cli/common_options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "protocol/return.h"

enum { MAX_RETURNS = 256 };

/* One weight for each return, or none at all. */
static ot_status read_returns(const ot_args *args, const char *more[MAX_RETURNS], double weights[MAX_RETURNS], ot_plug_options *o, ot_error *err) {
    int64_t n = ot_args_operand_count(args, "RETURN"), n_weights = ot_args_count(args, "weights");
    if (n > MAX_RETURNS) return ot_fail(err, OT_ERR_USAGE, "plug: %" PRId64 " returns are more than %d", n, (int)MAX_RETURNS);
    if (n_weights > 0 && n_weights != n) {
        return ot_fail(err, OT_ERR_USAGE, "plug: --weights: there are %" PRId64 " for %" PRId64 " returns: give one for each", n_weights, n);
    }
    for (int64_t k = 1; k < n; k++) more[k - 1] = ot_args_operand_at(args, "RETURN", k);
    for (int64_t k = 0; k < n_weights; k++) weights[k] = ot_args_f64_at(args, "weights", k);
    o->more = more;
    o->n_more = n - 1;
    o->weights = n_weights > 0 ? weights : NULL;
    return OT_OK;
}

static ot_status run(const ot_args *args, ot_error *err) {
    static const ot_dtype dtypes[] = {OT_F32, OT_BF16, OT_F16};
    int dtype = ot_args_choice(args, "dtype");
    ot_plug_options options = {.ledger = ot_args_str(args, "ledger"),
                               .own_dtype = dtype < 0,
                               .dtype = dtype < 0 ? OT_BF16 : dtypes[dtype],
                               .force = ot_args_flag(args, "force"),
                               .merge = ot_args_flag(args, "merge")};
    const char *output = ot_args_str(args, "output");
    const char *more[MAX_RETURNS];
    double weights[MAX_RETURNS];
    OT_TRY(read_returns(args, more, weights, &options, err));
    ot_model *m = NULL;
    OT_TRY(ot_model_open(ot_args_operand(args, "MODEL"), OT_F32, &m, err));
    ot_plug_summary s;
    ot_status status = ot_plug(m, ot_args_operand(args, "RETURN"), output, &options, &s, err);
    ot_model_close(m);
    OT_TRY(status);
    if (options.merge && !s.merged) ot_note(args, "--merge has no effect: this return holds no LoRA, and its values replace those of the model, which gives a model folder anyway");
    if (ot_args_flag(args, "json")) {
        ot_json_out out = ot_json_out_open(stdout);
        ot_json_out_object(&out, NULL);
        ot_json_out_str(&out, "output", output);
        ot_json_out_i64(&out, "tensors", s.tensors);
        ot_json_out_i64(&out, "values", s.values);
        ot_json_out_bool(&out, "adapter", s.adapter);
        ot_json_out_f64(&out, "largest_change", s.largest_change);
        if (s.merged) ot_json_out_f64(&out, "rounding_error", s.rounding_error);
        return ot_json_out_close(&out, err);
    }
    if (s.adapter) {
        printf("wrote %s (%s values) as an adapter of the whole model to %s\n", OT_COUNT_OF(s.tensors, "tensor"), OT_COUNT(s.values), output);
        return OT_OK;
    }
    if (s.merged) printf("merged in f32; rounding to the dtype that is written moved a weight by at most %.3g\n", s.rounding_error);
    printf("plugged %s (%s values, largest change %.3g) into %s\n", OT_COUNT_OF(s.tensors, "tensor"), OT_COUNT(s.values), s.largest_change, output);
    return OT_OK;
}

static const ot_option options[] = {
    {.name = "output", .letter = 'o', .kind = OT_KIND_PATH, .use = OT_PATH_REPLACED, .value = "DIR", .required = true, .help = "folder of the adapted model or adapter"},
    {.name = "ledger", .kind = OT_KIND_PATH, .value = "OFFER.owner.json",
     .help = "the offer's ledger; without it, *.owner.json beside the return, the model, the output and in the current folder are tried"},
    {.name = "weights", .kind = OT_KIND_F64, .value = "W,...", .min = 0, .max = OT_NO_MAX, .commas = true,
     .help = "of several returns: how much each counts, one number for each; without it all count the same"},
    {.name = "merge", .kind = OT_KIND_FLAG, .help = "add a LoRA or DoRA return into the weights that it lies beside, instead of writing an adapter folder"},
    {.name = "force", .kind = OT_KIND_FLAG, .transient = true, .help = "replace a model of the same name"},
    {0},
};
static const ot_option_group group = {"Plug", options};
static const ot_operand operands[] = {{.name = "MODEL", .kind = OT_KIND_PATH, .help = "the foundation model that the offer was split from"},
                                      {.name = "RETURN", .kind = OT_KIND_PATH, .repeated = true, .help = "what the data owner sent back; several of the same offer are averaged"},
                                      {0}};
static const ot_example examples[] = {{"Plug a return in", "offsite plug gpt2-xl/ return -o adapted"},
                                      {"Merge a LoRA return into the weights", "offsite plug gpt2-xl/ return -o adapted --merge"},
                                      {"Average two returns, the first counting twice", "offsite plug gpt2-xl/ return-a return-b --weights 2,1 -o adapted"},
                                      {0}};

const ot_verb ot_verb_plug = {
    .name = "plug",
    .audience = OT_FOR_OWNER,
    .summary = "put a return's tuned layers into the whole model",
    .about = "Checks the return against its manifest and the ledger before anything is written: another offer, another model, missing, extra, misshapen or "
             "non-finite tensors are refused. Tuned values are rounded to the model's own dtype.\n\nA return of a method that adds tensors (LoRA, DoRA, Houlsby, IA3, prefix, "
             "prompt) becomes an adapter folder in the whole model's numbering, for --adapter and, for LoRA, DoRA, IA3 and prompts, for PEFT; LoRA and DoRA can be merged instead.\n\nSeveral returns of the same offer and method are averaged: parameters that full and bitfit replace by "
             "their weighted mean, LoRA by the weighted sum of the products, for which the ranks add up.",
    .examples = examples,
    .operands = operands,
    .groups = (const ot_option_group *const[]){&group, &ot_options_storage, &ot_options_json, NULL},
    .run = run,
};
