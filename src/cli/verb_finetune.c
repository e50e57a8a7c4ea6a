/* `offsite finetune`: the baseline, every block of a whole model tuned on the data. */
#include <stdlib.h>
#include <string.h>

#include "cli/common_data.h"
#include "cli/common_options.h"
#include "cli/common_training.h"
#include "cli/verbs.h"
#include "model/save.h"
#include "protocol/manifest.h"
#include "protocol/peft_files.h"

static ot_status write_result(ot_training *t, ot_model *m, ot_peft *peft, ot_error *err) {
    ot_save_options save = {.own_dtype = true, .dtype = OT_BF16, .values = ot_training_values, .context = t};
    ot_peft_settle(peft, &t->trained);
    if (ot_peft_is(&peft->choice, "full")) return ot_model_save(m, t->output, &save, err);
    return ot_peft_files_write(t->output, peft, &t->trained, ot_peft_form_of(peft), NULL, err);
}

static ot_status train(ot_training *t, ot_model *m, ot_error *err) {
    OT_TRY(ot_training_prepare(t, m, 100, err));
    bool *tuned = calloc((size_t)m->desc.layers, sizeof *tuned);
    if (tuned == NULL) return ot_fail_memory(err, (uint64_t)m->desc.layers, "a block table");
    memset(tuned, 1, (size_t)m->desc.layers);
    ot_peft peft = {0};
    ot_status status = ot_training_declare(t, tuned, &peft, err);
    if (status == OT_OK) status = ot_training_run(t, err);
    if (status == OT_OK) status = write_result(t, m, &peft, err);
    if (status == OT_OK) status = ot_training_close(t, err);
    ot_peft_end(&peft);
    free(tuned);
    return status;
}

static ot_status run(const ot_args *args, ot_error *err) {
    ot_training t = {0};
    ot_model *m = NULL;
    ot_peft_choice choice;
    OT_TRY(ot_peft_parse(ot_args_str(args, "peft"), &choice, err));
    bool adapter = !ot_peft_is(&choice, "full");
    OT_TRY(ot_offer_check_files(ot_args_operand(args, "MODEL"), err));
    ot_status status = ot_model_open(ot_args_operand(args, "MODEL"), OT_F32, &m, err);
    if (status == OT_OK) status = ot_training_open(&t, args, "finetune", adapter ? "adapter_config.json" : "config.json", err);
    if (status == OT_OK && t.finished_before) {
        ot_note(args, "%s is finished already", t.output);
    } else if (status == OT_OK) {
        status = train(&t, m, err);
    }
    status = ot_training_end(&t, status, err);
    ot_model_close(m);
    return status;
}

static const ot_option options[] = {
    {.name = "output", .letter = 'o', .kind = OT_KIND_PATH, .use = OT_PATH_REPLACED, .value = "DIR", .required = true, .transient = true,
     .help = "folder of the tuned model or adapter; holds the checkpoint while the run is not finished"},
    {0},
};
static const ot_option_group group = {"Result", options};
static const ot_operand operands[] = {{.name = "MODEL", .kind = OT_KIND_PATH, .help = "a Hugging Face model folder or a GGUF file"}, {0}};
static const ot_example examples[] = {{"Tune all blocks for 500 steps", "offsite finetune gpt2/ --train notes.txt --steps 500 -o tuned"}, {0}};

const ot_verb ot_verb_finetune = {
    .name = "finetune",
    .audience = OT_FOR_ANYONE,
    .summary = "tune every block of a whole model: the baseline that offsite-tuning is measured against",
    .about = "Trains all blocks; embeddings, final norm and head stay as they are. The result is a Hugging Face model folder in the model's own dtype; "
             "with --peft, an adapter folder for --adapter and, for LoRA and prefixes, for PEFT.",
    .examples = examples,
    .operands = operands,
    .groups = (const ot_option_group *const[]){&group, &ot_options_training, &ot_options_data, &ot_options_packing,
                                               &ot_options_optimizer, &ot_options_peft, &ot_options_memory,
                                               &ot_options_compute, &ot_options_json, NULL},
    .run = run,
};
