/* `offsite report`: did the tuning work, what did it cost, and what did it give away? */
#include <stdio.h>

#include "base/file.h"
#include "cli/common_options.h"
#include "cli/report_figures.h"
#include "cli/report_page.h"
#include "cli/report_paper.h"
#include "cli/report_pictures.h"
#include "cli/report_print.h"
#include "cli/text.h"
#include "cli/verbs.h"

static ot_status write_page(const ot_report_view *v, const char *path, ot_error *err) {
    OT_TRY(ot_report_page(v, path, err));
    fputs("wrote ", stdout);
    ot_put_safe(stdout, path);
    fputc('\n', stdout);
    return OT_OK;
}

static ot_status print(const ot_args *args, const ot_report_view *v, ot_error *err) {
    const char *page = ot_args_str(args, "output");
    bool paper = ot_args_flag(args, "paper"), markdown = ot_args_flag(args, "markdown");
    int chosen = ot_args_flag(args, "json") + ot_args_flag(args, "csv") + markdown;
    if (chosen > 1) return ot_args_fail(args, err, "--json, --csv and --markdown are three forms of the same: ask for one at a time");
    if (page != NULL && (chosen > 0 || paper)) return ot_args_fail(args, err, "--output writes a page: leave --json, --csv, --markdown and --paper out, or --output");
    if (paper && (chosen > markdown || v->data_owner)) return ot_args_fail(args, err, "--paper is for the terminal and --markdown, and for who knows both sides");
    if (page != NULL) return write_page(v, page, err);
    if (paper) return ot_report_paper_print(v, stdout, markdown, err);
    if (ot_args_flag(args, "json")) return ot_report_print_json(v, stdout, err);
    if (ot_args_flag(args, "csv")) return ot_report_print_csv(v, stdout);
    if (ot_args_flag(args, "markdown")) return ot_report_print_markdown(v, stdout);
    return ot_report_print(v, stdout, err);
}

static ot_status run(const ot_args *args, ot_error *err) {
    ot_report report = {0};
    ot_report_table table = {0};
    bool data_owner = ot_args_flag(args, "data-owner");
    ot_status status = OT_OK;
    if (ot_report_is_figure(args)) return ot_report_figure(args, err);
    if (ot_args_has(args, "pictures")) return ot_report_pictures_page(args, err);
    const char *page = ot_args_str(args, "output");
    if (page != NULL && !ot_path_ends(page, ".html") && !ot_path_ends(page, ".htm")) {
        return ot_args_fail(args, err, "--output %s: the page's name must end in .html (fig3 and fig4 take a folder)", page);
    }
    for (int64_t i = 0; status == OT_OK && i < ot_args_operand_count(args, "DIR"); i++) {
        status = ot_report_read(&report, ot_args_operand_at(args, "DIR", i), err);
    }
    if (status == OT_OK) status = ot_report_tabulate(&report, data_owner, &table, err);
    if (status == OT_OK) {
        ot_report_view view = ot_report_view_of(&report, &table, data_owner);
        status = print(args, &view, err);
    }
    ot_report_table_free(&table);
    ot_report_free(&report);
    return status;
}

static const ot_option options[] = {
    {.name = "output", .letter = 'o', .kind = OT_KIND_PATH, .use = OT_PATH_WRITTEN, .value = "PAGE.html|DIR", .shown = "a table on the terminal; with --config, the figure's name",
     .help = "one HTML page with all of it, charts, cost and leakage; fig3, fig4: folder of the queue and of the figure's tables (.md, .csv) and plots (.svg); --pictures: the page"},
    {.name = "data-owner", .kind = OT_KIND_FLAG, .help = "only what that party can know: the emulator's scores and its own costs"},
    {.name = "csv", .kind = OT_KIND_FLAG, .help = "one line for each learning rate and measure"},
    {.name = "markdown", .kind = OT_KIND_FLAG, .help = "tables for a document"},
    {.name = "paper", .kind = OT_KIND_FLAG, .help = "tables in the form of the offsite-tuning paper's 1 to 3, 5 and 6, its numbers beside those of a model of the same kind"},
    {0},
};
static const ot_option_group group = {"Report", options};
static const ot_operand operands[] = {{.name = "DIR", .kind = OT_KIND_PATH, .repeated = true, .help = "folders that experiment made, or folders with results named for their role; fig3 or fig4 in front: that figure of them, or of the grid in --config"}, {0}};
static const ot_example examples[] = {
    {"The table of an experiment", "offsite report runs/"},
    {"A page to decide by, in one file", "offsite report runs/ -o report.html"},
    {"The same as the data owner may see it", "offsite report runs/ --data-owner"},
    {"Run a grid and draw where adapter layers sit best, or how emulators compare", "offsite report fig4 --config fig4.yaml -o fig4/"},
    {"The figure of a grid that ran already", "offsite report fig4 runs/ -o fig4/"},
    {"A classifier's right and wrong pictures, for the data owner", "offsite report scores/ --data-owner --pictures photos/ -o pictures.html"},
    {"As the paper's tables", "offsite report runs/ --paper"},
    {"For a document", "offsite report runs/ --markdown > results.md"},
    {0},
};

const ot_verb ot_verb_report = {
    .name = "report",
    .audience = OT_FOR_ANYONE,
    .summary = "show whether tuning worked, what it cost and what it gave away",
    .about = "Five numbers for each measure: zero-shot, the emulator, the tuned emulator, plug-in and full fine-tuning; and three conditions: plug-in is better than "
             "zero-shot, better than the tuned emulator, and near full fine-tuning (half or more of its gain). The learning rate is chosen by the tuned emulator's score, "
             "which the data owner can measure, never by plug-in. Several seeds give a mean and its spread.\n\n"
             "A folder of your own holds what --json printed as zero_shot.json, emulator.json, tuned.json, plug_in.json and full.json (eval), split.json, tune.json and "
             "finetune.json (and tune.jsonl, finetune.jsonl: logs); what is missing shows as '-'.\n\n"
             "fig3 (position of the adapter layers) and fig4 (method of the emulator) are the figures of the offsite-tuning paper. Their --config is the grid, as for "
             "`experiment`: it is run, or gone on with, in the folder -o, which also gets the figure's tables and plots. What the paper expects is checked against the numbers.",
    .examples = examples,
    .operands = operands,
    .own_config = ot_report_is_figure,
    .overrides = (const ot_override[]){{.name = "config", .help = "read options from a YAML file; options on the command line win; fig3, fig4: the grid to run (docs/report.md)"}, {0}},
    .groups = (const ot_option_group *const[]){&group, &ot_options_report_pictures, &ot_options_json, NULL},
    .run = run,
};
