/* `offsite split`: the owner makes an offer and a private ledger. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/common_images.h"
#include "cli/common_options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/split_distill.h"
#include "cli/text.h"
#include "cli/verbs.h"
#include "plot/plot.h"
#include "protocol/search.h"

typedef struct job {
    const ot_args *args;
    ot_model *model;
    ot_dataset data;
    ot_split_options options;
} job;

static double same_share(const ot_split_summary *s) { return s->middle_values > 0 ? (double)s->same_values / (double)s->middle_values : 0.0; }
static double exact_share(const ot_split_summary *s) { return s->middle_bytes > 0 ? (double)s->exact_bytes / (double)s->middle_bytes : 0.0; }

/* Is nothing held back? Then the offer is the model. */
static bool gives_all(const ot_split_summary *s) { return s->same_values >= s->middle_values || s->exact_bytes >= s->middle_bytes; }

/* ==== One split. ==== */

static void json_measured(ot_json_out *out, const ot_emulation *e) {
    ot_json_out_i64(out, "rows", e->rows);
    ot_json_out_f64(out, "full_perplexity", e->full_perplexity);
    ot_json_out_f64(out, "emulator_perplexity", e->emulator_perplexity);
    ot_json_out_f64(out, "cpl", e->cpl);
    ot_json_out_f64(out, "fidelity", e->fidelity);
    ot_json_out_f64(out, "fidelity_bottom", e->fidelity_bottom);
    ot_json_out_f64(out, "fidelity_top", e->fidelity_top);
    ot_json_out_f64(out, "sign_agreement", e->sign_agreement);
    ot_json_out_f64(out, "time_ratio", e->time_ratio);
    ot_json_out_f64(out, "memory_ratio", e->memory_ratio);
}

static void json_numbers(ot_json_out *out, const ot_split_summary *s) {
    ot_json_out_i64(out, "layers", s->layers);
    ot_json_out_i64(out, "depth", s->depth);
    ot_json_out_i64(out, "middle_kept", s->kept_middle);
    ot_json_out_i64(out, "middle", s->middle);
    ot_json_out_i64(out, "trainable", s->trainable);
    ot_json_out_i64(out, "bytes", s->offer_bytes);
    ot_json_out_i64(out, "middle_bytes", s->kept_bytes);
    ot_json_out_i64(out, "whole_middle_bytes", s->whole_bytes);
    ot_json_out_f64(out, "middle_shipped_bit_exact", exact_share(s));
    ot_json_out_f64(out, "middle_values_same", same_share(s));
    ot_json_out_i64(out, "middle_tensors_bit_exact", s->exact_tensors);
    ot_json_out_i64(out, "middle_tensors", s->middle_tensors);
    ot_json_out_bool(out, "whole_model", gives_all(s));
    ot_json_out_bool(out, "plain", s->plain);
    if (s->measured) json_measured(out, &s->emulation);
}

/* What is printed as 1.000 is not above it. */
static bool is_above_one(const ot_emulation *e) { return e->cpl > 1.0005; }
static const char above_one[] = "CPL above 1: by itself the emulator predicts these data better than the whole model does: as far as they show, none of its capability is held back; try others, or more of them";

static void print_measured(const ot_emulation *e, bool pictures) {
    printf("on %s %s: perplexity %.4g with the emulator, %.4g with the whole middle: it keeps CPL %.3f of the capability\n", OT_COUNT(e->rows),
           pictures ? "pictures" : "rows of text", e->emulator_perplexity, e->full_perplexity, e->cpl);
    printf("gradient fidelity %.3f", e->fidelity);
    if (!isnan(e->fidelity_bottom) && !isnan(e->fidelity_top)) printf(" (bottom %.3f, top %.3f)", e->fidelity_bottom, e->fidelity_top);
    printf(", signs agree in %.1f %%; a tuning step takes %.2f of the time and %.2f of the memory of one through the whole middle\n", 100.0 * e->sign_agreement, e->time_ratio, e->memory_ratio);
    if (is_above_one(e)) printf("%s\n", above_one);
}

static void warn_of_whole(const ot_args *args, const ot_split_summary *s) {
    char emulator[64] = "quantize:bits=4";
    if (s->middle > 1) snprintf(emulator, sizeof emulator, "layerdrop:keep=%" PRId64, s->middle / 2);
    ot_note(args, "warning: %s holds the whole model: whoever gets it has every value of it. Leave something out, as with --emulator %s ('offsite help emulator' lists more)",
            ot_args_str(args, "output"), emulator);
}

static void warn_of_chance(const ot_args *args, const ot_emulation *e) {
    ot_note(args, "warning: signs agree in %.1f %%, and 50 %% is chance: what this emulator teaches the adapter layers will hardly help the whole model, even where the tuned emulator becomes "
                  "good. Keep more of the middle, 'distill' it, or compare recipes with --search ('offsite help emulator' lists the methods)",
            100.0 * e->sign_agreement);
}

static ot_status print(const ot_args *args, const ot_split_summary *s, bool pictures, ot_error *err) {
    const char *offer = ot_args_str(args, "output");
    if (gives_all(s)) warn_of_whole(args, s);
    if (s->measured && ot_emulation_is_chance(&s->emulation)) warn_of_chance(args, &s->emulation);
    if (ot_args_flag(args, "json")) {
        ot_json_out out = ot_json_out_open(stdout);
        ot_json_out_object(&out, NULL);
        ot_json_out_str(&out, "offer", offer);
        ot_json_out_str(&out, "offer_id", s->offer_id);
        json_numbers(&out, s);
        return ot_json_out_close(&out, err);
    }
    char bytes[32], middle[32], whole[32];
    printf("offer %s (id %.8s): %s, %" PRId64 " of %s kept, %s, weights %s\n", offer, s->offer_id, OT_COUNT_OF(s->layers, "layer"), s->kept_middle,
           OT_COUNT_OF(s->middle, "middle block"), OT_COUNT_OF(s->trainable, "trainable value"), ot_text_bytes(s->offer_bytes, bytes, sizeof bytes));
    if (s->depth != s->layers) printf("blocks are shared: %" PRId64 " run in a row\n", s->depth);
    printf("the middle ships as %s of its %s; the data owner holds %.0f %% of its bytes (%s of %s) exactly as you have them, and "
           "%.0f %% of its values the same to rounding\n",
           ot_text_bytes(s->kept_bytes, middle, sizeof middle), ot_text_bytes(s->whole_bytes, whole, sizeof whole), 100.0 * exact_share(s),
           OT_COUNT(s->exact_tensors), OT_COUNT_OF(s->middle_tensors, "tensor"), 100.0 * same_share(s));
    if (s->measured) print_measured(&s->emulation, pictures);
    else if (2 * s->kept_middle < s->middle && s->depth == s->layers)
        printf("fewer than half of the middle blocks are kept: how much of the model that still is, split --data FILE tells\n");
    if (!s->plain) printf("only offsite opens this offer: its middle is packed, narrowed, in factors or shared, which transformers cannot express\n");
    printf("private ledger %s.owner.json: keep it, plugging in needs it", offer);
    if (gives_all(s)) printf("; %s is the whole model: send it to nobody who may not have that\n", offer);
    else printf("; send only %s\n", offer);
    return OT_OK;
}

static ot_status split_one(job *j, ot_error *err) {
    ot_split_summary s;
    const char *offer = ot_args_str(j->args, "output");
    if (offer == NULL) return ot_args_fail(j->args, err, "option -o, --output is missing; usage: offsite split MODEL -o OFFER [OPTION...]");
    bool distils = ot_split_distill_step(j->options.emulator) != NULL;
    OT_TRY(distils ? ot_split_distilled(j->args, j->model, &j->options, &s, err) : ot_split(j->model, offer, &j->options, &s, err));
    return print(j->args, &s, j->model->desc.vision, err);
}

/* ==== --search. ==== */

enum { SEARCH_COLUMNS = 11 };
static const ot_column search_titles[SEARCH_COLUMNS] = {{"emulator", OT_LEFT}, {"weights", OT_RIGHT}, {"middle exact", OT_RIGHT}, {"same values", OT_RIGHT}, {"perplexity", OT_RIGHT},
                                                        {"CPL", OT_RIGHT},     {"fidelity", OT_RIGHT}, {"signs", OT_RIGHT},       {"time", OT_RIGHT},        {"memory", OT_RIGHT},
                                                        {"", OT_LEFT}};

/* A table whose rows are printed as they become known: its widths are those of the widest that may come. */
typedef struct search_view {
    ot_progress progress;
    bool json, limits;
    int64_t least[SEARCH_COLUMNS];
    ot_status status;
} search_view;

static const char *recipe_name(const ot_search_row *r) { return *r->recipe == '\0' ? "(the whole middle)" : r->recipe; }

static void search_line(search_view *v, ot_table *table) {
    char *text = NULL;
    size_t size = 0;
    memcpy(table->least, v->least, sizeof v->least);
    FILE *f = v->status == OT_OK ? open_memstream(&text, &size) : NULL;
    if (f == NULL) {
        v->status = OT_ERR_MEMORY;
        ot_table_free(table);
        return;
    }
    v->status = ot_table_print(table, f, NULL);
    fclose(f);
    if (size > 0) text[size - 1] = '\0'; /* the line's end */
    if (v->status == OT_OK) ot_progress_result(&v->progress, text);
    free(text);
}

static void search_head(search_view *v, const ot_search *s) {
    static const int64_t widths[SEARCH_COLUMNS] = {0, 10, 12, 11, 10, 9, 8, 7, 5, 6, 0};
    memcpy(v->least, widths, sizeof widths);
    for (int64_t i = 0; i < s->count; i++) {
        int64_t width = ot_text_width(recipe_name(&s->rows[i]));
        if (width > v->least[0]) v->least[0] = width;
    }
    ot_table table = ot_table_begin(search_titles, SEARCH_COLUMNS);
    search_line(v, &table);
}

static void search_row(search_view *v, const ot_search_row *r) {
    ot_column columns[SEARCH_COLUMNS];
    const ot_emulation *e = &r->summary.emulation;
    char bytes[32];
    for (int i = 0; i < SEARCH_COLUMNS; i++) columns[i] = (ot_column){NULL, search_titles[i].align};
    ot_table table = ot_table_begin(columns, SEARCH_COLUMNS);
    ot_table_cell(&table, "%s", recipe_name(r));
    ot_table_cell(&table, "%s", ot_text_bytes(r->summary.offer_bytes, bytes, sizeof bytes));
    ot_table_cell(&table, "%.0f %%", 100.0 * exact_share(&r->summary));
    ot_table_cell(&table, "%.0f %%", 100.0 * same_share(&r->summary));
    ot_table_cell(&table, "%.4g", e->emulator_perplexity);
    ot_table_cell(&table, "%.3f", e->cpl);
    ot_table_cell(&table, "%.3f", e->fidelity);
    ot_table_cell(&table, "%.1f %%", 100.0 * e->sign_agreement);
    ot_table_cell(&table, "%.2f", e->time_ratio);
    ot_table_cell(&table, "%.2f", e->memory_ratio);
    ot_table_cell(&table, "%s", !v->limits ? "" : r->within ? "within" : "beyond");
    search_line(v, &table);
}

static void search_observe(void *context, const ot_search *s, int64_t done) {
    search_view *v = context;
    if (!v->json) {
        if (done == 0) search_head(v, s);
        else search_row(v, &s->rows[done - 1]);
    }
    if (done == 0) return;
    ot_progress_sample sample = OT_PROGRESS_SAMPLE;
    sample.step = done;
    v->progress.total = s->count;
    ot_progress_step(&v->progress, &sample);
}

static ot_status search_json(const ot_search *s, ot_error *err) {
    ot_json_out out = ot_json_out_open(stdout);
    ot_json_out_object(&out, NULL);
    ot_json_out_array(&out, "recipes");
    for (int64_t i = 0; i < s->count; i++) {
        ot_json_out_object(&out, NULL);
        ot_json_out_str(&out, "emulator", s->rows[i].recipe);
        ot_json_out_bool(&out, "front", s->rows[i].front);
        ot_json_out_bool(&out, "within_limits", s->rows[i].within);
        json_numbers(&out, &s->rows[i].summary);
        ot_json_out_end(&out);
    }
    return ot_json_out_close(&out, err);
}

static void search_foot(const ot_search *s) {
    const char *joint = "front: ";
    for (int64_t i = 0; i < s->count; i++) {
        if (!s->rows[i].front) continue;
        fputs(joint, stdout);
        ot_put_safe(stdout, recipe_name(&s->rows[i]));
        joint = ", ";
    }
    printf("\nfront: no other recipe is better in one of weights, CPL and signs and as good in the others; whole model: perplexity %.4g\n",
           s->rows[0].summary.emulation.full_perplexity);
    bool above = false, chance = false;
    for (int64_t i = 0; i < s->count; i++) {
        above = above || is_above_one(&s->rows[i].summary.emulation);
        chance = chance || ot_emulation_is_chance(&s->rows[i].summary.emulation);
    }
    if (above) printf("%s\n", above_one);
    if (chance) printf("signs below 52 %%, where 50 %% is chance: what such an emulator teaches the adapter layers will hardly help the whole model; keep more of the middle, or distil\n");
}

/* Signs over CPL: upper left is what one wants. The front in one colour, the others in another. */
static ot_status search_svg(const ot_search *s, const char *path, ot_error *err) {
    double *x = NULL;
    const char **labels = NULL;
    char *text = NULL;
    size_t size = 0;
    ot_status status = ot_calloc(4 * s->count, sizeof *x, "the points of a plot", (void **)&x, err);
    if (status == OT_OK) status = ot_calloc(2 * s->count, sizeof *labels, "the labels of a plot", (void **)&labels, err);
    if (status == OT_OK) {
        double *y = x + 2 * s->count;
        ot_plot_series series[2] = {{.name = "front", .x = x, .y = y, .labels = labels, .mark = OT_PLOT_POINTS},
                                    {.name = "others", .x = x + s->count, .y = y + s->count, .labels = labels + s->count, .mark = OT_PLOT_POINTS, .color = 1}};
        for (int64_t i = 0; i < s->count; i++) {
            ot_plot_series *to = &series[s->rows[i].front ? 0 : 1];
            int64_t at = (s->rows[i].front ? 0 : s->count) + to->count++;
            x[at] = s->rows[i].summary.emulation.cpl;
            y[at] = s->rows[i].summary.emulation.sign_agreement;
            labels[at] = s->rows[i].recipe;
        }
        const ot_plot plot = {.title = "Emulators: what they leak and how well they guide",
                              .x_label = "CPL: capability the emulator keeps",
                              .y_label = "share of gradient signs that agree",
                              .series = series,
                              .n_series = series[1].count > 0 ? 2 : 1};
        status = ot_plot_svg(&plot, &text, &size, err);
    }
    if (status == OT_OK) status = ot_write_file(path, text, (int64_t)size, err);
    free(text);
    ot_free(labels);
    ot_free(x);
    return status;
}

static ot_status search(job *j, ot_error *err) {
    const ot_args *args = j->args;
    const char **recipes = NULL, *svg = ot_args_str(args, "svg");
    int64_t n = ot_args_count(args, "try");
    ot_search found;
    search_view view = {.json = ot_args_flag(args, "json"), .limits = ot_args_has(args, "max-cpl") || ot_args_has(args, "max-bytes")};
    if (ot_args_str(args, "output") != NULL) return ot_args_fail(args, err, "--search only compares: leave --output out");
    OT_TRY(ot_calloc(n, sizeof *recipes, "a list of recipes", (void **)&recipes, err));
    for (int64_t i = 0; i < n; i++) recipes[i] = ot_args_str_at(args, "try", i);
    ot_progress_begin(&view.progress, args, "search", "recipe", n, 0);
    ot_status status = ot_search_run(j->model, recipes, n, &j->options, search_observe, &view, &found, err);
    ot_progress_end(&view.progress);
    ot_free(recipes);
    OT_TRY(status);
    if (view.status != OT_OK) status = ot_fail_memory(err, 4096, "a table");
    if (status == OT_OK && view.json) status = search_json(&found, err);
    if (status == OT_OK && !view.json) search_foot(&found);
    if (status == OT_OK && svg != NULL) status = search_svg(&found, svg, err);
    ot_search_free(&found);
    return status;
}

/* ==== Both. ==== */

/* Pictures measure by their labels. A distillation needs none, and then nothing is measured. */
static ot_status open_pictures(job *j, const char *path, ot_error *err) {
    const ot_image_options options = {.limit = 512, .model_path = j->model->path};
    ot_status status = ot_dataset_open_images(path, &j->model->desc, &options, &j->data, err);
    if (status == OT_OK) status = ot_common_images_number("--data", j->model, &j->data, err);
    if (status == OT_OK) j->options.data = &j->data;
    if (status == OT_OK || ot_split_distill_step(j->options.emulator) == NULL || j->options.max_cpl > 0) return status;
    ot_dataset_free(&j->data);
    ot_note(j->args, "nothing is measured: %s", err->message);
    return OT_OK;
}

static ot_status open_data(job *j, ot_error *err) {
    const ot_args *args = j->args;
    const char *path = ot_args_str(args, "data");
    const ot_desc *d = &j->model->desc;
    for (const ot_backend *const *b = ot_backends; *b != NULL && j->options.backend == NULL; b++) {
        if ((*b)->available() && (*b)->supports(OT_F32)) j->options.backend = *b;
    }
    j->options.compute = OT_F32;
    if (path == NULL || strncmp(path, "self:", 5) == 0) return OT_OK;
    int64_t block = ot_args_i64(args, "block");
    if (!ot_args_has(args, "block") && d->position == OT_POSITION_LEARNED && d->max_positions < block) block = d->max_positions;
    if (d->vision) return open_pictures(j, path, err);
    OT_TRY(ot_dataset_open(path, j->model->path, block, d->vocab_size, 512, &j->data, err));
    j->options.data = &j->data;
    return OT_OK;
}

static ot_status run(const ot_args *args, ot_error *err) {
    static const ot_dtype dtypes[] = {OT_F32, OT_BF16, OT_F16};
    int dtype = ot_args_choice(args, "dtype");
    job j = {.args = args,
             .options = {.bottom = ot_args_i64(args, "bottom"),
                         .top = ot_args_i64(args, "top"),
                         .emulator = ot_args_str(args, "emulator"),
                         .measure_rows = ot_args_i64(args, "limit"),
                         .max_cpl = ot_args_has(args, "max-cpl") ? ot_args_f64(args, "max-cpl") : 0,
                         .max_bytes = ot_args_has(args, "max-bytes") ? ot_args_i64(args, "max-bytes") : 0,
                         .own_dtype = dtype < 0,
                         .dtype = dtype < 0 ? OT_BF16 : dtypes[dtype],
                         .force = ot_args_flag(args, "force")}};
    if (ot_offer_is(ot_args_operand(args, "MODEL"))) {
        return ot_args_fail(args, err, "%s is an offer, which was split already: give the whole model", ot_args_operand(args, "MODEL"));
    }
    OT_TRY(ot_model_open(ot_args_operand(args, "MODEL"), OT_F32, &j.model, err));
    ot_status status = open_data(&j, err);
    if (status == OT_OK) status = ot_args_flag(args, "search") ? search(&j, err) : split_one(&j, err);
    ot_dataset_free(&j.data);
    ot_model_close(j.model);
    return status;
}

static const ot_option options[] = {
    {.name = "output", .letter = 'o', .kind = OT_KIND_PATH, .use = OT_PATH_REPLACED, .value = "OFFER", .help = "folder of the offer; the ledger becomes OFFER.owner.json"},
    {.name = "bottom", .kind = OT_KIND_I64, .fallback = "2", .min = 0, .max = 100000, .help = "first blocks that the data owner may tune"},
    {.name = "top", .kind = OT_KIND_I64, .fallback = "2", .min = 0, .max = 100000, .help = "last blocks that the data owner may tune"},
    {.name = "emulator", .kind = OT_KIND_STRING, .value = "STEPS", .fallback = "",
     .help = "how the middle is made small: steps joined by '|', as in layerdrop:keep=8|quantize:bits=4; 'offsite help emulator' lists them; empty: the middle as it is, so that the offer is the whole model"},
    {.name = "force", .kind = OT_KIND_FLAG, .transient = true, .help = "replace an offer of the same name"},
    {0},
};
static const ot_option measuring[] = {
    {.name = "data", .kind = OT_KIND_PATH, .value = "FILE",
     .help = "public text or token ids, never the data owner's: the emulator is measured on it, crash looks at it, distill learns on it (self:N: for "
             "distill the model writes N tokens)"},
    {.name = "block", .kind = OT_KIND_I64, .value = "N", .fallback = "512", .min = 2, .max = 1 << 24, .help = "tokens a row of a text"},
    {.name = "limit", .kind = OT_KIND_I64, .value = "N", .fallback = "16", .min = 1, .max = OT_NO_MAX, .help = "measure on the first N rows"},
    {.name = "max-cpl", .kind = OT_KIND_F64, .value = "X", .min = 0.000001, .max = 1000000,
     .help = "refuse when the emulator alone keeps more than this share of the model's capability: perplexity of the whole model by the emulator's"},
    {.name = "max-bytes", .kind = OT_KIND_SIZE, .value = "SIZE", .min = 1, .max = OT_NO_MAX, .help = "refuse when the offer's weights take more"},
    {.name = "threads", .kind = OT_KIND_I64, .value = "N", .fallback = "0", .min = 0, .max = 4096, .shown = "all cores", .transient = true,
     .help = "processor threads"},
    {0},
};
static const ot_option searching[] = {
    {.name = "search", .kind = OT_KIND_FLAG, .help = "write no offer: try recipes on --data with forward and backward passes only, each told as it is known, and show which are worth a choice"},
    {.name = "try", .kind = OT_KIND_STRING, .value = "STEPS", .repeatable = true, .help = "a recipe to try, instead of the built-in set"},
    {.name = "svg", .kind = OT_KIND_PATH, .use = OT_PATH_WRITTEN, .value = "FILE.svg", .help = "draw the agreement of signs over CPL of what was tried"},
    {0},
};
static const ot_option_group measure_group = {"Measuring and limits", measuring}, search_group = {"Search", searching};
static const ot_option_group group = {"Split", options};
static const ot_operand operands[] = {{.name = "MODEL", .kind = OT_KIND_PATH, .help = "the foundation model: a Hugging Face folder or a GGUF file"}, {0}};
static const ot_example examples[] = {
    {"Keep every third block of the middle", "offsite split gpt2-xl/ -o offer --emulator layerdrop:keep=16"},
    {"Packed to four bits, measured on a public text, refused when it gives too much away",
     "offsite split gpt2-xl/ -o offer --emulator 'layerdrop:keep=24|quantize:bits=4' --data wiki.txt --max-cpl 0.9 --max-bytes 600M"},
    {"Compare recipes before anything is shipped", "offsite split gpt2-xl/ --search --data wiki.txt --svg front.svg"},
    {"From a GGUF, in f32", "offsite split SmolLM2.gguf -o offer --emulator layerdrop:keep=20 --dtype f32"},
    {0},
};

const ot_verb ot_verb_split = {
    .name = "split",
    .audience = OT_FOR_OWNER,
    .usage = "MODEL -o OFFER [OPTION...]",
    .summary = "cut a model into adapter layers and an emulator: an offer for the data owner",
    .about = "The bottom and top blocks become adapter layers that the data owner tunes. The middle is compressed into the emulator; what is left out "
             "of it never leaves your house. The offer is an ordinary Hugging Face model folder with a manifest.json.\n\n"
             "With --data the emulator is measured: how much of the model's capability it keeps by itself (CPL), and how alike the gradients are that the "
             "adapter layers get through it and through the whole middle (fidelity, the cosine; and the share of values where their signs agree). docs/figures.md has how well each of them ranks what plugging in gains.\n\n"
             "The ledger OFFER.owner.json says which blocks were kept. It lies beside the offer, never in it: do not send it.",
    .examples = examples,
    .operands = operands,
    .groups = (const ot_option_group *const[]){&group, &measure_group, &search_group, &ot_options_storage, &ot_options_json, NULL},
    .run = run,
};
