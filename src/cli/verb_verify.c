/* `offsite verify`: does an offer or a return hold what its manifest says? */
#include <inttypes.h>
#include <stdio.h>

#include "cli/common_options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/text.h"
#include "cli/verbs.h"
#include "protocol/verify.h"

static void observe(void *context, int64_t done, int64_t total) {
    (void)total;
    ot_progress_sample s = OT_PROGRESS_SAMPLE;
    s.step = done;
    ot_progress_step(context, &s);
}

static ot_status print_json(const ot_verify_report *r, ot_error *err) {
    const ot_manifest *m = &r->manifest;
    ot_json_out out = ot_json_out_open(stdout);
    ot_json_out_object(&out, NULL);
    ot_json_out_bool(&out, "ok", true);
    ot_json_out_str(&out, "kind", m->kind == OT_BUNDLE_OFFER ? "offer" : "return");
    ot_json_out_str(&out, "offer_id", m->offer_id);
    ot_json_out_str(&out, "architecture", m->architecture);
    ot_json_out_i64(&out, "layers", m->layers);
    ot_json_out_i64(&out, "bottom", m->bottom);
    ot_json_out_i64(&out, "top", m->top);
    if (m->kind == OT_BUNDLE_RETURN) {
        ot_json_out_str(&out, "method", m->method);
        if (r->fits_offer) ot_json_out_bool(&out, "fits_offer", true);
    }
    ot_json_out_i64(&out, "tensors", r->tensors);
    ot_json_out_i64(&out, "values", r->values);
    ot_json_out_i64(&out, "bytes", r->bytes);
    ot_json_out_array(&out, "files");
    for (int64_t i = 0; i < m->n_files; i++) ot_json_out_str(&out, NULL, m->files[i].name);
    ot_json_out_end(&out);
    ot_json_out_array(&out, "other_files");
    for (int64_t i = 0; i < r->n_others; i++) ot_json_out_str(&out, NULL, r->others[i]);
    return ot_json_out_close(&out, err);
}

/* Of the manifest's files, or of others. */
static void put_names(const char *head, int64_t n, const ot_manifest *m, char *const *others) {
    if (n == 0) return;
    fputs(head, stdout);
    for (int64_t i = 0; i < n; i++) {
        putchar(' ');
        ot_put_safe(stdout, m != NULL ? m->files[i].name : others[i]);
    }
    putchar('\n');
}

static void print_report(const ot_verify_report *r) {
    const ot_manifest *m = &r->manifest;
    char bytes[32];
    if (m->kind == OT_BUNDLE_OFFER) {
        printf("offer %s: %s, %s, of which %" PRId64 " + %" PRId64 " are to be tuned\n", m->offer_id, m->architecture, OT_COUNT_OF(m->layers, "layer"), m->bottom, m->top);
    } else {
        printf("return for offer %s: %s, tuned by %s\n", m->offer_id, m->architecture, m->method);
    }
    printf("ok  %s, %s, %s: as the manifest lists them, none missing, none besides\n", OT_COUNT_OF(r->tensors, "tensor"), OT_COUNT_OF(r->values, "value"),
           ot_text_bytes(r->bytes, bytes, sizeof bytes));
    printf("ok  SHA-256, dtype and shape of each\nok  every value is finite\n");
    put_names("ok  SHA-256 of:", m->n_files, m, NULL);
    if (m->kind == OT_BUNDLE_OFFER) printf("ok  config.json describes these tensors, and the offer id follows from all of it\n");
    if (r->fits_offer) printf("ok  it is for the offer given and fits its layers\n");
    put_names("not covered by the manifest:", r->n_others, NULL, r->others);
}

static ot_status run(const ot_args *args, ot_error *err) {
    ot_verify_report r;
    ot_progress progress;
    ot_progress_begin(&progress, args, "verify", "tensor", 0, 0);
    ot_status status = ot_verify(ot_args_operand(args, "BUNDLE"), ot_args_str(args, "offer"), observe, &progress, &r, err);
    ot_progress_end(&progress);
    OT_TRY(status);
    if (ot_args_flag(args, "json")) {
        status = print_json(&r, err);
    } else {
        print_report(&r);
    }
    ot_verify_report_free(&r);
    return status;
}

static const ot_option options[] = {
    {.name = "offer", .kind = OT_KIND_PATH, .value = "OFFER", .help = "the offer that a return is for: its tensors must fit that offer's layers"},
    {0},
};
static const ot_option_group group = {"Check", options};
static const ot_operand operands[] = {{.name = "BUNDLE", .kind = OT_KIND_PATH, .help = "an offer or a return"}, {0}};
static const ot_example examples[] = {
    {"Before tuning: is the offer what its owner sent", "offsite verify offer"},
    {"Before plugging in: is the return sound and for this offer", "offsite verify return --offer offer"},
    {0},
};

const ot_verb ot_verb_verify = {
    .name = "verify",
    .audience = OT_FOR_ANYONE,
    .summary = "check an offer or a return against its manifest",
    .about = "Every tensor must have the dtype, shape and SHA-256 that manifest.json lists, none may be missing or besides them, and all values must be "
             "finite. The tokenizer's files and their like must be as they were when the manifest was written; files that it does not list are named. An offer must open as the model that "
             "config.json describes, and its id must follow from all of these.\n\n"
             "Exit code 0: all is as it should be; 3: something is off, and standard error says what.",
    .examples = examples,
    .operands = operands,
    .groups = (const ot_option_group *const[]){&group, &ot_options_json, NULL},
    .run = run,
};
