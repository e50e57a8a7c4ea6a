/* `offsite data PICTURES`: what a folder, an archive or a list of pictures holds: classes, sizes, and everything that cannot be used. */
#include "cli/data_pictures.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/output.h"
#include "cli/text.h"

typedef struct job {
    ot_pictures p;
    ot_picture_sizes sizes;
    int64_t n_labels; /* classes, or numbers up to the largest */
    int64_t *counts;  /* [n_labels] */
    int64_t unlabelled;
} job;

static ot_status count(job *j, ot_error *err) {
    const ot_pictures *p = &j->p;
    j->n_labels = p->n_classes;
    for (int64_t i = 0; i < p->n; i++) j->n_labels = p->items[i].label >= j->n_labels ? p->items[i].label + 1 : j->n_labels;
    OT_TRY(ot_calloc(j->n_labels + 1, sizeof *j->counts, "counts of the classes", (void **)&j->counts, err));
    for (int64_t i = 0; i < p->n; i++) {
        if (p->items[i].label >= 0) j->counts[p->items[i].label]++;
        else j->unlabelled++;
    }
    return OT_OK;
}

/* The name of a label, or the number that it is. */
static const char *label_name(const job *j, int64_t label, char *room, size_t size) {
    if (label < j->p.n_classes) return j->p.classes[label];
    snprintf(room, size, "%" PRId64, label);
    return room;
}

static ot_status print_text(const job *j, ot_error *err) {
    static const ot_column columns[] = {{"class", OT_LEFT}, {"pictures", OT_RIGHT}};
    const ot_pictures *p = &j->p;
    const ot_picture_sizes *s = &j->sizes;
    char room[32], a[32];
    ot_put_safe(stdout, p->path);
    printf(": %s; %s of %" PRId64 " x %" PRId64 " to %" PRId64 " x %" PRId64 " pixels", p->layout, OT_COUNT_OF(p->n, "picture"), s->least_width, s->least_height,
           s->most_width, s->most_height);
    if (j->unlabelled > 0) printf(", %s without a label", ot_text_count(j->unlabelled, a, sizeof a));
    printf("\n\n");
    if (j->n_labels > 0) {
        ot_table t = ot_table_begin(columns, 2);
        for (int64_t c = 0; c < j->n_labels; c++) {
            if (j->counts[c] == 0) continue;
            ot_table_cell(&t, "%s", label_name(j, c, room, sizeof room));
            ot_table_cell(&t, "%s", ot_text_count(j->counts[c], a, sizeof a));
        }
        OT_TRY(ot_table_print(&t, stdout, err));
    }
    if (p->bad == 0) return OT_OK;
    printf("\n%s left out:\n", OT_COUNT_AS(p->bad, "file or folder cannot be used and is", "files or folders cannot be used and are"));
    for (int64_t i = 0; i < p->n_shown; i++) {
        fputs("  ", stdout);
        ot_put_safe(stdout, p->shown[i]);
        putchar('\n');
    }
    if (p->bad > p->n_shown) printf("  and %s more\n", ot_text_count(p->bad - p->n_shown, a, sizeof a));
    return OT_OK;
}

static ot_status print_json(const job *j, ot_error *err) {
    const ot_pictures *p = &j->p;
    const ot_picture_sizes *s = &j->sizes;
    char room[32];
    ot_json_out out = ot_json_out_open(stdout);
    ot_json_out_object(&out, NULL);
    ot_json_out_str(&out, "path", p->path);
    ot_json_out_str(&out, "layout", p->layout);
    ot_json_out_i64(&out, "pictures", p->n);
    ot_json_out_i64(&out, "unlabelled", j->unlabelled);
    ot_json_out_object(&out, "sizes");
    ot_json_out_i64(&out, "least_width", s->least_width);
    ot_json_out_i64(&out, "least_height", s->least_height);
    ot_json_out_i64(&out, "most_width", s->most_width);
    ot_json_out_i64(&out, "most_height", s->most_height);
    ot_json_out_end(&out);
    ot_json_out_array(&out, "classes");
    for (int64_t c = 0; c < j->n_labels; c++) {
        if (j->counts[c] == 0) continue;
        ot_json_out_object(&out, NULL);
        ot_json_out_str(&out, "label", label_name(j, c, room, sizeof room));
        ot_json_out_i64(&out, "pictures", j->counts[c]);
        ot_json_out_end(&out);
    }
    ot_json_out_end(&out);
    ot_json_out_i64(&out, "left_out", p->bad);
    ot_json_out_array(&out, "reasons");
    for (int64_t i = 0; i < p->n_shown; i++) ot_json_out_str(&out, NULL, p->shown[i]);
    ot_json_out_end(&out);
    return ot_json_out_close(&out, err);
}

ot_status ot_data_pictures(const ot_args *args, ot_error *err) {
    job j = {0};
    if (ot_args_operand_count(args, "FILE") > 1) return ot_args_fail(args, err, "one file or folder of pictures at a time");
    OT_TRY(ot_pictures_open(ot_args_operand(args, "FILE"), ot_args_flag(args, "strict"), &j.p, err));
    ot_pictures_limit(&j.p, ot_args_i64(args, "limit"));
    ot_status status = ot_pictures_check(&j.p, &j.sizes, NULL, NULL, err);
    if (status == OT_OK) status = count(&j, err);
    if (status == OT_OK) status = ot_args_flag(args, "json") ? print_json(&j, err) : print_text(&j, err);
    ot_free(j.counts);
    ot_pictures_close(&j.p);
    return status;
}
