#include "cli/common_images.h"

#include <stdlib.h>
#include <string.h>

#include "base/count.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "data/preprocess.h"
#include "model/head.h"

enum { HEAD_AUTO, HEAD_KEEP, HEAD_NEW };
enum { SHOWN = 5 };

static ot_status read_names(const ot_args *args, const char ***names, int64_t *n, ot_error *err) {
    *n = ot_args_declares(args, "classes") ? ot_args_count(args, "classes") : 0;
    *names = NULL;
    if (*n == 0) return OT_OK;
    /* An array of pointers is meant. NOLINTNEXTLINE(bugprone-sizeof-expression) */
    OT_TRY(ot_calloc(*n, sizeof **names, "class names", (void **)names, err));
    for (int64_t i = 0; i < *n; i++) (*names)[i] = ot_args_str_at(args, "classes", i);
    return OT_OK;
}

static void tell_bad(const ot_args *args, const char *path, const ot_dataset *d) {
    const ot_pixels *p = d->pixels;
    if (p->bad == 0) return;
    ot_note(args, "warning: %s: %s left out, %s left%s", path,
            OT_COUNT_AS(p->bad, "file or folder cannot be used and was", "files or folders cannot be used and were"), OT_COUNT_ARE(d->rows, "picture"),
            ot_args_declares(args, "strict") ? " (--strict stops at the first)" : "");
    for (int64_t i = 0; i < p->n_shown && i < SHOWN; i++) ot_note(args, "  %s", p->shown[i]);
    if (p->bad > SHOWN) ot_note(args, "  and %s more: offsite data %s lists them", OT_COUNT(p->bad - SHOWN), path);
}

ot_status ot_common_images_open(const ot_args *args, const char *option, const ot_model *m, bool unlabelled, ot_dataset *out, ot_error *err) {
    if (ot_args_count(args, option) > 1) return ot_args_fail(args, err, "--%s: one file or folder of pictures at a time", option);
    static const char *const of_text[] = {"batch-tokens", "map", "chat-template", "task"};
    if (ot_args_declares(args, "pack") && ot_args_flag(args, "pack")) return ot_args_fail(args, err, "--pack is for text, and this model reads pictures");
    for (size_t i = 0; i < sizeof of_text / sizeof *of_text; i++) {
        if (ot_args_declares(args, of_text[i]) && ot_args_has(args, of_text[i])) return ot_args_fail(args, err, "--%s is for text, and this model reads pictures", of_text[i]);
    }
    const char **names = NULL, *path = ot_args_str_at(args, option, 0);
    ot_augment augment = {0};
    ot_image_options options = {.unlabelled = unlabelled, .model_path = m->path};
    if (ot_args_declares(args, "strict")) options.strict = ot_args_flag(args, "strict");
    if (ot_args_declares(args, "seed")) options.seed = (uint64_t)ot_args_i64(args, "seed");
    if (ot_args_declares(args, "augment")) {
        OT_TRY(ot_augment_parse(ot_args_str(args, "augment"), &augment, err));
        if (augment.crop || augment.flip > 0 || augment.jitter > 0) options.augment = &augment;
    }
    if (ot_args_declares(args, "limit") && ot_args_has(args, "limit")) options.limit = ot_args_i64(args, "limit");
    OT_TRY(read_names(args, &names, &options.n_classes, err));
    options.classes = names;
    ot_status status = ot_dataset_open_images(path, &m->desc, &options, out, err);
    ot_free(names);
    if (status == OT_OK) tell_bad(args, path, out);
    return status;
}

ot_status ot_common_images_number(const char *what, const ot_model *m, ot_dataset *d, ot_error *err) {
    ot_classes own;
    OT_TRY(ot_model_classes(m, &own, err));
    ot_status status = ot_dataset_number_classes(d, what, (const char *const *)own.names, own.n, err);
    ot_classes_free(&own);
    return status;
}

static ot_status choose(const ot_args *args, ot_model *m, const ot_pixels *data, const ot_classes *own, ot_error *err) {
    int head = ot_args_choice(args, "head");
    bool same = ot_classes_same_set(own, data->classes, data->n_classes);
    if (head == HEAD_KEEP || (head == HEAD_AUTO && same && !m->headless)) return OT_OK;
    if (data->n_classes == 1) {
        return ot_fail(err, OT_ERR_REFUSED, "--train: every picture is of one class, \"%s\": a new head needs a folder for each of two classes or more (--head keep: the class is the model's)",
                       data->classes[0]);
    }
    OT_TRY(ot_model_new_head(m, data->classes, data->n_classes, err));
    ot_note(args, "a new head for %s classes, %s ... %s, which begins with zeros", OT_COUNT(data->n_classes), data->classes[0], data->classes[data->n_classes - 1]);
    return OT_OK;
}

ot_status ot_common_images_head(const ot_args *args, ot_model *m, const ot_dataset *train, ot_error *err) {
    const ot_pixels *data = train->pixels;
    ot_classes own;
    OT_TRY(ot_model_classes(m, &own, err));
    ot_status status = OT_OK;
    if (data->classes != NULL) {
        status = choose(args, m, data, &own, err);
    } else if (ot_args_choice(args, "head") == HEAD_NEW) {
        status = ot_model_new_head(m, (const char *const *)own.names, own.n, err);
    } else if (m->headless) {
        m->headless = false; /* its zeros are as good as new ones */
    }
    ot_classes_free(&own);
    return status;
}
