#include "cli/training_memory.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/room.h"
#include "cli/text.h"
#include "eval/inspect.h"

int64_t ot_training_planned(const ot_training *t) { return ot_train_memory_sum(&t->memory); }

/* ==== What would help. Each changes the options, or returns false where it is no use; what it says goes into the advice. ==== */

static bool with_recompute(const ot_training *t, ot_train_options *o, char *text, size_t size) {
    (void)t;
    if (o->recompute) return false;
    o->recompute = true;
    snprintf(text, size, "--recompute");
    return true;
}

static bool with_batch_1(const ot_training *t, ot_train_options *o, char *text, size_t size) {
    (void)t;
    if (o->batch == 1) return false;
    o->grad_accum *= o->batch;
    o->batch = 1;
    snprintf(text, size, "--batch 1 --grad-accum %" PRId64, o->grad_accum);
    return true;
}

static bool with_small_moments(const ot_training *t, ot_train_options *o, char *text, size_t size) {
    ot_error ignored;
    if (strcmp(o->optimizer.optimizer->spec.name, "adamw") != 0 || t->trained.count < 1000000) return false;
    snprintf(text, size, "--optimizer adamw8bit");
    return ot_optimizer_parse("adamw8bit", &o->optimizer, &ignored) == OT_OK;
}

static bool with_bf16(const ot_training *t, ot_train_options *o, char *text, size_t size) {
    (void)t;
    if (o->compute == OT_BF16) return false;
    o->compute = OT_BF16;
    snprintf(text, size, "--dtype bf16");
    return true;
}

typedef bool change(const ot_training *t, ot_train_options *o, char *text, size_t size);
static change *const changes[] = {with_recompute, with_batch_1, with_small_moments, with_bf16};
enum { N_CHANGES = sizeof changes / sizeof *changes, ADVICE = 400 };

/* The plan under other options; false: it cannot be made. */
static bool plan_with(ot_training *t, const ot_train_options *o, ot_train_memory *m) {
    ot_trainer *trainer = NULL;
    ot_error ignored;
    if (ot_trainer_new(t->model, &t->trained, &t->train, t->has_valid ? &t->valid : NULL, o, &trainer, &ignored) != OT_OK) return false;
    ot_trainer_memory(trainer, m);
    ot_trainer_free(trainer);
    return true;
}

static int64_t planned_with(ot_training *t, const ot_train_options *o) {
    ot_train_memory m;
    return plan_with(t, o, &m) ? ot_train_memory_sum(&m) : -1;
}

/* The same with LoRA where everything was to be trained: its own moments, and what a step over it computes more or less. Near the truth: of the
 * validation, which may unpack weights that are frozen now, nothing is known; so a twentieth is to stay free. */
static int64_t planned_as_lora(ot_training *t, const ot_train_options *o) {
    ot_inspect_tuning tuning = {.peft = "full", .backend = o->backend, .compute = o->compute, .batch = o->batch, .block = t->train.length, .recompute = o->recompute};
    ot_inspect_memory full, lora;
    ot_train_memory m;
    ot_error ignored;
    if (t->model->desc.vision || !ot_args_declares(t->args, "peft") || strcmp(ot_args_str(t->args, "peft"), "full") != 0 || !plan_with(t, o, &m)) return -1;
    if (ot_inspect_tuning_memory(t->model, NULL, t->bottom, t->top, &tuning, &full, &ignored) != OT_OK) return -1;
    tuning.peft = "lora";
    if (ot_inspect_tuning_memory(t->model, NULL, t->bottom, t->top, &tuning, &lora, &ignored) != OT_OK) return -1;
    m.activations += lora.activations - full.activations;
    m.trained = lora.trained + (o->select_best && t->has_valid ? 4 * lora.trainable : 0);
    return ot_train_memory_sum(&m);
}

/* What frozen matrices would take as int8. Of an offer: the model's owner can send such an emulator. */
static int64_t saved_by_int8(const ot_training *t) {
    int64_t saved = 0;
    for (int64_t i = 0; i < t->model->n_params; i++) {
        const ot_param *p = &t->model->params[i];
        bool wide = p->stored.dtype == OT_F32 || p->stored.dtype == OT_BF16 || p->stored.dtype == OT_F16;
        if (p->block < 0 || p->slot.trainable || p->stored.n_dims < 2 || !wide) continue;
        int64_t n = ot_param_elements(p), packed = n + n / 64 * 4;
        saved += ot_param_stored_bytes(p) > packed ? ot_param_stored_bytes(p) - packed : 0;
    }
    return saved;
}

__attribute__((format(printf, 2, 3))) static void add(char advice[ADVICE], const char *format, ...) {
    size_t used = strlen(advice);
    va_list list;
    va_start(list, format);
    vsnprintf(advice + used, ADVICE - used, format, list);
    va_end(list);
}

/* "--recompute (needs 5.2 GiB), --batch 1 ... or ..." of what is enough by itself; else what comes of all together. */
static void advise(ot_training *t, int64_t room, char advice[ADVICE]) {
    char items[N_CHANGES + 2][96], text[64], bytes[32];
    int n = 0;
    int64_t need = ot_training_planned(t);
    ot_train_options all = t->options;
    char together[ADVICE] = "";
    for (int i = 0; i < N_CHANGES; i++) {
        ot_train_options o = t->options;
        if (!changes[i](t, &o, text, sizeof text)) continue;
        int64_t planned = planned_with(t, &o);
        if (planned < 0 || planned >= need) continue;
        if (changes[i](t, &all, text, sizeof text)) add(together, "%s%s", *together != '\0' ? " " : "", text);
        if (planned <= room) snprintf(items[n++], sizeof *items, "%s (%s)", text, ot_text_bytes(planned, bytes, sizeof bytes));
    }
    int64_t lora = planned_as_lora(t, &t->options);
    if (lora >= 0 && lora + lora / 20 <= room) snprintf(items[n++], sizeof *items, "--peft lora (about %s)", ot_text_bytes(lora, bytes, sizeof bytes));
    int64_t int8 = strcmp(t->label, "tune") == 0 ? saved_by_int8(t) : 0;
    if (int8 > 0 && need - int8 <= room) {
        snprintf(items[n++], sizeof *items, "an int8 emulator from the model's owner (%s)", ot_text_bytes(need - int8, bytes, sizeof bytes));
    }
    for (int i = 0; i < n; i++) add(advice, "%s%s", i == 0 ? ": try " : i + 1 < n ? ", " : " or ", items[i]);
    if (n > 0) return;
    int64_t least = *together != '\0' ? planned_with(t, &all) : need, least_as_lora = planned_as_lora(t, &all);
    if (least_as_lora >= 0 && (least < 0 || least > room)) {
        least = least_as_lora + least_as_lora / 20;
        add(together, "%s--peft lora", *together != '\0' ? " " : "");
    }
    if (least >= 0 && least < need) {
        add(advice, least <= room ? ": try %s together (%s)" : ": even %s together need %s; try a smaller --block or a smaller model", together,
            ot_text_bytes(least, bytes, sizeof bytes));
    } else {
        add(advice, ": try a smaller --block or a smaller model");
    }
}

ot_status ot_training_check_memory(ot_training *t, ot_error *err) {
    bool limited = ot_args_has(t->args, "memory-limit");
    int64_t need = ot_training_planned(t), room = limited ? ot_args_i64(t->args, "memory-limit") : ot_memory_room();
    char a[32], b[32], advice[ADVICE] = "";
    if (room <= 0 || need <= room) return OT_OK;
    advise(t, room, advice);
    ot_text_bytes(need, a, sizeof a);
    ot_text_bytes(room, b, sizeof b);
    if (limited) return ot_fail(err, OT_ERR_REFUSED, "%s needs %s, --memory-limit is %s%s", t->label, a, b, advice);
    return ot_fail(err, OT_ERR_REFUSED, "%s needs %s, %s are free%s (--memory-limit 0 runs it all the same)", t->label, a, b, advice);
}
