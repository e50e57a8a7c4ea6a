/* `offsite inspect`: what a model, a configuration, an offer, a return or a LoRA adapter in GGUF is, and what splitting and tuning it would take. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/common_model.h"
#include "cli/common_options.h"
#include "cli/output.h"
#include "cli/text.h"
#include "cli/verbs.h"
#include "eval/inspect.h"
#include "model/head.h"
#include "peft/peft.h"
#include "protocol/gguf_lora.h"
#include "protocol/manifest.h"

typedef struct card {
    const ot_args *args;
    const char *path;
    ot_manifest manifest; /* kind NONE for what is no bundle */
    ot_model *model;      /* NULL for a return and for a LoRA adapter in GGUF */
    bool lora;
    ot_gguf_lora_card adapter; /* when lora */
    bool splits;          /* a split is asked for */
    ot_inspect_split split;
    int64_t bottom, top, layers; /* of what is tuned */
    bool tunes;                  /* there is something to plan: a split or an offer */
    ot_inspect_tuning tuning;
    ot_inspect_memory memory;
    ot_classes classes; /* of a vision model */
} card;

/* ==== Finding out. ==== */

static ot_status plan_split(card *c, ot_error *err) {
    const ot_args *args = c->args;
    c->bottom = ot_args_i64(args, "bottom");
    c->top = ot_args_i64(args, "top");
    OT_TRY(ot_inspect_split_plan(c->model, c->bottom, c->top, ot_args_str(args, "emulator"), &c->split, err));
    c->layers = c->split.layers;
    return OT_OK;
}

static ot_status find_out(card *c, ot_error *err) {
    const ot_args *args = c->args;
    if (!ot_path_exists(c->path)) return ot_fail(err, OT_ERR_IO, "there is no %s: give a model, a configuration, an offer, a return or a LoRA adapter in GGUF", c->path);
    OT_TRY(ot_manifest_read(c->path, OT_BUNDLE_NONE, &c->manifest, err));
    bool offer = c->manifest.kind == OT_BUNDLE_OFFER;
    bool cut = ot_args_has(args, "bottom") || ot_args_has(args, "top") || ot_args_has(args, "emulator");
    c->splits = cut || (!offer && ot_args_has(args, "peft"));
    if (c->manifest.kind == OT_BUNDLE_RETURN) {
        return c->splits ? ot_args_fail(args, err, "%s is a return: it can be neither split nor tuned", c->path) : OT_OK;
    }
    c->lora = ot_gguf_lora_is(c->path);
    if (c->lora) {
        if (c->splits) return ot_args_fail(args, err, "%s is an adapter: it can be neither split nor tuned", c->path);
        return ot_gguf_lora_inspect(c->path, &c->adapter, err);
    }
    OT_TRY(ot_inspect_open(c->path, &c->model, err));
    if (c->model->desc.vision) OT_TRY(ot_model_classes(c->model, &c->classes, err));
    ot_inspect_tuning *t = &c->tuning;
    *t = (ot_inspect_tuning){.peft = ot_args_str(args, "peft"),
                             .batch = ot_args_i64(args, "batch"),
                             .block = ot_args_i64(args, "block"),
                             .recompute = ot_args_flag(args, "recompute")};
    OT_TRY(ot_common_backend(args, &t->backend, &t->compute, err));
    const ot_desc *d = &c->model->desc;
    if (!ot_args_has(args, "block") && d->position == OT_POSITION_LEARNED && d->max_positions < t->block) t->block = d->max_positions;
    if (d->vision) t->block = d->max_positions;
    if (c->splits) {
        OT_TRY(plan_split(c, err));
    } else if (offer) {
        if (c->manifest.layers != c->model->desc.layers) {
            return ot_fail(err, OT_ERR_REFUSED, "%s: manifest.json and config.json disagree about the number of layers", c->path);
        }
        c->bottom = c->manifest.bottom;
        c->top = c->manifest.top;
        c->layers = c->model->desc.layers;
    }
    c->tunes = c->splits || offer;
    return c->tunes ? ot_inspect_tuning_memory(c->model, c->splits ? &c->split.emulator : NULL, c->bottom, c->top, t, &c->memory, err) : OT_OK;
}

/* ==== For machines. ==== */

static int64_t manifest_values(const ot_manifest *m, int64_t *bytes) {
    int64_t values = 0;
    *bytes = 0;
    for (int64_t i = 0; i < m->n_tensors; i++) {
        int64_t n = 1, size = 0;
        for (int32_t d = 0; d < m->tensors[i].n_dims; d++) {
            if (!ot_mul_i64(n, m->tensors[i].shape[d], &n)) n = 0;
        }
        if (!ot_dtype_bytes(m->tensors[i].dtype, n, &size)) size = 0;
        values += n;
        *bytes += size;
    }
    return values;
}

static void json_manifest(ot_json_out *out, const ot_manifest *m) {
    int64_t bytes, values = manifest_values(m, &bytes);
    ot_json_out_object(out, "manifest");
    ot_json_out_str(out, "kind", m->kind == OT_BUNDLE_OFFER ? "offer" : "return");
    ot_json_out_str(out, "offer_id", m->offer_id);
    ot_json_out_i64(out, "layers", m->layers);
    ot_json_out_i64(out, "bottom", m->bottom);
    ot_json_out_i64(out, "top", m->top);
    if (m->kind == OT_BUNDLE_RETURN) ot_json_out_str(out, "method", m->method);
    if (m->n_classes > 0) {
        ot_json_out_array(out, "classes");
        for (int64_t i = 0; i < m->n_classes; i++) ot_json_out_str(out, NULL, m->classes[i]);
        ot_json_out_end(out);
    }
    ot_json_out_i64(out, "tensors", m->n_tensors);
    ot_json_out_i64(out, "values", values);
    ot_json_out_i64(out, "bytes", bytes);
    ot_json_out_end(out);
}

static void json_vision(ot_json_out *out, const card *c) {
    const ot_desc *d = &c->model->desc;
    ot_json_out_i64(out, "classes", d->vocab_size);
    ot_json_out_array(out, "image_size");
    ot_json_out_i64(out, NULL, d->image_height);
    ot_json_out_i64(out, NULL, d->image_width);
    ot_json_out_end(out);
    ot_json_out_i64(out, "patch_size", d->patch_size);
    ot_json_out_i64(out, "channels", d->channels);
    ot_json_out_array(out, "labels");
    for (int64_t i = 0; i < c->classes.n; i++) ot_json_out_str(out, NULL, c->classes.names[i]);
    ot_json_out_end(out);
}

static void json_model(ot_json_out *out, const card *c) {
    const ot_desc *d = &c->model->desc;
    ot_inspect_part parts[OT_INSPECT_PARTS];
    int64_t n = ot_inspect_parts(c->model, parts), bytes = 0;
    ot_json_out_i64(out, "layers", d->layers);
    ot_json_out_i64(out, "hidden_size", d->hidden_size);
    if (d->vision) json_vision(out, c);
    else ot_json_out_i64(out, "vocab_size", d->vocab_size);
    ot_json_out_object(out, "parameters");
    ot_json_out_i64(out, "total", ot_model_parameters(c->model));
    ot_json_out_i64(out, "block", ot_desc_block_parameters(d));
    if (c->tunes) ot_json_out_i64(out, "trainable", c->memory.trainable);
    for (int64_t i = 0; i < n; i++) {
        ot_json_out_i64(out, parts[i].name, parts[i].parameters);
        bytes += parts[i].bytes;
    }
    ot_json_out_end(out);
    ot_json_out_i64(out, "bytes", bytes);
}

static void json_split(ot_json_out *out, const card *c) {
    const ot_inspect_split *s = &c->split;
    ot_json_out_object(out, "split");
    ot_json_out_i64(out, "bottom", c->bottom);
    ot_json_out_i64(out, "top", c->top);
    ot_json_out_i64(out, "layers", s->layers);
    ot_json_out_array(out, "kept");
    for (int64_t i = 0; i < s->emulator.n_kept; i++) ot_json_out_i64(out, NULL, s->emulator.kept[i]);
    ot_json_out_end(out);
    ot_json_out_i64(out, "bytes", s->offer_bytes);
    ot_json_out_f64(out, "middle_shipped", s->middle_bytes > 0 ? (double)s->kept_bytes / (double)s->middle_bytes : 0.0);
    ot_json_out_end(out);
}

static void json_lora(ot_json_out *out, const ot_gguf_lora_card *a) {
    ot_json_out_object(out, "adapter");
    ot_json_out_str(out, "kind", "lora");
    ot_json_out_i64(out, "least_rank", a->least_rank);
    ot_json_out_i64(out, "most_rank", a->most_rank);
    if (a->alpha != 0) ot_json_out_f64(out, "alpha", a->alpha);
    ot_json_out_i64(out, "linears", a->linears);
    ot_json_out_i64(out, "tensors", a->tensors);
    ot_json_out_i64(out, "values", a->values);
    ot_json_out_i64(out, "bytes", a->bytes);
    ot_json_out_end(out);
}

static ot_status print_json(const card *c, ot_error *err) {
    ot_json_out out = ot_json_out_open(stdout);
    ot_json_out_object(&out, NULL);
    ot_json_out_str(&out, "architecture", c->model != NULL ? c->model->desc.arch->name : c->lora ? c->adapter.architecture : c->manifest.architecture);
    if (c->lora) json_lora(&out, &c->adapter);
    if (c->model != NULL) json_model(&out, c);
    if (c->splits) json_split(&out, c);
    if (c->tunes) {
        ot_json_out_object(&out, "memory");
        ot_json_out_i64(&out, "planned_bytes", c->memory.total);
        ot_json_out_i64(&out, "weights", c->memory.weights);
        ot_json_out_i64(&out, "trained", c->memory.trained);
        ot_json_out_i64(&out, "activations", c->memory.activations);
        ot_json_out_end(&out);
    }
    if (c->manifest.kind != OT_BUNDLE_NONE) json_manifest(&out, &c->manifest);
    return ot_json_out_close(&out, err);
}

/* ==== For people. ==== */

static void print_manifest(const ot_manifest *m) {
    char bytes[32];
    int64_t size, n = manifest_values(m, &size);
    if (m->kind == OT_BUNDLE_OFFER) {
        printf("offer %s\n", m->offer_id);
    } else {
        printf("return for offer %s, tuned by %s\n", m->offer_id, m->method);
    }
    printf("architecture %s, offer of %s: %" PRId64 " at the bottom and %" PRId64 " at the top are tuned\n", m->architecture, OT_COUNT_OF(m->layers, "layer"), m->bottom,
           m->top);
    if (m->n_classes > 0) {
        printf("%s classes: ", OT_COUNT(m->n_classes));
        for (int64_t i = 0; i < m->n_classes && i < 10; i++) {
            if (i > 0) printf(", ");
            ot_put_safe(stdout, m->classes[i]);
        }
        printf("%s\n", m->n_classes > 10 ? ", ..." : "");
    }
    printf("%s, %s, %s; SHA-256 of each in manifest.json (check them: offsite verify)\n\n", OT_COUNT_OF(m->n_tensors, "tensor"), OT_COUNT_OF(n, "value"),
           ot_text_bytes(size, bytes, sizeof bytes));
}

static void print_lora(const card *c) {
    const ot_gguf_lora_card *a = &c->adapter;
    char bytes[32];
    ot_put_safe(stdout, c->path);
    printf("\nLoRA adapter in GGUF for a model of the architecture ");
    ot_put_safe(stdout, a->architecture);
    printf("\nover %s, rank %" PRId64, OT_COUNT_OF(a->linears, "linear"), a->least_rank);
    if (a->most_rank != a->least_rank) printf(" to %" PRId64, a->most_rank);
    if (a->alpha != 0) printf(", alpha %g", a->alpha);
    printf("\n%s, %s, %s\n", OT_COUNT_OF(a->tensors, "tensor"), OT_COUNT_OF(a->values, "value"), ot_text_bytes(a->bytes, bytes, sizeof bytes));
}

static const char *position_text(const ot_desc *d) {
    switch (d->position) {
    case OT_POSITION_LEARNED: return "learned positions";
    case OT_POSITION_ROPE: return "rotary positions";
    case OT_POSITION_ALIBI: return "ALiBi";
    case OT_POSITION_NONE: break;
    }
    return "no positions";
}

static void print_vision(const card *c) {
    enum { SHOWN = 10 };
    const ot_desc *d = &c->model->desc;
    printf("images of %" PRId64 " x %" PRId64 " pixels, %s, in patches of %" PRId64 "; the head reads %s%s\n", d->image_height, d->image_width,
           OT_COUNT_OF(d->channels, "channel"), d->patch_size, d->mean_pool ? "the mean of the patches" : "the class token", c->model->headless ? "; no classifier in the files" : "");
    printf("classes: ");
    for (int64_t i = 0; i < c->classes.n && i < SHOWN; i++) {
        if (i > 0) printf(", ");
        ot_put_safe(stdout, c->classes.names[i]);
    }
    printf("%s\n", c->classes.n > SHOWN ? ", ..." : "");
}

static ot_status print_model(const card *c, ot_error *err) {
    const ot_model *m = c->model;
    const ot_desc *d = &m->desc;
    char a[32], b[32];
    ot_inspect_part parts[OT_INSPECT_PARTS];
    int64_t n = ot_inspect_parts(m, parts), total = ot_model_parameters(m), bytes = 0;
    for (int64_t i = 0; i < n; i++) bytes += parts[i].bytes;
    ot_put_safe(stdout, c->path);
    printf("%s\n", m->source == OT_SOURCE_CONFIG ? " (a configuration, no weights)" : "");
    printf("%s, %s, hidden size %s, %s of %" PRId64, d->arch->name, OT_COUNT_OF(d->layers, "layer"), OT_COUNT(d->hidden_size), OT_COUNT_OF(d->heads, "head"), d->head_dim);
    if (d->kv_heads != d->heads) printf(" over %s", OT_COUNT_OF(d->kv_heads, "key/value head"));
    printf(", MLP %s, %s, %s %s%s\n", OT_COUNT(d->ffn_size), position_text(d), d->vision ? "classes" : "vocabulary", ot_text_count(d->vocab_size, a, sizeof a),
           d->tied ? ", tied head" : "");
    if (d->vision) print_vision(c);
    printf("%s parameters, %s\n\n", ot_text_count(total, a, sizeof a), ot_text_bytes(bytes, b, sizeof b));
    static const ot_column columns[] = {{"part", OT_LEFT}, {"tensors", OT_RIGHT}, {"parameters", OT_RIGHT}, {"share", OT_RIGHT}, {"bytes", OT_RIGHT}};
    ot_table t = ot_table_begin(columns, 5);
    for (int64_t i = 0; i < n; i++) {
        ot_table_cell(&t, "%s", parts[i].name);
        ot_table_cell(&t, "%s", OT_COUNT(parts[i].tensors));
        ot_table_cell(&t, "%s", ot_text_count(parts[i].parameters, a, sizeof a));
        ot_table_cell(&t, "%.1f %%", 100.0 * (double)parts[i].parameters / (double)total);
        ot_table_cell(&t, "%s", ot_text_bytes(parts[i].bytes, b, sizeof b));
    }
    OT_TRY(ot_table_print(&t, stdout, err));
    printf("one block: %s parameters\n", ot_text_count(ot_desc_block_parameters(d), a, sizeof a));
    return OT_OK;
}

/* What becomes of the blocks that are kept. */
static const char *shipped_as(const ot_inspect_split *s) {
    const ot_emulator *e = &s->emulator;
    if (e->distilled) return "trained by distillation";
    if (e->changes != NULL || e->form.bits > 0) return "their matrices changed";
    return s->rounded ? "written as bf16: their values the same as yours to rounding" : "exactly as you have them";
}

static void print_split(const card *c) {
    const ot_inspect_split *s = &c->split;
    char a[32], b[32];
    int64_t middle = c->model->desc.layers - c->bottom - c->top;
    printf("\nsplit %" PRId64 "-%" PRId64 "-%" PRId64 ": an offer of %s\n", c->bottom, s->emulator.n_kept, c->top, ot_text_bytes(s->offer_bytes, a, sizeof a));
    printf("ships %" PRId64 " of %s, %s or %.0f %% of the middle's bytes, %s\n", s->emulator.n_kept, OT_COUNT_OF(middle, "middle block"),
           ot_text_bytes(s->kept_bytes, b, sizeof b), s->middle_bytes > 0 ? 100.0 * (double)s->kept_bytes / (double)s->middle_bytes : 0.0,
           shipped_as(s));
    printf("kept:");
    for (int64_t i = 0; i < s->emulator.n_kept; i++) printf(" %" PRId64, s->emulator.kept[i]);
    printf("\n");
}

static void memory_row(ot_table *t, const char *how, const ot_inspect_memory *m) {
    char text[32];
    ot_table_cell(t, "%s", how);
    ot_table_cell(t, "%s", ot_text_count(m->trainable, text, sizeof text));
    ot_table_cell(t, "%s", ot_text_bytes(m->weights, text, sizeof text));
    ot_table_cell(t, "%s", ot_text_bytes(m->trained, text, sizeof text));
    ot_table_cell(t, "%s", ot_text_bytes(m->activations, text, sizeof text));
    ot_table_cell(t, "%s", ot_text_bytes(m->total, text, sizeof text));
}

/* A method's default form that is not the one asked for; methods that this model cannot have are left out. */
static ot_status other_rows(const card *c, ot_table *t, ot_error *err) {
    for (const ot_peft_method *const *p = ot_peft_methods; *p != NULL; p++) {
        const char *name = (*p)->spec.name;
        if (strcmp(name, *c->tuning.peft == '\0' ? "full" : c->tuning.peft) == 0) continue;
        ot_inspect_tuning other = c->tuning;
        ot_inspect_memory memory;
        char how[80];
        other.peft = name;
        ot_status status = ot_inspect_tuning_memory(c->model, c->splits ? &c->split.emulator : NULL, c->bottom, c->top, &other, &memory, err);
        if (status == OT_ERR_USAGE || status == OT_ERR_UNSUPPORTED) continue;
        OT_TRY(status);
        snprintf(how, sizeof how, "tune, %s", name);
        memory_row(t, how, &memory);
    }
    return OT_OK;
}

static ot_status fill_memory(const card *c, ot_table *t, ot_error *err) {
    char how[300];
    snprintf(how, sizeof how, "tune, %s", *c->tuning.peft == '\0' ? "full" : c->tuning.peft);
    memory_row(t, how, &c->memory);
    OT_TRY(other_rows(c, t, err));
    if (!c->splits) return OT_OK;
    int64_t layers = c->model->desc.layers;
    ot_inspect_tuning whole = c->tuning;
    ot_inspect_memory memory;
    if (strcmp(whole.peft, "full") != 0) {
        OT_TRY(ot_inspect_tuning_memory(c->model, NULL, layers, 0, &whole, &memory, err));
        snprintf(how, sizeof how, "finetune the whole model, %s", whole.peft);
        memory_row(t, how, &memory);
    }
    whole.peft = "full";
    OT_TRY(ot_inspect_tuning_memory(c->model, NULL, layers, 0, &whole, &memory, err));
    memory_row(t, "finetune the whole model, full", &memory);
    return OT_OK;
}

static ot_status print_memory(const card *c, ot_error *err) {
    static const ot_column columns[] = {{"way", OT_LEFT},           {"trained values", OT_RIGHT}, {"weights", OT_RIGHT},
                                        {"and moments", OT_RIGHT}, {"activations", OT_RIGHT},    {"memory", OT_RIGHT}};
    printf("\nmemory of tuning: batch %" PRId64 ", block %" PRId64 ", %s arithmetic%s\n", c->tuning.batch, c->tuning.block, ot_args_str(c->args, "dtype"),
           c->tuning.recompute ? ", activations recomputed" : "");
    ot_table t = ot_table_begin(columns, 6);
    ot_status status = fill_memory(c, &t, err);
    if (status == OT_OK) return ot_table_print(&t, stdout, err);
    ot_table_free(&t);
    return status;
}

static ot_status print_card(const card *c, ot_error *err) {
    if (ot_args_flag(c->args, "json")) return print_json(c, err);
    if (c->manifest.kind != OT_BUNDLE_NONE) print_manifest(&c->manifest);
    if (c->lora) print_lora(c);
    if (c->model == NULL) return OT_OK;
    OT_TRY(print_model(c, err));
    if (c->splits) print_split(c);
    return c->tunes ? print_memory(c, err) : OT_OK;
}

static ot_status run(const ot_args *args, ot_error *err) {
    card c = {.args = args, .path = ot_args_operand(args, "MODEL")};
    ot_status status = find_out(&c, err);
    if (status == OT_OK) status = print_card(&c, err);
    ot_inspect_split_free(&c.split);
    ot_classes_free(&c.classes);
    ot_model_close(c.model);
    ot_manifest_free(&c.manifest);
    return status;
}

static const ot_option options[] = {
    {.name = "bottom", .kind = OT_KIND_I64, .fallback = "2", .min = 0, .max = 100000, .help = "first blocks that the data owner may tune"},
    {.name = "top", .kind = OT_KIND_I64, .fallback = "2", .min = 0, .max = 100000, .help = "last blocks that the data owner may tune"},
    {.name = "emulator", .kind = OT_KIND_STRING, .value = "STEPS", .fallback = "", .help = "how the middle would be made small, as for offsite split"},
    {.name = "peft", .kind = OT_KIND_STRING, .value = "METHOD", .fallback = "full", .help = "what would be trained, as for offsite tune"},
    {.name = "batch", .kind = OT_KIND_I64, .fallback = "1", .min = 1, .max = OT_NO_MAX, .help = "rows in a micro-batch"},
    {.name = "block", .kind = OT_KIND_I64, .fallback = "512", .min = 2, .max = OT_NO_MAX, .shown = "512, or all positions of the model", .help = "tokens in a row"},
    {0},
};
static const ot_option_group group = {"Split and tuning", options};
static const ot_operand operands[] = {
    {.name = "MODEL", .kind = OT_KIND_PATH, .help = "a model folder, a GGUF file (a model or a LoRA adapter), an offer, a return, or a configuration (any JSON file)"}, {0}};
static const ot_example examples[] = {
    {"What a model is made of", "offsite inspect gpt2/"},
    {"What splitting and tuning would take, from the configuration alone", "offsite inspect config.json --emulator layerdrop:keep=16 --peft lora"},
    {"What arrived", "offsite inspect return"},
    {0},
};

const ot_verb ot_verb_inspect = {
    .name = "inspect",
    .audience = OT_FOR_ANYONE,
    .summary = "show what a model, an offer or a return holds, and plan a split and its tuning",
    .about = "With any of --bottom, --top, --emulator and --peft the split is planned too: which blocks are kept, what is shipped, how many values are "
             "trained, and the memory of tuning it, from the same plan that tuning runs. No weights are read: a configuration is enough.",
    .examples = examples,
    .operands = operands,
    .groups = (const ot_option_group *const[]){&group, &ot_options_memory, &ot_options_compute, &ot_options_json, NULL},
    .run = run,
};
