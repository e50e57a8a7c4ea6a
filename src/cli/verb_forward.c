/* `offsite forward`: one forward and backward over given ids, every number written out. */
#include <stdio.h>

#include "base/count.h"
#include "cli/common_model.h"
#include "cli/common_options.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "eval/forward.h"

static ot_status run(const ot_args *args, ot_error *err) {
    ot_forward_options options = {.hidden = ot_args_flag(args, "hidden"), .grad = ot_args_flag(args, "grad")};
    OT_TRY(ot_common_backend(args, &options.backend, &options.compute, err));
    ot_common_model c = {0};
    OT_TRY(ot_common_open(args, &c, err));
    options.hooks = c.hooks;
    ot_forward_summary s = {0};
    ot_status status = ot_forward_file(c.model, ot_args_str(args, "input"), ot_args_str(args, "output"), &options, &s, err);
    ot_common_close(&c);
    OT_TRY(status);
    if (ot_args_flag(args, "json")) {
        ot_json_out out = ot_json_out_open(stdout);
        ot_json_out_object(&out, NULL);
        if (s.has_loss) ot_json_out_f64(&out, "loss", s.loss);
        ot_json_out_i64(&out, "tokens", s.tokens);
        ot_json_out_i64(&out, "targets", s.targets);
        ot_json_out_str(&out, "output", ot_args_str(args, "output"));
        return ot_json_out_close(&out, err);
    }
    if (s.has_loss) printf("loss %.6f over %s\n", s.loss, OT_COUNT_OF(s.targets, "target"));
    printf("wrote %s\n", ot_args_str(args, "output"));
    return OT_OK;
}

static const ot_option options[] = {
    {.name = "input", .letter = 'i', .kind = OT_KIND_PATH, .value = "IN.safetensors", .required = true,
     .help = "input_ids [B, T] int64, and optionally attention_mask and labels of the same shape; images: pixel_values [B, C, H, W] and labels [B]"},
    {.name = "output", .letter = 'o', .kind = OT_KIND_PATH, .use = OT_PATH_REPLACED, .value = "OUT.safetensors", .required = true, .help = "where the results go"},
    {.name = "hidden", .kind = OT_KIND_FLAG, .help = "write the input of every block and the output of the last"},
    {.name = "grad", .kind = OT_KIND_FLAG, .help = "write the gradient of the loss for every parameter; needs labels"},
    {0},
};
static const ot_option_group group = {"Forward", options};
static const ot_operand operands[] = {{.name = "MODEL", .kind = OT_KIND_PATH, .help = "a Hugging Face model folder, an offer or a GGUF file"}, {0}};
static const ot_example examples[] = {
    {"Logits and loss of a batch", "offsite forward gpt2/ --input batch.safetensors -o out.safetensors"},
    {"Everything, for a comparison with another implementation", "offsite forward gpt2/ --input batch.safetensors -o out.safetensors --hidden --grad"},
    {0},
};

const ot_verb ot_verb_forward = {
    .name = "forward",
    .audience = OT_FOR_ANYONE,
    .summary = "run a model once over given token ids and write logits, loss, hidden states, gradients",
    .about = "Labels are not shifted: position t predicts label t + 1, as in transformers, and -100 is ignored. The loss is the mean over all "
             "counted labels. Masked positions are never attended to, and their rows of the output are zero.\n\n"
             "Gradients are written as grad.NAME with the names and layouts of the model's own file, one summed entry for tied weights.",
    .examples = examples,
    .operands = operands,
    .groups = (const ot_option_group *const[]){&group, &ot_options_adapter, &ot_options_compute, &ot_options_json, NULL},
    .run = run,
};
