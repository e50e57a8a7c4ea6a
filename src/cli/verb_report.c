/* `offsite report`: did the tuning work, what did it cost, and what did it give away? */
#include <stdio.h>

#include "cli/common_options.h"
#include "cli/report_figures.h"
#include "cli/report_pictures.h"
#include "cli/report_print.h"
#include "cli/verbs.h"

static ot_status print(const ot_args *args, const ot_report_view *v, ot_error *err) {
    int chosen = ot_args_flag(args, "json") + ot_args_flag(args, "csv") + ot_args_flag(args, "markdown");
    if (chosen > 1) return ot_args_fail(args, err, "--json, --csv and --markdown are three forms of the same: ask for one at a time");
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
    if (ot_args_has(args, "output")) return ot_args_fail(args, err, "--output is for the files of fig3 and fig4, and the page of --pictures");
    for (int64_t i = 0; status == OT_OK && i < ot_args_operand_count(args, "DIR"); i++) {
        status = ot_report_read(&report, ot_args_operand_at(args, "DIR", i), err);
    }
    if (status == OT_OK) status = ot_report_tabulate(&report, data_owner, &table, err);
    if (status == OT_OK) status = print(args, &(ot_report_view){.report = &report, .table = &table, .data_owner = data_owner}, err);
    ot_report_table_free(&table);
    ot_report_free(&report);
    return status;
}

static const ot_option options[] = {
    {.name = "output", .letter = 'o', .kind = OT_KIND_PATH, .value = "DIR", .shown = "the figure's name with --config",
     .help = "fig3, fig4: folder of the queue and of the figure's tables (.md, .csv) and plots (.svg); --pictures: the page"},
    {.name = "data-owner", .kind = OT_KIND_FLAG, .help = "only what that party can know: the emulator's scores and its own costs"},
    {.name = "csv", .kind = OT_KIND_FLAG, .help = "one line for each learning rate and measure"},
    {.name = "markdown", .kind = OT_KIND_FLAG, .help = "tables for a document"},
    {0},
};
static const ot_option_group group = {"Report", options};
static const ot_operand operands[] = {{.name = "DIR", .kind = OT_KIND_PATH, .repeated = true, .help = "folders that experiment made, or folders with results named for their role; fig3 or fig4 in front: that figure of them, or of the grid in --config"}, {0}};
static const ot_example examples[] = {
    {"The table of an experiment", "offsite report runs/"},
    {"The same as the data owner may see it", "offsite report runs/ --data-owner"},
    {"Run a grid and draw where adapter layers sit best, or how emulators compare", "offsite report fig4 --config fig4.yaml -o fig4/"},
    {"The figure of a grid that ran already", "offsite report fig4 runs/ -o fig4/"},
    {"A classifier's right and wrong pictures, for the data owner", "offsite report scores/ --data-owner --pictures photos/ -o pictures.html"},
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
             "finetune.json; what is missing shows as '-'.\n\n"
             "fig3 (position of the adapter layers) and fig4 (method of the emulator) are the figures of the offsite-tuning paper. Their --config is the grid, as for "
             "`experiment`: it is run, or gone on with, in the folder -o, which also gets the figure's tables and plots. What the paper expects is checked against the numbers.",
    .examples = examples,
    .operands = operands,
    .own_config = ot_report_is_figure,
    .overrides = (const ot_override[]){{.name = "config", .help = "read options from a YAML file; options on the command line win; fig3, fig4: the grid to run (docs/report.md)"}, {0}},
    .groups = (const ot_option_group *const[]){&group, &ot_options_report_pictures, &ot_options_json, NULL},
    .run = run,
};
