#include "report/pictures.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/count.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/pictures.h"
#include "format/json.h"
#include "image/image.h"

enum { MAX_SAMPLES_FILE = 1 << 29, PATH_ROOM = 4096, THUMBNAIL = 160, QUALITY = 82, WHOLE_MATRIX = 16, MOST_MISTAKES = 30 };

typedef struct seen {
    int64_t picture; /* in the list */
    int32_t label, prediction;
    bool right5;
    double probability; /* of the prediction */
} seen;

typedef struct job {
    const ot_report_pictures_options *options;
    ot_html *page;
    ot_pictures list;
    ot_arena arena;
    const char **names; /* classes, in the order of their first picture */
    int64_t n_names, names_room;
    seen *all;
    int64_t n, room;
    const char *file; /* of the samples */
} job;

/* ==== Reading the scores. ==== */

static ot_status find_samples(job *j, ot_error *err) {
    static const char start[] = "samples_images_";
    const char *given = j->options->scores;
    char path[PATH_ROOM], **names = NULL;
    int64_t n = 0;
    j->file = given;
    if (!ot_path_is_dir(given)) return OT_OK;
    OT_TRY(ot_list_dir(given, &j->arena, &names, &n, err));
    while (n > 0 && (strncmp(names[n - 1], start, sizeof start - 1) != 0 || !ot_path_ends(names[n - 1], ".jsonl"))) n--;
    if (n == 0) {
        return ot_fail(err, OT_ERR_USAGE, "%s holds no predictions of pictures: `offsite eval MODEL --images PHOTOS --output DIR` writes them", given);
    }
    if (!ot_path_join(path, sizeof path, given, names[n - 1])) return ot_fail(err, OT_ERR_USAGE, "%s: the path is too long", given);
    j->file = ot_arena_strdup(&j->arena, path, err); /* dates sort as text: the last is the newest */
    return j->file != NULL ? OT_OK : OT_ERR_MEMORY;
}

static ot_status class_number(job *j, const char *name, int32_t *out, ot_error *err) {
    for (int64_t i = 0; i < j->n_names; i++) {
        *out = (int32_t)i;
        if (strcmp(j->names[i], name) == 0) return OT_OK;
    }
    OT_TRY(ot_grow((void **)&j->names, &j->names_room, j->n_names + 1, sizeof(char *), "class names", err));
    *out = (int32_t)j->n_names;
    j->names[j->n_names] = ot_arena_strdup(&j->arena, name, err);
    return j->names[j->n_names++] != NULL ? OT_OK : OT_ERR_MEMORY;
}

typedef struct named {
    const char *name;
    int64_t picture;
} named;

static int by_name(const void *a, const void *b) { return strcmp(((const named *)a)->name, ((const named *)b)->name); }

/* A name says little: folders often number their pictures alike. */
static ot_status same_picture(const job *j, const json_t *line, const named *at, const char *where, ot_error *err) {
    const char *scored = NULL;
    char here[OT_DIGEST_TEXT];
    OT_TRY(ot_json_str(line, "sha256", where, &scored, NULL, err));
    if (scored == NULL) return ot_fail(err, OT_ERR_REFUSED, "%s has no \"sha256\" of its picture, as an earlier eval --images left it out: evaluate again", where);
    OT_TRY(ot_pictures_digest(&j->list, at->picture, here, err));
    if (strcmp(scored, here) == 0) return OT_OK;
    return ot_fail(err, OT_ERR_REFUSED, "%s: %s of %s is not the picture that was evaluated under this name: name what was evaluated, or evaluate it again", where, at->name,
                   j->list.path);
}

static ot_status take_line(job *j, const json_t *line, const char *where, const named *index, ot_error *err) {
    const char *image = NULL, *label = NULL, *prediction = NULL;
    double right5 = 0, probability = NAN;
    bool found = false;
    if (!json_is_object(line)) return ot_fail(err, OT_ERR_FORMAT, "%s is no JSON object", where);
    OT_TRY(ot_json_str(line, "image", where, &image, NULL, err));
    OT_TRY(ot_json_str(line, "label", where, &label, NULL, err));
    OT_TRY(ot_json_str(line, "prediction", where, &prediction, &found, err));
    if (!found) return ot_fail(err, OT_ERR_FORMAT, "%s has no \"prediction\": is it of eval --images?", where);
    if (image == NULL) return ot_fail(err, OT_ERR_REFUSED, "%s: its picture has no name, as those of .safetensors: evaluate the picture files", where);
    if (label == NULL) return OT_OK;
    OT_TRY(ot_json_f64(line, "acc_top5", where, &right5, NULL, err));
    const json_t *likeliest = json_array_get(json_object_get(line, "top5"), 0);
    if (likeliest != NULL) OT_TRY(ot_json_f64(likeliest, "probability", where, &probability, &found, err));
    if (likeliest == NULL || !found) return ot_fail(err, OT_ERR_FORMAT, "%s has no \"top5\" with probabilities: is it of eval --images?", where);
    const named *at = bsearch(&(named){.name = image}, index, (size_t)j->list.n, sizeof *index, by_name);
    if (at == NULL) return ot_fail(err, OT_ERR_REFUSED, "%s: the picture %s is not among those of %s: name what was evaluated", where, image, j->list.path);
    OT_TRY(same_picture(j, line, at, where, err));
    OT_TRY(ot_grow((void **)&j->all, &j->room, j->n + 1, sizeof *j->all, "predictions", err));
    seen *s = &j->all[j->n];
    *s = (seen){.picture = at->picture, .right5 = right5 > 0, .probability = probability};
    OT_TRY(class_number(j, label, &s->label, err));
    OT_TRY(class_number(j, prediction, &s->prediction, err));
    j->n++;
    return OT_OK;
}

static ot_status take_lines(job *j, const char *text, int64_t size, const named *index, ot_error *err) {
    int64_t number = 0;
    for (const char *at = text, *end = text + size; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        int64_t length = (stop != NULL ? stop : end) - at;
        char where[PATH_ROOM + 32];
        json_t *line = NULL;
        snprintf(where, sizeof where, "%s:%" PRId64, j->file, ++number);
        OT_TRY(ot_json_parse(at, length, where, &line, err));
        ot_status status = take_line(j, line, where, index, err);
        json_decref(line);
        OT_TRY(status);
        at += length + 1;
    }
    if (j->n == 0) return ot_fail(err, OT_ERR_REFUSED, "%s holds no picture with a label", j->file);
    return OT_OK;
}

static ot_status read_scores(job *j, ot_error *err) {
    char *text = NULL;
    int64_t size = 0;
    named *index = NULL;
    OT_TRY(find_samples(j, err));
    OT_TRY(ot_read_file(j->file, MAX_SAMPLES_FILE, &text, &size, err));
    ot_status status = ot_malloc(j->list.n, sizeof *index, "an index of pictures", (void **)&index, err);
    if (status == OT_OK) {
        for (int64_t i = 0; i < j->list.n; i++) index[i] = (named){j->list.items[i].name, i};
        qsort(index, (size_t)j->list.n, sizeof *index, by_name);
        status = take_lines(j, text, size, index, err);
    }
    ot_free(index);
    ot_free(text);
    return status;
}

/* ==== Thumbnails. ==== */

static ot_status shrink(const ot_image *in, ot_image *out, ot_error *err) {
    int64_t longer = in->width > in->height ? in->width : in->height, most = longer < THUMBNAIL ? longer : THUMBNAIL;
    int64_t width = (in->width * most + longer / 2) / longer, height = (in->height * most + longer / 2) / longer;
    return ot_image_resize(in, NULL, width > 0 ? width : 1, height > 0 ? height : 1, OT_FILTER_BICUBIC, out, err);
}

static ot_status thumbnail(const job *j, const seen *s, const char *alt, const char *caption, ot_error *err) {
    ot_image image, small = {0};
    uint8_t *bytes = NULL;
    int64_t size = 0;
    OT_TRY(ot_pictures_decode(&j->list, s->picture, &image, err));
    ot_status status = shrink(&image, &small, err);
    ot_image_free(&image);
    if (status == OT_OK) status = ot_jpeg_encode(&small, QUALITY, &bytes, &size, err); /* made anew: what cameras write beside a picture stays out */
    ot_image_free(&small);
    if (status == OT_OK) status = ot_html_picture(j->page, bytes, size, alt, caption, err);
    ot_free(bytes);
    return status;
}

/* "birch, 83 %" or "birch, said 83 % elm". */
static ot_status show(const job *j, const seen *s, ot_error *err) {
    char *alt = NULL, *caption = NULL;
    const char *said = j->names[s->prediction], *is = j->names[s->label];
    bool right = s->label == s->prediction;
    int a = right ? asprintf(&alt, "a picture of the class %s, which was named", is) : asprintf(&alt, "a picture of the class %s, taken for %s", is, said);
    int b = right ? asprintf(&caption, "%s, %.0f %%", said, 100 * s->probability) : asprintf(&caption, "%s, said %.0f %% %s", is, 100 * s->probability, said);
    ot_status status = a >= 0 && b >= 0 ? thumbnail(j, s, alt, caption, err) : ot_fail_memory(err, 256, "a caption");
    if (a >= 0) free(alt);
    if (b >= 0) free(caption);
    return status;
}

/* The surest mistakes first; of equals the earlier picture. */
static int surest_first(const void *a, const void *b) {
    const seen *x = a, *y = b;
    if (x->probability != y->probability) return x->probability > y->probability ? -1 : 1;
    return x->picture < y->picture ? -1 : x->picture > y->picture;
}

/* Right ones spread over the list, wrong ones from the surest on. */
static ot_status gallery(const job *j, bool right, ot_error *err) {
    seen *some = NULL;
    int64_t n = 0;
    OT_TRY(ot_malloc(j->n, sizeof *some, "pictures to show", (void **)&some, err));
    for (int64_t i = 0; i < j->n; i++) {
        if ((j->all[i].label == j->all[i].prediction) == right) some[n++] = j->all[i];
    }
    if (!right) qsort(some, (size_t)n, sizeof *some, surest_first);
    int64_t shown = n < j->options->shown ? n : j->options->shown;
    ot_html_section(j->page, right ? "Named rightly" : "Taken for something else");
    if (n == 0) ot_html_paragraph(j->page, "None.");
    else if (right) ot_html_paragraph(j->page, "%s of %s pictures; here %s spread over all of them.", OT_COUNT(n), OT_COUNT(j->n), OT_COUNT(shown));
    else ot_html_paragraph(j->page, "%s of %s pictures; here those of which the model was surest.", OT_COUNT(n), OT_COUNT(j->n));
    ot_status status = OT_OK;
    ot_html_gallery(j->page);
    for (int64_t i = 0; status == OT_OK && i < shown; i++) status = show(j, &some[right ? i * n / shown : i], err);
    ot_html_gallery_end(j->page);
    ot_free(some);
    return status;
}

/* ==== Tables. ==== */

typedef struct tally {
    int64_t pictures, right, right5, predicted;
} tally;

static void class_table(const job *j, const int64_t *counts, const tally *tallies) {
    static const ot_html_column columns[] = {{"class", false}, {"pictures", true}, {"top-1", true}, {"top-5", true}, {"named", true}, {"mostly taken for", false}};
    ot_html_section(j->page, "Each class");
    ot_html_table(j->page, "How many pictures of each class were named rightly, and how often the class was named at all", columns, 6);
    for (int64_t c = 0; c < j->n_names; c++) {
        const tally *t = &tallies[c];
        int64_t other = -1;
        for (int64_t k = 0; k < j->n_names; k++) {
            if (k != c && counts[c * j->n_names + k] > (other >= 0 ? counts[c * j->n_names + other] : 0)) other = k;
        }
        ot_html_row(j->page, false);
        ot_html_cell(j->page, OT_TONE_PLAIN, "%s", j->names[c]);
        ot_html_cell(j->page, OT_TONE_PLAIN, "%s", OT_COUNT(t->pictures));
        if (t->pictures == 0) {
            ot_html_cell(j->page, OT_TONE_MUTED, "-");
            ot_html_cell(j->page, OT_TONE_MUTED, "-");
        } else {
            ot_html_cell(j->page, OT_TONE_PLAIN, "%.1f %%", 100 * (double)t->right / (double)t->pictures);
            ot_html_cell(j->page, OT_TONE_PLAIN, "%.1f %%", 100 * (double)t->right5 / (double)t->pictures);
        }
        ot_html_cell(j->page, OT_TONE_PLAIN, "%s", OT_COUNT(t->predicted));
        if (other >= 0) ot_html_cell(j->page, OT_TONE_PLAIN, "%s (%s)", j->names[other], OT_COUNT(counts[c * j->n_names + other]));
    }
    ot_html_table_end(j->page);
}

static void whole_matrix(const job *j, const int64_t *counts) {
    ot_html_column columns[WHOLE_MATRIX + 1] = {{"of \\ taken for", false}};
    for (int64_t c = 0; c < j->n_names; c++) columns[c + 1] = (ot_html_column){j->names[c], true};
    ot_html_section(j->page, "What is taken for what");
    ot_html_table(j->page, "Rows are the pictures' classes, columns what the model said", columns, (int)j->n_names + 1);
    for (int64_t c = 0; c < j->n_names; c++) {
        ot_html_row(j->page, false);
        ot_html_cell(j->page, OT_TONE_PLAIN, "%s", j->names[c]);
        for (int64_t k = 0; k < j->n_names; k++) {
            int64_t v = counts[c * j->n_names + k];
            ot_html_cell(j->page, v == 0 ? OT_TONE_MUTED : c == k ? OT_TONE_STRONG : OT_TONE_PLAIN, "%s", OT_COUNT(v));
        }
    }
    ot_html_table_end(j->page);
}

typedef struct mistake {
    int64_t times, at; /* at: in the matrix */
} mistake;

static int often_first(const void *a, const void *b) {
    const mistake *x = a, *y = b;
    if (x->times != y->times) return x->times > y->times ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static ot_status worst_mistakes(const job *j, const int64_t *counts, ot_error *err) {
    static const ot_html_column columns[] = {{"class", false}, {"taken for", false}, {"times", true}};
    mistake *all = NULL;
    int64_t n = 0, cells = j->n_names * j->n_names;
    OT_TRY(ot_malloc(j->n + 1, sizeof *all, "mistakes", (void **)&all, err));
    for (int64_t i = 0; i < cells; i++) {
        if (counts[i] > 0 && i / j->n_names != i % j->n_names) all[n++] = (mistake){counts[i], i};
    }
    qsort(all, (size_t)n, sizeof *all, often_first);
    ot_html_section(j->page, "What is taken for what");
    ot_html_table(j->page, "The most frequent mistakes", columns, 3);
    for (int64_t i = 0; i < n && i < MOST_MISTAKES; i++) {
        ot_html_row(j->page, false);
        ot_html_cell(j->page, OT_TONE_PLAIN, "%s", j->names[all[i].at / j->n_names]);
        ot_html_cell(j->page, OT_TONE_PLAIN, "%s", j->names[all[i].at % j->n_names]);
        ot_html_cell(j->page, OT_TONE_PLAIN, "%s", OT_COUNT(all[i].times));
    }
    ot_html_table_end(j->page);
    ot_free(all);
    return OT_OK;
}

static ot_status write_tables(const job *j, int64_t *counts, tally *tallies, ot_error *err) {
    for (int64_t i = 0; i < j->n; i++) {
        const seen *s = &j->all[i];
        counts[s->label * j->n_names + s->prediction]++;
        tallies[s->label].pictures++;
        tallies[s->label].right += s->label == s->prediction;
        tallies[s->label].right5 += s->right5;
        tallies[s->prediction].predicted++;
    }
    if (j->n_names <= WHOLE_MATRIX) whole_matrix(j, counts);
    else OT_TRY(worst_mistakes(j, counts, err));
    class_table(j, counts, tallies);
    return OT_OK;
}

static ot_status tables(const job *j, ot_error *err) {
    int64_t *counts = NULL;
    tally *tallies = NULL;
    ot_status status = ot_calloc(j->n_names * j->n_names, sizeof *counts, "the confusion matrix", (void **)&counts, err);
    if (status == OT_OK) status = ot_calloc(j->n_names, sizeof *tallies, "scores of the classes", (void **)&tallies, err);
    if (status == OT_OK) status = write_tables(j, counts, tallies, err);
    ot_free(counts);
    ot_free(tallies);
    return status;
}

/* ==== All of it. ==== */

static void summary(const job *j) {
    int64_t right = 0, right5 = 0;
    for (int64_t i = 0; i < j->n; i++) {
        right += j->all[i].label == j->all[i].prediction;
        right5 += j->all[i].right5;
    }
    ot_html_section(j->page, "Pictures");
    ot_html_paragraph(j->page, "%s of the %s pictures of %s were scored.", OT_COUNT(j->n), OT_COUNT(j->list.n), j->list.path);
    ot_html_paragraph(j->page, "Top-1 %.2f %%, top-5 %.2f %% over %s.", 100 * (double)right / (double)j->n, 100 * (double)right5 / (double)j->n, OT_COUNT_OF(j->n, "picture"));
    ot_html_note(j->page, "Small copies of the data owner's pictures are in this file. It is for the data owner alone: a return holds nothing of it.");
}

static ot_status write_all(job *j, ot_error *err) {
    OT_TRY(ot_pictures_open(j->options->pictures, false, &j->list, err));
    OT_TRY(read_scores(j, err));
    summary(j);
    OT_TRY(gallery(j, false, err));
    OT_TRY(gallery(j, true, err));
    return tables(j, err);
}

ot_status ot_report_pictures(ot_html *page, const ot_report_pictures_options *options, ot_report_pictures_counts *counts, ot_error *err) {
    job j = {.options = options, .page = page};
    ot_status status = write_all(&j, err);
    *counts = (ot_report_pictures_counts){.scored = j.n, .all = j.list.n};
    ot_pictures_close(&j.list);
    ot_arena_free(&j.arena);
    ot_free(j.names);
    ot_free(j.all);
    return status;
}
