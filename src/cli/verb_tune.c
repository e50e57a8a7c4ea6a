/* `offsite tune`: the data owner tunes the adapter layers of an offer against its emulator. */
#include <stdlib.h>
#include <string.h>

#include "cli/common_data.h"
#include "cli/common_options.h"
#include "cli/common_training.h"
#include "cli/verbs.h"
#include "protocol/return.h"

static ot_status train(ot_training *t, ot_model *m, const ot_manifest *offer, ot_error *err) {
    OT_TRY(ot_training_prepare(t, m, 100, err));
    bool *tuned = calloc((size_t)m->desc.layers, sizeof *tuned);
    if (tuned == NULL) return ot_fail_memory(err, (uint64_t)m->desc.layers, "a block table");
    for (int64_t b = 0; b < m->desc.layers; b++) tuned[b] = b < offer->bottom || b >= m->desc.layers - offer->top;
    ot_peft peft = {0};
    ot_status status = ot_training_declare(t, tuned, &peft, err);
    if (status == OT_OK) status = ot_training_run(t, err);
    if (status == OT_OK) {
        ot_peft_settle(&peft, &t->trained);
        status = ot_return_write_peft(t->output, offer, &peft, &t->trained, NULL, err);
    }
    if (status == OT_OK) status = ot_training_close(t, err);
    ot_peft_end(&peft);
    free(tuned);
    return status;
}

static ot_status run(const ot_args *args, ot_error *err) {
    const char *path = ot_args_operand(args, "OFFER");
    ot_manifest offer;
    OT_TRY(ot_manifest_read(path, OT_BUNDLE_OFFER, &offer, err));
    if (offer.kind != OT_BUNDLE_OFFER) {
        ot_manifest_free(&offer);
        return ot_fail(err, OT_ERR_USAGE, "%s is no offer: it needs the manifest.json that `offsite split` writes (to tune a whole model: offsite finetune)", path);
    }
    ot_training t = {0};
    ot_model *m = NULL;
    ot_status status = ot_manifest_check_files(&offer, path, err);
    if (status == OT_OK) status = ot_model_open(path, OT_F32, &m, err);
    if (status == OT_OK && m->desc.layers != offer.layers) {
        status = ot_fail(err, OT_ERR_REFUSED, "%s: manifest.json and config.json disagree about the number of layers", path);
    }
    if (status == OT_OK) status = ot_training_open(&t, args, "tune", "manifest.json", err);
    if (status == OT_OK && t.finished_before) {
        ot_note(args, "%s is finished already", t.output);
    } else if (status == OT_OK) {
        status = train(&t, m, &offer, err);
    }
    status = ot_training_end(&t, status, err);
    ot_model_close(m);
    ot_manifest_free(&offer);
    return status;
}

static const ot_option options[] = {
    {.name = "output", .letter = 'o', .kind = OT_KIND_PATH, .use = OT_PATH_REPLACED, .value = "RETURN", .required = true, .transient = true,
     .help = "folder of the return; holds the checkpoint while the run is not finished"},
    {0},
};
static const ot_option_group group = {"Result", options};
static const ot_operand operands[] = {{.name = "OFFER", .kind = OT_KIND_PATH, .help = "the folder that the model owner sent"}, {0}};
static const ot_example examples[] = {
    {"Tune on a text, keep the weights that score best on held-out text", "offsite tune offer --train notes.txt --valid held-out.txt -o return"},
    {"Train LoRA in the adapter layers: the return is a directory that PEFT opens too", "offsite tune offer --train notes.txt --peft lora:r=8,alpha=16 -o return"},
    {"Go on after an interruption", "offsite tune offer --train notes.txt -o return --resume"},
    {0},
};

const ot_verb ot_verb_tune = {
    .name = "tune",
    .audience = OT_FOR_DATA_OWNER,
    .summary = "tune an offer's adapter layers on your data: a return for the model owner",
    .about = "Your data stay here. The return holds the tuned layers and nothing else: no text, no losses, no names of your files. Send the whole folder back.\n\n"
             "Ctrl-C saves a checkpoint after the step at work; the same command with --resume goes on bit for bit. A second one stops at once, "
             "and what came after the last checkpoint is lost.",
    .examples = examples,
    .operands = operands,
    .groups = (const ot_option_group *const[]){&group, &ot_options_training, &ot_options_data, &ot_options_packing,
                                               &ot_options_optimizer, &ot_options_peft, &ot_options_memory,
                                               &ot_options_compute, &ot_options_json, NULL},
    .run = run,
};
