/* See common_options.h. */
#include "cli/common_options.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/count.h"
#include "base/parallel.h"

static const char *const schedules[] = {"cosine", "linear", "constant", NULL};
static const char *const guards[] = {"warn", "skip", "stop", "off", NULL};
static const char *const selections[] = {"best", "last", NULL};
static const char *const arithmetic[] = {"f32", "bf16", NULL};
static const char *const storage[] = {"f32", "bf16", "f16", NULL};
static const char *const backends[] = {"cpu", "ref", NULL};

static const ot_option training[] = {
    {.name = "train",
     .kind = OT_KIND_PATH,
     .value = "FILE",
     .required = true,
     .repeatable = true,
     .help = "training data, once for each file: text, JSON lines, either packed by gzip or zstd, or .safetensors with input_ids [N, T]; "
             "pictures: a folder with a folder for each class, a .tar archive of such or of WebDataset's samples, a .csv list of path and label, or "
             ".safetensors with pixel_values and labels"},
    {.name = "valid",
     .kind = OT_KIND_PATH,
     .value = "FILE",
     .repeatable = true,
     .help = "held-out data: the weights with the best loss on it are kept"},
    {.name = "steps",
     .kind = OT_KIND_I64,
     .min = 1,
     .max = OT_NO_MAX,
     .shown = "as many as --epochs make",
     .help = "optimizer steps; overrides --epochs"},
    {.name = "epochs", .kind = OT_KIND_I64, .fallback = "5", .min = 1, .max = OT_NO_MAX, .help = "passes over the training data"},
    {.name = "batch", .kind = OT_KIND_I64, .fallback = "1", .min = 1, .max = OT_NO_MAX, .help = "rows in a micro-batch"},
    {.name = "grad-accum",
     .kind = OT_KIND_I64,
     .fallback = "1",
     .min = 1,
     .max = OT_NO_MAX,
     .help = "micro-batches in an optimizer step"},
    {.name = "block",
     .kind = OT_KIND_I64,
     .fallback = "512",
     .min = 2,
     .max = OT_NO_MAX,
     .help = "tokens in a row cut from text, whose remainder is dropped; other examples have so many at most"},
    {.name = "shuffle",
     .kind = OT_KIND_FLAG,
     .fallback = "yes",
     .help = "take rows in their order, from the first again at the end"},
    {.name = "window",
     .kind = OT_KIND_I64,
     .min = 0,
     .max = OT_NO_MAX,
     .value = "ROWS",
     .shown = "0 up to 64 MiB of text, else about 4 million tokens",
     .help = "stream text and JSON lines through so many rows, which are shuffled among themselves; 0: hold all of it"},
    {.name = "seed",
     .kind = OT_KIND_I64,
     .fallback = "0",
     .min = 0,
     .max = OT_NO_MAX,
     .help = "of shuffling, dropout and fresh PEFT tensors; the same seed gives the same bytes"},
    {.name = "valid-every",
     .kind = OT_KIND_I64,
     .min = 1,
     .max = OT_NO_MAX,
     .shown = "once an epoch and at the end",
     .help = "validate every N steps"},
    {.name = "patience",
     .kind = OT_KIND_I64,
     .fallback = "0",
     .min = 0,
     .max = OT_NO_MAX,
     .adjustable = true,
     .help = "end the run after N validations in a row without a better one; 0: never"},
    {.name = "guard",
     .kind = OT_KIND_ENUM,
     .choices = guards,
     .fallback = "warn",
     .adjustable = true,
     .help = "steps that are not finite, spikes of the loss or the gradient norm, and a loss that has risen far above the first ones: warn skips the first and "
             "tells of the others, skip skips spikes too, stop ends the run at the first of any; off looks for the first only"},
    {.name = "guard-limit",
     .kind = OT_KIND_I64,
     .fallback = "5",
     .min = 1,
     .max = OT_NO_MAX,
     .adjustable = true,
     .help = "skipped steps in a row that end the run"},
    {.name = "save-every",
     .kind = OT_KIND_I64,
     .min = 1,
     .max = OT_NO_MAX,
     .shown = "once a minute, for at most 2 % of the time",
     .transient = true,
     .help = "write a checkpoint every N steps"},
    {.name = "keep",
     .kind = OT_KIND_I64,
     .fallback = "1",
     .min = 1,
     .max = 1000,
     .transient = true,
     .help = "checkpoints to keep while the run goes: the newest, and those before it to go back to by hand"},
    {.name = "select",
     .kind = OT_KIND_ENUM,
     .choices = selections,
     .shown = "best with --valid, else last",
     .help = "which weights are the result"},
    {.name = "log",
     .kind = OT_KIND_PATH,
     .use = OT_PATH_WRITTEN,
     .value = "FILE.jsonl",
     .transient = true,
     .help = "write one JSON object for each step"},
    {.name = "memory-limit",
     .kind = OT_KIND_SIZE,
     .value = "SIZE",
     .min = 0,
     .max = OT_NO_MAX,
     .shown = "what is free",
     .transient = true,
     .help = "refuse a run whose plan needs more than SIZE (8G, 700M), before it begins; 0: refuse none"},
    {.name = "resume",
     .kind = OT_KIND_FLAG,
     .transient = true,
     .help = "go on from the checkpoint in the output folder, or start if there is none"},
    {.name = "force", .kind = OT_KIND_FLAG, .transient = true, .help = "replace what the output folder already holds"},
    {0},
};
const ot_option_group ot_options_training = {"Training", training};

static const ot_option optimizer[] = {
    {.name = "optimizer",
     .kind = OT_KIND_STRING,
     .value = "NAME",
     .fallback = "adamw",
     .help = "adamw:beta1=0.9,beta2=0.999,eps=1e-8, adamw8bit (the same with 8-bit moments: a quarter of their memory) or sgd:momentum=0.9 "
             "(values shown are the defaults)"},
    {.name = "lr", .kind = OT_KIND_F64, .fallback = "1e-4", .min = 0, .max = OT_NO_MAX, .help = "peak learning rate"},
    {.name = "lr-grid",
     .kind = OT_KIND_F64,
     .value = "X,X,...",
     .min = 0,
     .max = OT_NO_MAX,
     .commas = true,
     .help = "in place of --lr: one run for each rate, all alike otherwise; the one with the best loss on --valid is the result"},
    {.name = "warmup",
     .kind = OT_KIND_I64,
     .min = 0,
     .max = OT_NO_MAX,
     .shown = "100, or a tenth of the steps of runs under 1000",
     .help = "steps over which the rate rises from 0"},
    {.name = "schedule",
     .kind = OT_KIND_ENUM,
     .choices = schedules,
     .fallback = "cosine",
     .help = "how the rate falls after the warm-up"},
    {.name = "weight-decay",
     .kind = OT_KIND_F64,
     .fallback = "0.01",
     .min = 0,
     .max = OT_NO_MAX,
     .help = "decoupled decay of tensors with two or more dimensions"},
    {.name = "clip",
     .kind = OT_KIND_F64,
     .fallback = "1.0",
     .min = 0,
     .max = OT_NO_MAX,
     .help = "largest norm of all gradients together; 0 turns clipping off"},
    {.name = "dropout",
     .kind = OT_KIND_STRING,
     .value = "X|config",
     .fallback = "0",
     .help = "dropout rate of the model's blocks, or the one in the model's config"},
    {.name = "label-smoothing",
     .kind = OT_KIND_F64,
     .fallback = "0",
     .min = 0,
     .max = 0.999,
     .help = "share of every target that is spread evenly over all classes, or the vocabulary; validation has none"},
    {.name = "augment",
     .kind = OT_KIND_STRING,
     .value = "CHANGES",
     .fallback = "none",
     .help = "random changes of picture files in training, with commas between them: crop (a part of them, at least 0.08 of the area or crop=X, brought to "
             "full size), flip (left for right, half of them or flip=X), jitter=X (brightness, contrast and saturation by up to X); none"},
    {0},
};
const ot_option_group ot_options_optimizer = {"Optimizer", optimizer};

static const char *const heads[] = {"auto", "keep", "new", NULL};

static const ot_option peft[] = {
    {.name = "peft",
     .kind = OT_KIND_STRING,
     .value = "METHOD",
     .fallback = "full",
     .help = "what is trained: full, bitfit, lora:r=4,alpha=32,dropout=0.1,targets=all, dora with the keys of lora, houlsby:width=64,dropout=0.1, ia3, prefix:tokens=20 or "
             "prompt:tokens=5 (values shown are the defaults), or several joined by '|', as in 'lora|bitfit'; of a classifier also head, which trains nothing "
             "else"},
    {.name = "init-adapter",
     .kind = OT_KIND_PATH,
     .value = "FILE.safetensors",
     .help = "begin the tensors that the method adds (LoRA, DoRA, Houlsby, IA3, prefix, prompt) from a file, or from an adapter folder of this program or of PEFT, instead of at random; a folder "
             "also begins the parameters that it replaces (bitfit)"},
    {.name = "head-lr-scale",
     .kind = OT_KIND_F64,
     .fallback = "10",
     .min = 0,
     .max = OT_NO_MAX,
     .help = "learning rate of a classification head, as a multiple of --lr"},
    {.name = "head",
     .kind = OT_KIND_ENUM,
     .choices = heads,
     .fallback = "auto",
     .help = "a classifier's head: keep the model's, whose classes the data's must be; a new one of zeros for the classes of the data; auto: the model's "
             "where its classes are those of the data"},
    {.name = "classes",
     .kind = OT_KIND_STRING,
     .value = "NAME,...",
     .commas = true,
     .help = "names of the classes that the labels of .safetensors count from 0 (folders of pictures name theirs)"},
    {0},
};
const ot_option_group ot_options_peft = {"Trained parameters", peft};

static const ot_option compute[] = {
    {.name = "dtype", .kind = OT_KIND_ENUM, .choices = arithmetic, .fallback = "f32", .help = "arithmetic"},
    {.name = "threads",
     .kind = OT_KIND_I64,
     .fallback = "0",
     .min = 0,
     .max = 4096,
     .shown = "all cores",
     .transient = true,
     .help = "processor threads; results do not depend on their number"},
    {.name = "backend",
     .kind = OT_KIND_ENUM,
     .choices = backends,
     .fallback = "cpu",
     .transient = true,
     .help = "kernels: the fast ones, or the plain C reference"},
    {0},
};
const ot_option_group ot_options_compute = {"Computation", compute};

static const ot_option memory[] = {
    {.name = "recompute", .kind = OT_KIND_FLAG, .help = "compute activations again in the backward pass instead of keeping them"},
    {0},
};
const ot_option_group ot_options_memory = {"Memory", memory};

static const ot_option stored[] = {
    {.name = "dtype",
     .kind = OT_KIND_ENUM,
     .choices = storage,
     .shown = "the model's own; bf16 for GGUF",
     .help = "type of the written weights"},
    {0},
};
const ot_option_group ot_options_storage = {"Storage", stored};

static const ot_option adapter[] = {
    {.name = "adapter",
     .kind = OT_KIND_PATH,
     .value = "DIR",
     .help = "lay a return or an adapter folder (ours or PEFT's) over the model; a return goes over its own offer, or over the whole model to see it "
             "plugged in"},
    {0},
};
const ot_option_group ot_options_adapter = {"Adapter", adapter};

static const ot_option json[] = {
    {.name = "json", .kind = OT_KIND_FLAG, .transient = true, .help = "print one JSON object on standard output"},
    {0},
};
const ot_option_group ot_options_json = {"Output", json};

ot_status ot_common_dropout(const ot_args *args, ot_dropout *out, ot_error *err) {
    const char *text = ot_args_str(args, "dropout");
    *out = (ot_dropout){.from_config = strcmp(text, "config") == 0};
    if (out->from_config) return OT_OK;
    char *end;
    double v = text[strspn(text, "0123456789.eE-+")] == '\0' ? strtod(text, &end) : NAN;
    if (*text == '\0' || isnan(v) || *end != '\0' || !(v >= 0.0 && v < 1.0)) {
        return ot_args_fail(args, err, "--dropout: '%s' is neither a rate from 0 up to, not including, 1 nor 'config'", text);
    }
    out->rate = v;
    return OT_OK;
}

ot_status ot_common_warmup(const ot_args *args, int64_t steps, int64_t usual, int64_t *out, ot_error *err) {
    int64_t warmup = steps / 10 < usual ? steps / 10 : usual;
    if (ot_args_has(args, "warmup")) warmup = ot_args_i64(args, "warmup");
    if (warmup > steps) {
        return ot_args_fail(args, err, "--warmup: %" PRId64 " is more than the run's %" PRId64 " step%s", warmup, steps, OT_PLURAL(steps));
    }
    *out = warmup;
    return OT_OK;
}

void ot_common_apply(const ot_args *args) {
    if (ot_args_declares(args, "threads")) ot_threads_set((int)ot_args_i64(args, "threads"));
}
