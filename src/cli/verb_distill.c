/* `offsite distill`: the model owner trains an offer's emulator to stand in for the middle it replaces. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/parallel.h"
#include "cli/common_data.h"
#include "cli/common_model.h"
#include "cli/common_options.h"
#include "cli/common_training.h"
#include "cli/text.h"
#include "cli/verbs.h"
#include "eval/self_text.h"
#include "protocol/distill.h"

static json_t *number_or_null(double v) { return isfinite(v) ? json_real(v) : json_null(); }

/* What the ledger notes: nothing of the text, only how the run went. */
static json_t *record(const ot_training *t) {
    const ot_train_result *r = &t->result;
    json_t *j = json_object();
    json_object_set_new(j, "steps", json_integer(r->steps_done));
    json_object_set_new(j, "loss", number_or_null(r->last_loss));
    json_object_set_new(j, "valid_loss", number_or_null(r->best_valid_loss));
    json_object_set_new(j, "best_step", json_integer(r->best_step));
    return j;
}

static ot_status write_result(ot_training *t, const ot_distillation *d, ot_error *err) {
    char step[512];
    const ot_train_options *o = &t->options;
    const ot_teacher *teacher = o->teacher;
    int n = snprintf(step, sizeof step, "distill:steps=%" PRId64 ",lr=%.9g,batch=%" PRId64 ",block=%" PRId64 ",warmup=%" PRId64 ",lm=%.9g,kd=%.9g,seed=%" PRIu64,
                     o->steps, o->lr, o->batch * o->grad_accum, t->train.length, o->warmup, o->lm_weight, teacher->weight, o->seed);
    if (teacher->hidden_weight > 0) n += snprintf(step + n, sizeof step - (size_t)n, ",hidden=%.9g", teacher->hidden_weight);
    if (teacher->kl_weight > 0) snprintf(step + n, sizeof step - (size_t)n, ",kl=%.9g,temperature=%.9g", teacher->kl_weight, teacher->kl_temperature);
    return ot_distillation_write(d, t->output, ot_training_values, t, step, record(t), err);
}

/* --train self:N: the teacher writes what the emulator learns on. */
static ot_status write_own_text(ot_training *t, const ot_distillation *d, ot_error *err) {
    static const char own[] = "self:";
    const char *text = ot_args_str_at(t->args, "train", 0);
    if (text == NULL || strncmp(text, own, sizeof own - 1) != 0) return OT_OK;
    if (d->teacher->desc.vision) return ot_args_fail(t->args, err, "--train %s: %s reads pictures and writes no text", text, d->teacher->path);
    ot_self_text_options o = {.block = ot_args_i64(t->args, "block"),
                              .temperature = ot_args_f64(t->args, "temperature"),
                              .seed = (uint64_t)ot_args_i64(t->args, "seed")};
    const char *digits = text + sizeof own - 1;
    if (ot_args_count(t->args, "train") > 1) return ot_args_fail(t->args, err, "--train self:N stands alone, without other files");
    for (; *digits >= '0' && *digits <= '9' && o.tokens < INT64_MAX / 16; digits++) o.tokens = o.tokens * 10 + (*digits - '0');
    if (*digits != '\0' || o.tokens == 0) return ot_args_fail(t->args, err, "--train %s: self: needs a number of tokens, as in self:100000", text);
    OT_TRY(ot_common_backend(t->args, &o.backend, &o.compute, err));
    ot_note(t->args, "distill: %s writes %s to learn on (temperature %g, seed %" PRIu64 ")", d->teacher->path, OT_COUNT_OF(o.tokens, "token"), o.temperature,
            o.seed);
    double start = ot_seconds();
    OT_TRY(ot_self_text(d->teacher, &o, &t->train, err));
    ot_note(t->args, "distill: %s of %s tokens in %.1f seconds", OT_COUNT_OF(t->train.rows, "row"), OT_COUNT(t->train.length), ot_seconds() - start);
    return OT_OK;
}

static ot_status teacher_arithmetic(const ot_training *t, ot_teacher *teacher, ot_error *err) {
    teacher->bf16 = ot_args_has(t->args, "teacher-dtype") && ot_args_choice(t->args, "teacher-dtype") == 1;
    bool narrower = ot_args_has(t->args, "teacher-dtype") && !teacher->bf16 && t->options.compute == OT_BF16;
    if (narrower) return ot_args_fail(t->args, err, "--teacher-dtype f32 is more than the student's --dtype bf16: give f32 for both");
    if (!teacher->bf16 || t->options.backend->supports(OT_BF16)) return OT_OK;
    return ot_args_fail(t->args, err, "--teacher-dtype bf16: the backend %s has no such arithmetic", t->options.backend->name);
}

static ot_status train(ot_training *t, ot_distillation *d, ot_teacher *teacher, ot_error *err) {
    OT_TRY(write_own_text(t, d, err));
    OT_TRY(ot_training_prepare(t, d->student, 2000, err));
    ot_distillation_teacher(d, teacher);
    ot_training_weights(t->args, d->student, &t->options.lm_weight, &teacher->weight);
    teacher->hidden_weight = ot_args_f64(t->args, "hidden-weight");
    teacher->kl_weight = ot_args_f64(t->args, "kl-weight");
    teacher->kl_temperature = ot_args_f64(t->args, "kl-temperature");
    OT_TRY(teacher_arithmetic(t, teacher, err));
    t->options.teacher = teacher;
    t->options.teacher_caching = (ot_teacher_caching)ot_args_choice(t->args, "teacher-cache");
    t->options.teacher_cache_path = t->teacher_cache;
    if (!(teacher->weight > 0 || teacher->hidden_weight > 0 || teacher->kl_weight > 0)) {
        return ot_args_fail(t->args, err, "--kd-weight: must be above 0, or --hidden-weight or --kl-weight: without any of them there is no teacher");
    }
    for (int64_t i = 0; i < d->student->n_params; i++) {
        ot_param *p = &d->student->params[i];
        if (ot_distillation_trains(d, p)) OT_TRY(ot_trainables_add_param(&t->trained, p, err));
    }
    char bytes[32];
    ot_note(t->args, "distill: %s to stand in for %" PRId64 " of %s (%s, forward only)", OT_COUNT_AS(teacher->end_item - teacher->first_item, "block learns", "blocks learn"),
            teacher->end_block - teacher->first_block, d->teacher->path, ot_text_bytes(ot_model_stored_bytes(d->teacher), bytes, sizeof bytes));
    OT_TRY(ot_training_run(t, err));
    OT_TRY(write_result(t, d, err));
    return ot_training_close(t, err);
}

ot_status ot_distill_run(const ot_args *args, bool silent, ot_error *err) {
    ot_training t = {0};
    ot_distillation d = {0};
    ot_teacher teacher = {0};
    ot_status status = ot_training_open(&t, args, "distill", "manifest.json", err);
    t.silent = silent;
    if (status == OT_OK && t.finished_before) {
        ot_note(args, "%s is finished already", t.output);
    } else if (status == OT_OK) {
        status = ot_distillation_open(ot_args_operand(args, "OFFER"), ot_args_str(args, "teacher"), ot_args_str(args, "ledger"), &d, err);
        if (status == OT_OK) status = train(&t, &d, &teacher, err);
    }
    status = ot_training_end(&t, status, err);
    ot_distillation_close(&d);
    return status;
}

static ot_status run(const ot_args *args, ot_error *err) { return ot_distill_run(args, false, err); }

static const char *const precisions[] = {"f32", "bf16", NULL};
static const char *const caching[] = {"auto", "yes", "no", NULL}; /* as ot_teacher_caching */

static const ot_option options[] = {
    {.name = "output", .letter = 'o', .kind = OT_KIND_PATH, .use = OT_PATH_REPLACED, .value = "OFFER2", .required = true, .transient = true,
     .help = "folder of the distilled offer; its ledger becomes OFFER2.owner.json; holds the checkpoint while the run is not finished"},
    {.name = "teacher", .kind = OT_KIND_PATH, .value = "MODEL", .required = true, .help = "the whole model that the offer was split from"},
    {.name = "teacher-dtype", .kind = OT_KIND_ENUM, .choices = precisions, .shown = "--dtype",
     .help = "arithmetic of the teacher's blocks: bf16 is enough for what is learnt from, and faster; the student's stays --dtype"},
    {.name = "ledger", .kind = OT_KIND_PATH, .value = "FILE", .shown = "*.owner.json beside the offer or the teacher, by offer id",
     .help = "the offer's ledger"},
    {.name = "temperature", .kind = OT_KIND_F64, .fallback = "1", .min = 0, .max = 100,
     .help = "of the text that the teacher writes for --train self:N"},
    {.name = "lm-weight", .kind = OT_KIND_F64, .fallback = "1", .min = 0, .max = OT_NO_MAX, .shown = "1; of pictures 0",
     .help = "weight of the language-model loss through the emulator; 0 leaves out everything above the emulator"},
    {.name = "kd-weight", .kind = OT_KIND_F64, .fallback = "30", .min = 0, .max = OT_NO_MAX, .shown = "30; of pictures 1",
     .help = "weight of the distance from the teacher, mean(((T - S) / rms(T))^2)"},
    {.name = "hidden-weight", .kind = OT_KIND_F64, .fallback = "0", .min = 0, .max = OT_NO_MAX,
     .help = "weight of the mean distance after the emulator's other blocks, each from the teacher's block before the next one that was kept"},
    {.name = "kl-weight", .kind = OT_KIND_F64, .fallback = "0", .min = 0, .max = OT_NO_MAX,
     .help = "weight of the divergence of the next-token distribution from the teacher's, T^2 KL(teacher || student)"},
    {.name = "kl-temperature", .kind = OT_KIND_F64, .fallback = "1", .min = 0.01, .max = 100, .help = "T: logits of both are divided by it"},
    {.name = "teacher-cache", .kind = OT_KIND_ENUM, .choices = caching, .fallback = "auto", .adjustable = true,
     .help = "keep the teacher's hidden states in OFFER2/teacher.cache while the run lasts: auto where several epochs pass over the same rows and reading is cheaper"},
    {0},
};
static const ot_option_group group = {"Distillation", options};
static const ot_operand operands[] = {{.name = "OFFER", .kind = OT_KIND_PATH, .help = "an offer that you made with `offsite split`"}, {0}};
static const ot_example examples[] = {
    {"Distil on a text, keep the emulator with the best held-out perplexity",
     "offsite distill offer --teacher gpt2-xl/ --train pile.txt --valid held-out.txt --steps 20000 -o offer2"},
    {"Without a text: the teacher writes 200,000 tokens itself", "offsite distill offer --teacher gpt2-xl/ --train self:200000 --steps 2000 -o offer2"},
    {"Go on after an interruption", "offsite distill offer --teacher gpt2-xl/ --train pile.txt --steps 20000 -o offer2 --resume"},
    {"Distil a vision tower on pictures without labels", "offsite distill offer --teacher vit/ --train pictures.safetensors --steps 2000 -o offer2"},
    {0},
};

const ot_verb ot_verb_distill = {
    .name = "distill",
    .audience = OT_FOR_OWNER,
    .summary = "train an offer's emulator to stand in for the middle it replaces: a better offer",
    .about = "The emulator learns on any text to give what the whole middle gives for the same hidden states: the loss is the language-model loss "
             "through the emulator plus 30 times the distance between the two outputs. Of a vision tower the "
             "distance alone counts, and its pictures need no labels. Only the emulator's blocks change; adapter layers, embeddings "
             "and head stay as they are. The teacher's blocks run forward only, in the same arithmetic, without gradients.\n\n"
             "OFFER2 is an offer of its own, with its own id and ledger: returns for it are plugged in as ever, by its ledger OFFER2.owner.json.\n\n"
             "Ctrl-C saves a checkpoint after the step at work; the same command with --resume goes on bit for bit. A second one stops at once, "
             "and what came after the last checkpoint is lost.",
    .examples = examples,
    .operands = operands,
    .groups = (const ot_option_group *const[]){&group, &ot_options_training, &ot_options_data, &ot_options_packing,
                                               &ot_options_optimizer, &ot_options_memory, &ot_options_compute,
                                               &ot_options_json, NULL},
    .overrides = (const ot_override[]){{.name = "weight-decay", .fallback = "0.1"},
                                       {.name = "warmup", .shown = "2000, or a tenth of the steps of shorter runs"},
                                       {.name = "train", .help = "data to learn on, as for tune; self:N: N tokens that the teacher writes, the same again for --resume"},
                                       {.name = "valid", .help = "held-out data: the emulator with the best loss on it is kept"},
                                       {0}},
    .run = run,
};
