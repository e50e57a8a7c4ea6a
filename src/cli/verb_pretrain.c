/* `offsite pretrain`: a model from nothing but a configuration and a text. */
#include <string.h>

#include "cli/common_data.h"
#include "cli/common_options.h"
#include "cli/common_training.h"
#include "cli/verbs.h"
#include "model/save.h"

/* The dtype that the configuration names, F32 without one. */
static ot_status config_dtype(const ot_model *m, ot_dtype *dtype, ot_error *err) {
    const char *name = json_string_value(json_object_get(m->config, "dtype"));
    if (name == NULL) name = json_string_value(json_object_get(m->config, "torch_dtype"));
    *dtype = OT_F32;
    if (name != NULL && (!ot_dtype_from_user(name, dtype) || *dtype == OT_F64)) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: weights cannot be written as \"%s\": use float32, bfloat16 or float16", m->path, name);
    }
    return OT_OK;
}

static ot_status train(const ot_args *args, ot_training *t, ot_model *m, ot_error *err) {
    ot_save_options save = {.values = ot_training_values, .context = t};
    OT_TRY(config_dtype(m, &save.dtype, err));
    OT_TRY(ot_training_prepare(t, m, 100, err));
    OT_TRY(ot_model_initialise(m, (uint64_t)ot_args_i64(args, "seed"), OT_F32, err));
    for (int64_t i = 0; i < m->n_params; i++) OT_TRY(ot_trainables_add_param(&t->trained, &m->params[i], err));
    OT_TRY(ot_training_run(t, err));
    OT_TRY(ot_model_save(m, t->output, &save, err));
    return ot_training_close(t, err);
}

static ot_status run(const ot_args *args, ot_error *err) {
    ot_training t = {0};
    ot_model *m = NULL;
    ot_status status = ot_model_from_config(ot_args_operand(args, "CONFIG"), &m, err);
    if (status == OT_OK) status = ot_training_open(&t, args, "pretrain", "config.json", err);
    if (status == OT_OK && t.finished_before) {
        ot_note(args, "%s is finished already", t.output);
    } else if (status == OT_OK) {
        status = train(args, &t, m, err);
    }
    status = ot_training_end(&t, status, err);
    ot_model_close(m);
    return status;
}

static const ot_option options[] = {
    {.name = "output", .letter = 'o', .kind = OT_KIND_PATH, .use = OT_PATH_REPLACED, .value = "DIR", .required = true, .transient = true,
     .help = "folder of the model; holds the checkpoint while the run is not finished"},
    {0},
};
static const ot_option_group group = {"Result", options};
static const ot_operand operands[] = {
    {.name = "CONFIG", .kind = OT_KIND_PATH, .help = "a config.json, or a folder with one; tokenizer files beside it are used and copied"}, {0}};
static const ot_example examples[] = {
    {"A small Llama on a text", "offsite pretrain small-llama/ --train corpus.txt --steps 3000 --batch 8 --block 256 --lr 1e-3 -o model"},
    {0},
};

const ot_verb ot_verb_pretrain = {
    .name = "pretrain",
    .audience = OT_FOR_OWNER,
    .summary = "train a new model from a configuration and a text",
    .about = "Every parameter is trained, from random values that depend on the seed alone. The result is a Hugging Face model folder in the "
             "configuration's dtype.",
    .examples = examples,
    .operands = operands,
    .groups = (const ot_option_group *const[]){&group, &ot_options_training, &ot_options_data, &ot_options_packing,
                                               &ot_options_optimizer, &ot_options_memory, &ot_options_compute,
                                               &ot_options_json, NULL},
    .run = run,
};
