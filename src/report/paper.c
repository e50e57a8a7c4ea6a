#include "report/paper.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ==== Xiao, Lin and Han: Offsite-Tuning: Transfer Learning without Full Model, arXiv 2302.04870. ==== */

/* Order of the numbers: zero-shot, emulator, tuned emulator, plug-in, full fine-tuning. Percentages are written as shares. The paper says
 * "accuracy" of multiple choice; what it prints for zero-shot models is what lm-evaluation-harness calls acc. */
#define SCORE(model, table, split, distilled, measure, zero, emulator, tuned, plug, full) \
    {model, table, split, distilled, measure, {zero, emulator, tuned, plug, full}}
#define PERCENT(model, table, split, distilled, measure, zero, emulator, tuned, plug, full) \
    SCORE(model, table, split, distilled, measure, (zero) / 100.0, (emulator) / 100.0, (tuned) / 100.0, (plug) / 100.0, (full) / 100.0)

#define XL(measure, zero, emulator, full, tuned, plug) PERCENT("GPT2-XL", "Table 1", "2-16-2", true, measure, zero, emulator, tuned, plug, full)
#define OPT1(measure, zero, emulator, full, tuned, plug) PERCENT("OPT-1.3B", "Table 1", "2-8-2", true, measure, zero, emulator, tuned, plug, full)
#define OPT6(measure, zero, emulator, tuned, plug) PERCENT("OPT-6.7B", "Table 2", "2-18-2", false, measure, zero, emulator, tuned, plug, NAN)
#define BLOOM(measure, zero, emulator, tuned, plug) PERCENT("BLOOM-7.1B", "Table 2", "2-12-2", false, measure, zero, emulator, tuned, plug, NAN)
#define EVA(measure, full, tuned, plug) PERCENT("EVA-ViT-G", "Table 3", "4-22-4", true, measure, NAN, NAN, tuned, plug, full)
#define CLIP(measure, full, tuned, plug) PERCENT("CLIP-ViT-G", "Table 3", "4-16-4", true, measure, NAN, NAN, tuned, plug, full)

const ot_paper_score ot_paper_scores[] = {
    XL("openbookqa acc", 23.0, 18.8, 30.0, 24.0, 28.2),
    XL("piqa acc", 70.9, 67.7, 73.2, 70.3, 73.6),
    XL("arc_easy acc", 58.2, 53.2, 62.9, 58.2, 61.4),
    XL("arc_challenge acc", 25.1, 20.8, 30.0, 23.9, 28.5),
    XL("hellaswag acc", 40.0, 33.5, 40.7, 35.8, 41.6),
    XL("sciq acc", 83.2, 77.0, 92.5, 92.7, 93.2),
    XL("webqs exact_match", 1.5, 0.2, 26.4, 18.9, 19.9),
    XL("race acc", 33.0, 30.0, 43.2, 39.4, 39.9),
    SCORE("GPT2-XL", "Table 1", "2-16-2", true, "perplexity", 20.44, 25.12, 17.64, 14.94, 13.58),
    SCORE("GPT2-XL", "Table 4", "2-16-2", false, "perplexity", 20.44, NAN, 30.48, 19.69, 13.58),
    OPT1("openbookqa acc", 23.4, 19.4, 31.4, 24.8, 29.0),
    OPT1("piqa acc", 71.6, 68.7, 75.2, 71.6, 74.5),
    OPT1("arc_easy acc", 56.9, 53.9, 61.3, 58.1, 59.4),
    OPT1("arc_challenge acc", 23.5, 21.5, 27.7, 26.1, 27.8),
    OPT1("hellaswag acc", 41.5, 35.1, 42.7, 37.0, 43.3),
    OPT1("sciq acc", 84.4, 80.9, 92.5, 92.2, 92.9),
    OPT1("webqs exact_match", 4.6, 1.3, 31.2, 24.3, 26.2),
    OPT1("race acc", 34.2, 33.0, 37.0, 38.6, 38.9),
    SCORE("OPT-1.3B", "Table 1", "2-8-2", true, "perplexity", 31.48, 38.55, 15.54, 13.15, 12.52),
    SCORE("OPT-1.3B", "Table 4", "2-8-2", false, "perplexity", 31.48, NAN, 18.44, 14.63, 12.52),
    OPT6("openbookqa acc", 27.6, 15.8, 23.4, 33.8),
    OPT6("piqa acc", 76.2, 56.0, 59.4, 77.7),
    OPT6("arc_easy acc", 65.6, 33.8, 45.0, 66.8),
    OPT6("arc_challenge acc", 30.6, 20.1, 19.5, 33.9),
    OPT6("hellaswag acc", 50.5, 28.3, 27.9, 52.1),
    OPT6("sciq acc", 90.1, 51.1, 74.7, 91.9),
    OPT6("webqs exact_match", 8.8, 0.0, 8.0, 23.9),
    OPT6("race acc", 38.2, 22.8, 26.7, 44.1),
    SCORE("OPT-6.7B", "Table 2", "2-18-2", false, "perplexity", 24.24, 44.92, 13.48, 10.78, NAN),
    BLOOM("openbookqa acc", 24.8, 16.4, 22.4, 29.6),
    BLOOM("piqa acc", 72.7, 64.0, 66.4, 74.6),
    BLOOM("arc_easy acc", 64.9, 44.1, 52.9, 66.9),
    BLOOM("arc_challenge acc", 30.3, 20.1, 27.0, 36.8),
    BLOOM("hellaswag acc", 46.3, 34.1, 35.9, 48.3),
    BLOOM("sciq acc", 90.0, 78.2, 85.7, 94.2),
    BLOOM("webqs exact_match", 2.3, 0.1, 15.4, 25.0),
    BLOOM("race acc", 36.6, 28.2, 30.3, 41.7),
    SCORE("BLOOM-7.1B", "Table 2", "2-12-2", false, "perplexity", 15.34, 78.58, 22.40, 14.58, NAN),
    EVA("Flowers", 99.59, 99.15, 99.33),
    EVA("Cars", 95.77, 94.58, 94.99),
    EVA("Food", 95.43, 94.90, 95.33),
    EVA("Pets", 95.80, 96.24, 96.48),
    EVA("CIFAR-10", 99.39, 99.52, 99.63),
    EVA("CIFAR-100", 93.96, 93.31, 94.21),
    CLIP("Flowers", 99.33, 99.01, 99.27),
    CLIP("Cars", 95.65, 95.10, 95.16),
    CLIP("Food", 94.29, 92.91, 93.88),
    CLIP("Pets", 94.99, 95.26, 95.53),
    CLIP("CIFAR-10", 99.13, 99.11, 99.13),
    CLIP("CIFAR-100", 92.33, 90.47, 91.00),
    {0},
};

/* Counts as rounded as the paper prints them. */
const ot_paper_method ot_paper_methods[] = {
    {"GPT2-XL", "FT", NULL, 1475000000, NAN, 13.58},
    {"GPT2-XL", "OT", "full", 123000000, 17.64, 14.94},
    {"GPT2-XL", "OT + Adapter", "houlsby", 1650000, 17.88, 14.99},
    {"GPT2-XL", "OT + LoRA", "lora", 410000, 18.42, 14.84},
    {"GPT2-XL", "OT + BitFit", "bitfit", 83000, 21.96, 18.75},
    {"OPT-1.3B", "FT", NULL, 1208000000, NAN, 12.52},
    {"OPT-1.3B", "OT", "full", 201000000, 15.55, 13.15},
    {"OPT-1.3B", "OT + Adapter", "houlsby", 2110000, 15.93, 13.40},
    {"OPT-1.3B", "OT + LoRA", "lora", 590000, 15.66, 13.20},
    {"OPT-1.3B", "OT + BitFit", "bitfit", 106000, 18.53, 17.88},
    {0},
};

const ot_paper_speed ot_paper_speeds[] = {
    {"GPT2-XL", "FT", false, "full", 957, 39922},
    {"GPT2-XL", "FT + LoRA", false, "lora", 1992, 17113},
    {"GPT2-XL", "OT (2-16-2)", true, "full", 4905, 8966},
    {"GPT2-XL", "OT + LoRA", true, "lora", 6257, 7155},
    {"OPT-1.3B", "FT", false, "full", 1316, 30458},
    {"OPT-1.3B", "FT + LoRA", false, "lora", 3379, 12470},
    {"OPT-1.3B", "OT (2-8-2)", true, "full", 5207, 9336},
    {"OPT-1.3B", "OT + LoRA", true, "lora", 8525, 6192},
    {0},
};

/* ==== Which of our models is one of theirs? ==== */

static const struct {
    const char *model, *stem; /* stem: letters and digits of the usual names, "facebook/opt-1.3b" */
    int64_t layers;
} kinds[] = {
    {"GPT2-XL", "gpt2xl", 48},     {"OPT-1.3B", "opt13b", 24},        {"OPT-6.7B", "opt67b", 32},          {"BLOOM-7.1B", "bloom7b1", 30},
    {"BLOOM-7.1B", "bloom71b", 30}, {"CLIP-ViT-G", "clipvitg14", 40}, {"EVA-ViT-G", "evavitg", 40},        {"EVA-ViT-G", "evaclip", 40},
};

/* Letters and digits in lower case. */
static void squeeze(const char *text, char *out, size_t size) {
    size_t used = 0;
    for (; *text != '\0' && used + 1 < size; text++) {
        if (isalnum((unsigned char)*text)) out[used++] = (char)tolower((unsigned char)*text);
    }
    out[used] = '\0';
}

const char *ot_paper_model(const ot_report_row *row) {
    char name[512];
    int bottom = 0, top = 0;
    if (row->setting.model == NULL || row->setting.split == NULL || row->middle < 0) return NULL;
    const char *dash = strchr(row->setting.split, '-');
    for (const char *c = row->setting.split; *c >= '0' && *c <= '9' && bottom < 100000; c++) bottom = bottom * 10 + (*c - '0');
    for (const char *c = dash != NULL ? dash + 1 : ""; *c >= '0' && *c <= '9' && top < 100000; c++) top = top * 10 + (*c - '0');
    squeeze(row->setting.model, name, sizeof name);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strstr(name, kinds[i].stem) != NULL && kinds[i].layers == row->middle + bottom + top) return kinds[i].model;
    }
    return NULL;
}

static bool distilled(const ot_report_row *row) { return row->setting.emulator != NULL && strstr(row->setting.emulator, "distill") != NULL; }

static void shape(const ot_report_row *row, char text[48]) {
    const char *dash = strchr(row->setting.split, '-');
    snprintf(text, 48, "%.*s-%" PRId64 "%.12s", dash != NULL ? (int)(dash - row->setting.split) : 0, row->setting.split, row->kept, dash != NULL ? dash : "");
}

/* Pictures have one measure; which collection they are from is in the path. */
static bool same_measure(const ot_report_row *row, const char *theirs) {
    if (strcmp(row->measure, theirs) == 0) return true;
    if (strcmp(row->measure, "accuracy") != 0 || row->data == NULL) return false;
    char ours[512], name[32];
    squeeze(row->data, ours, sizeof ours);
    squeeze(theirs, name, sizeof name);
    const char *at = strstr(ours, name);
    return at != NULL && !(strcmp(theirs, "CIFAR-10") == 0 && strstr(ours, "cifar100") != NULL);
}

const ot_paper_score *ot_paper_find(const ot_report_row *row) {
    const char *model = ot_paper_model(row);
    const ot_paper_score *found = NULL;
    for (const ot_paper_score *s = ot_paper_scores; model != NULL && s->model != NULL; s++) {
        if (strcmp(s->model, model) != 0 || !same_measure(row, s->measure)) continue;
        if (found == NULL || s->distilled == distilled(row)) found = s;
    }
    return found;
}

void ot_paper_differs(const ot_report_row *row, const ot_paper_score *paper, char *text, size_t size) {
    char ours[48];
    shape(row, ours);
    bool layerdrop = row->setting.emulator != NULL && strncmp(row->setting.emulator, "layerdrop", 9) == 0;
    bool same = strcmp(ours, paper->split) == 0 && distilled(row) == paper->distilled && layerdrop;
    const char *peft = row->setting.peft;
    *text = '\0';
    if (!same) {
        snprintf(text, size, "the paper's emulator is %s by layer-drop%s", paper->split, paper->distilled ? ", distilled" : "");
    }
    if (peft != NULL && strcmp(peft, "full") != 0) {
        size_t used = strlen(text);
        snprintf(text + used, size - used, "%sthe paper tuned whole adapter layers", used > 0 ? "; " : "");
    }
}
