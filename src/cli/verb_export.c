/* `offsite export`: a model in a form that other programs open, checked before it is kept. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "cli/common_options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/text.h"
#include "cli/verbs.h"
#include "protocol/export.h"

static const char *const formats[] = {"hf", "gguf", NULL};
static const char *const types[] = {"f32", "bf16", "f16", "q8_0", "q4_0", NULL};
static const ot_dtype dtypes[] = {OT_F32, OT_BF16, OT_F16, OT_Q8_0, OT_Q4_0};

static ot_status read_options(const ot_args *args, ot_export_options *o, ot_error *err) {
    int format = ot_args_choice(args, "format"), dtype = ot_args_choice(args, "dtype");
    bool gguf = format < 0 ? ot_path_ends(ot_args_str(args, "output"), ".gguf") : format == 1;
    *o = (ot_export_options){.format = gguf ? OT_EXPORT_GGUF : OT_EXPORT_HF,
                             .own_dtype = dtype < 0,
                             .dtype = dtype < 0 ? OT_BF16 : dtypes[dtype],
                             .adapter = ot_args_str(args, "adapter"),
                             .pre = ot_args_str(args, "pre-tokenizer"),
                             .shard_bytes = ot_args_i64(args, "shard-size"),
                             .force = ot_args_flag(args, "force")};
    if (ot_args_flag(args, "gguf-lora")) {
        if (format == 0) return ot_args_fail(args, err, "--gguf-lora makes a GGUF: it does not go with --format hf");
        if (o->adapter == NULL) return ot_args_fail(args, err, "--gguf-lora writes an adapter alone: say which with --adapter");
        o->format = OT_EXPORT_GGUF_LORA;
    }
    if (o->format == OT_EXPORT_HF && !ot_dtype_is_float(o->dtype)) {
        return ot_args_fail(args, err, "--dtype %s is a type of GGUF files: add --format gguf", types[dtype]);
    }
    if (o->format != OT_EXPORT_HF && ot_args_has(args, "shard-size")) return ot_args_fail(args, err, "--shard-size: a GGUF is one file");
    if (o->format != OT_EXPORT_GGUF && o->pre != NULL) return ot_args_fail(args, err, "--pre-tokenizer is for --format gguf");
    return OT_OK;
}

static void print_summary(const ot_args *args, const ot_export_options *o, const ot_export_summary *s) {
    char bytes[32];
    static const char *const what[] = {"a Hugging Face folder", "GGUF", "a LoRA adapter for llama.cpp"};
    if (s->merged > 0 && o->format != OT_EXPORT_GGUF_LORA) printf("merged the adapter into %s in f32\n", OT_COUNT_OF(s->merged, "tensor"));
    if (s->kept_wider > 0) {
        ot_note(args, "%s F16, since rows that are no multiple of 32 have no narrower type", OT_COUNT_AS(s->kept_wider, "matrix is", "matrices are"));
    }
    printf("opened it again: logits of ");
    if (s->pictures) printf("%s", OT_COUNT_OF(s->tokens, "made-up picture"));
    else printf("%s in %s", OT_COUNT_OF(s->tokens, "token"), OT_COUNT_OF(s->sequences, "sequence"));
    printf(" differ by %.3g of their spread, where rounding allows %.3g (the largest difference of one logit is %.3g)", s->difference, s->allowed, s->largest_difference);
    if (s->texts > 0) printf("; the tokenizer gives the same ids for %s", OT_COUNT_OF(s->texts, "text"));
    printf("\nwrote %s (%s, %s) to %s as %s\n", OT_COUNT_OF(s->tensors, "tensor"), ot_text_bytes(s->bytes, bytes, sizeof bytes), ot_dtype_info(s->dtype)->name,
           ot_args_str(args, "output"), what[o->format]);
    if (s->texts > 0 && !s->leading_blank) {
        ot_note(args, "texts that begin with a blank get one more blank in llama.cpp, which this tokenizer does not add; all others agree");
    }
    if (!s->tokenizer && o->format == OT_EXPORT_GGUF) ot_note(args, "the model has no tokenizer: the GGUF works with token ids only");
}

static ot_status run(const ot_args *args, ot_error *err) {
    ot_export_options o;
    ot_model *m = NULL;
    ot_export_summary s;
    OT_TRY(read_options(args, &o, err));
    OT_TRY(ot_model_open(ot_args_operand(args, "MODEL"), OT_F32, &m, err));
    ot_status status = ot_export(m, ot_args_str(args, "output"), &o, &s, err);
    ot_model_close(m);
    OT_TRY(status);
    if (!ot_args_flag(args, "json")) {
        print_summary(args, &o, &s);
        return OT_OK;
    }
    ot_json_out out = ot_json_out_open(stdout);
    ot_json_out_object(&out, NULL);
    ot_json_out_str(&out, "output", ot_args_str(args, "output"));
    ot_json_out_str(&out, "format", o.format == OT_EXPORT_HF ? "hf" : o.format == OT_EXPORT_GGUF ? "gguf" : "gguf-lora");
    ot_json_out_str(&out, "dtype", ot_dtype_info(s.dtype)->name);
    ot_json_out_i64(&out, "tensors", s.tensors);
    ot_json_out_i64(&out, "bytes", s.bytes);
    ot_json_out_i64(&out, "merged_tensors", s.merged);
    ot_json_out_bool(&out, "tokenizer", s.tokenizer);
    ot_json_out_i64(&out, "tokens_compared", s.tokens);
    ot_json_out_f64(&out, "logit_difference", s.difference);
    ot_json_out_f64(&out, "largest_logit_difference", s.largest_difference);
    ot_json_out_f64(&out, "allowed_difference", s.allowed);
    return ot_json_out_close(&out, err);
}

static const ot_option options[] = {
    {.name = "output", .letter = 'o', .kind = OT_KIND_PATH, .use = OT_PATH_REPLACED, .value = "OUT", .required = true, .help = "folder, or file with the ending .gguf"},
    {.name = "format", .kind = OT_KIND_ENUM, .choices = formats, .shown = "gguf for a name that ends in .gguf, else hf", .help = "what to write"},
    {.name = "dtype",
     .kind = OT_KIND_ENUM,
     .choices = types,
     .shown = "the model's own; bf16 for a quantised GGUF",
     .help = "type of the written matrices; q8_0 and q4_0 for gguf only"},
    {.name = "shard-size", .kind = OT_KIND_SIZE, .min = 1, .max = OT_NO_MAX, .shown = "5 GB", .help = "largest file of weights of a folder"},
    {.name = "pre-tokenizer",
     .kind = OT_KIND_STRING,
     .value = "NAME",
     .shown = "found by what the tokenizer does",
     .help = "llama.cpp's name for the way a text is cut before merging, such as gpt-2, smollm or qwen2"},
    {.name = "gguf-lora", .kind = OT_KIND_FLAG, .help = "write the LoRA adapter of --adapter alone, for llama.cpp over the model's GGUF"},
    {.name = "force", .kind = OT_KIND_FLAG, .transient = true, .help = "replace what is there already"},
    {0},
};
static const ot_option_group group = {"Export", options};
static const ot_operand operands[] = {{.name = "MODEL", .kind = OT_KIND_PATH, .help = "a Hugging Face model folder, an offer or a GGUF file"}, {0}};
static const ot_example examples[] = {
    {"An 8-bit file for llama.cpp", "offsite export adapted/ -o adapted.gguf --dtype q8_0"},
    {"A return merged into its model", "offsite export gpt2-xl/ --adapter return -o merged --dtype bf16"},
    {"An adapter for llama.cpp's --lora", "offsite export model/ --adapter return --gguf-lora -o adapter.gguf"},
    {0},
};

const ot_verb ot_verb_export = {
    .name = "export",
    .audience = OT_FOR_ANYONE,
    .summary = "write a model for other programs: a Hugging Face folder or a GGUF, an adapter merged in or apart",
    .about = "Whatever is written is opened again, and its logits over a few token sequences, or pictures, and its token ids for a few texts are compared with the exported "
             "model's before the result appears under its name.\n\n"
             "GGUF holds llama, mistral, qwen2, qwen3, gpt2 and bloom; llama.cpp has no OPT. The tokenizer goes with it. Vectors and learned positions are "
             "stored as F32; with q4_0 the embedding and the head are Q8_0. A sliding window has no place in a GGUF: its length becomes the context length.",
    .examples = examples,
    .operands = operands,
    .groups = (const ot_option_group *const[]){&group, &ot_options_adapter, &ot_options_json, NULL},
    .run = run,
};
