/* `offsite report SCORES --data-owner --pictures PHOTOS -o PAGE.html`: what the tuned model says of the data owner's pictures, for the data owner. */
#include "cli/report_pictures.h"

#include "base/count.h"
#include "cli/progress.h"
#include "report/pictures.h"

ot_status ot_report_pictures_page(const ot_args *args, ot_error *err) {
    const char *path = ot_args_str(args, "output");
    ot_report_pictures_options options = {
        .scores = ot_args_operand(args, "DIR"), .pictures = ot_args_str(args, "pictures"), .shown = ot_args_i64(args, "show")};
    if (!ot_args_flag(args, "data-owner")) return ot_args_fail(args, err, "--pictures puts the data owner's pictures into the page, so it is for that party alone: with --data-owner");
    if (path == NULL) return ot_args_fail(args, err, "--pictures needs -o PAGE.html");
    if (ot_args_operand_count(args, "DIR") > 1) return ot_args_fail(args, err, "--pictures: one folder of predictions at a time");
    if (ot_args_flag(args, "json") || ot_args_flag(args, "csv") || ot_args_flag(args, "markdown")) return ot_args_fail(args, err, "--pictures makes a page, and no other form");
    ot_report_pictures_counts counts;
    ot_html page;
    OT_TRY(ot_html_open(&page, "What the model says of the pictures", "for the data owner", err));
    ot_status status = ot_report_pictures(&page, &options, &counts, err);
    if (status != OT_OK) {
        ot_html_free(&page);
        return status;
    }
    OT_TRY(ot_html_save(&page, path, err));
    ot_note(args, "%s of the %s pictures of %s were scored", OT_COUNT(counts.scored), OT_COUNT(counts.all), options.pictures);
    ot_note(args, "wrote %s, which holds small copies of your pictures: keep it", path);
    return OT_OK;
}

static const ot_option options[] = {
    {.name = "pictures", .kind = OT_KIND_PATH, .value = "PHOTOS",
     .help = "with --data-owner, a page (-o PAGE.html) of a classifier's predictions: DIR holds what `eval --images PHOTOS --output DIR` wrote; right and wrong ones as small "
             "pictures, each class, and what is taken for what"},
    {.name = "show", .kind = OT_KIND_I64, .fallback = "24", .min = 0, .max = 1000, .help = "small pictures of right and of wrong predictions"},
    {0},
};
const ot_option_group ot_options_report_pictures = {"Pictures", options};
