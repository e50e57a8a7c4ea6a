/* `offsite split`: the owner makes an offer and a private ledger. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/common_model.h"
#include "cli/common_options.h"
#include "cli/output.h"
#include "cli/split_distill.h"
#include "cli/text.h"
#include "cli/verbs.h"
#include "protocol/split.h"

static ot_status print(const ot_args *args, const ot_split_summary *s, ot_error *err) {
    const char *offer = ot_args_str(args, "output");
    if (ot_args_flag(args, "json")) {
        ot_json_out out = ot_json_out_open(stdout);
        ot_json_out_object(&out, NULL);
        ot_json_out_str(&out, "offer", offer);
        ot_json_out_str(&out, "offer_id", s->offer_id);
        ot_json_out_i64(&out, "layers", s->layers);
        ot_json_out_i64(&out, "middle_kept", s->kept_middle);
        ot_json_out_i64(&out, "middle", s->middle);
        ot_json_out_i64(&out, "trainable", s->trainable);
        ot_json_out_i64(&out, "bytes", s->offer_bytes);
        ot_json_out_f64(&out, "middle_shipped_bit_exact", s->middle_bytes > 0 ? (double)s->exact_bytes / (double)s->middle_bytes : 0.0);
        return ot_json_out_close(&out, err);
    }
    char bytes[32];
    printf("offer %s (id %.8s): %" PRId64 " layers, %" PRId64 " of %" PRId64 " middle blocks kept, %" PRId64 " trainable values, weights %s\n", offer,
           s->offer_id, s->layers, s->kept_middle, s->middle, s->trainable, ot_text_bytes(s->offer_bytes, bytes, sizeof bytes));
    printf("the data owner holds %.0f %% of the middle's bytes exactly as you have them\n",
           s->middle_bytes > 0 ? 100.0 * (double)s->exact_bytes / (double)s->middle_bytes : 0.0);
    printf("private ledger %s.owner.json: keep it, plugging in needs it; send only %s\n", offer, offer);
    return OT_OK;
}

static ot_status run(const ot_args *args, ot_error *err) {
    static const ot_dtype dtypes[] = {OT_F32, OT_BF16, OT_F16};
    int dtype = ot_args_choice(args, "dtype");
    ot_split_options options = {.bottom = ot_args_i64(args, "bottom"),
                                .top = ot_args_i64(args, "top"),
                                .emulator = ot_args_str(args, "emulator"),
                                .own_dtype = dtype < 0,
                                .dtype = dtype < 0 ? OT_BF16 : dtypes[dtype],
                                .force = ot_args_flag(args, "force")};
    ot_model *m = NULL;
    OT_TRY(ot_model_open(ot_args_operand(args, "MODEL"), OT_F32, &m, err));
    ot_split_summary s;
    bool distils = ot_split_distill_step(options.emulator) != NULL;
    ot_status status = distils ? ot_split_distilled(args, m, &options, &s, err) : ot_split(m, ot_args_str(args, "output"), &options, &s, err);
    ot_model_close(m);
    return status == OT_OK ? print(args, &s, err) : status;
}

static const ot_option options[] = {
    {.name = "output", .letter = 'o', .kind = OT_KIND_PATH, .value = "OFFER", .required = true, .help = "folder of the offer; the ledger becomes OFFER.owner.json"},
    {.name = "bottom", .kind = OT_KIND_I64, .fallback = "2", .min = 0, .max = 100000, .help = "first blocks that the data owner may tune"},
    {.name = "top", .kind = OT_KIND_I64, .fallback = "2", .min = 0, .max = 100000, .help = "last blocks that the data owner may tune"},
    {.name = "emulator", .kind = OT_KIND_STRING, .value = "STEPS", .fallback = "",
     .help = "how the middle is made small: steps joined by '|', of layerdrop:keep=K, prune:ratio=0.5, fakequant:bits=4, quantize:bits=4, svd:ratio=0.5, crash:keep=K, distill:steps=N (last); empty: the middle as it is"},
    {.name = "data", .kind = OT_KIND_PATH, .value = "FILE", .help = "public text for the steps that look at text: distill learns on it (self:N: the model writes N tokens)"},
    {.name = "force", .kind = OT_KIND_FLAG, .transient = true, .help = "replace an offer of the same name"},
    {0},
};
static const ot_option_group group = {"Split", options};
static const ot_operand operands[] = {{.name = "MODEL", .kind = OT_KIND_PATH, .help = "the foundation model: a Hugging Face folder or a GGUF file"}, {0}};
static const ot_example examples[] = {
    {"Keep every third block of the middle", "offsite split gpt2-xl/ -o offer --emulator layerdrop:keep=16"},
    {"From a GGUF, in f32", "offsite split SmolLM2.gguf -o offer --emulator layerdrop:keep=20 --dtype f32"},
    {0},
};

const ot_verb ot_verb_split = {
    .name = "split",
    .audience = OT_FOR_OWNER,
    .summary = "cut a model into adapter layers and an emulator: an offer for the data owner",
    .about = "The bottom and top blocks become adapter layers that the data owner tunes. The middle is compressed into the emulator; what is left out "
             "of it never leaves your house. The offer is an ordinary Hugging Face model folder with a manifest.json.\n\n"
             "The ledger OFFER.owner.json says which blocks were kept. It lies beside the offer, never in it: do not send it.",
    .examples = examples,
    .operands = operands,
    .groups = (const ot_option_group *const[]){&group, &ot_options_storage, &ot_options_json, NULL},
    .run = run,
};
