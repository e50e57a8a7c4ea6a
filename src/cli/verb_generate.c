/* `offsite generate`: text or token ids that follow a prompt. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/common_model.h"
#include "cli/common_options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/text.h"
#include "cli/verbs.h"
#include "data/ask.h"
#include "eval/generate.h"
#include "eval/prompts.h"
#include "eval/text_stream.h"

enum { MAX_STOPS = 64, MAX_END_IDS = 64, PIECE = 512 };

/* The text of one sequence: printed at once when it is its turn, kept until then. */
typedef struct writing {
    struct job *job;
    ot_text_stream stream;
    int64_t sequence, tokens;
    char *text;
    int64_t size, capacity, printed;
    bool done;
} writing;

typedef struct job {
    const ot_args *args;
    const ot_model *model;
    ot_tokenizer *tokenizer; /* NULL: ids in, ids out */
    ot_prompts prompts;
    ot_generate_options options;
    const char *stops[MAX_STOPS + 1];
    int64_t n_stops;
    int32_t end_ids[MAX_END_IDS + 1];
    int32_t turn_end; /* of a chat: what ends the answer; -1: no token */
    const char *turn_stop; /* the text that does; NULL: none */
    writing *writings; /* one a prompt, with a tokenizer */
    int64_t turn;      /* the sequence whose text goes out as it comes */
    bool json, terminal;
    ot_status status; /* of the callbacks */
    ot_error *err;
} job;

/* ==== Text as it comes. ==== */

/* A model may emit anything: on a terminal control characters other than line breaks and tabs are left out. */
static void print_text(const job *j, const char *text, int64_t size) {
    if (!j->terminal) {
        fwrite(text, 1, (size_t)size, stdout);
    } else {
        for (int64_t i = 0; i < size; i++) {
            unsigned char c = (unsigned char)text[i];
            if ((c >= 0x20 && c != 0x7F) || c == '\n' || c == '\t') putchar(c);
        }
    }
    fflush(stdout);
}

static void keep_text(void *context, const char *text, int64_t size) {
    writing *w = context;
    job *j = w->job;
    if (j->status != OT_OK) return;
    j->status = ot_grow((void **)&w->text, &w->capacity, w->size + size, 1, "generated text", j->err);
    if (j->status != OT_OK) return;
    memcpy(w->text + w->size, text, (size_t)size);
    w->size += size;
}

/* Everything that may go out now: of the sequence whose turn it is, and of those after it once it is done. */
static void print_due(job *j) {
    while (!j->json && j->turn < j->prompts.count) {
        writing *w = &j->writings[j->turn];
        if (w->size > w->printed) print_text(j, w->text + w->printed, w->size - w->printed);
        w->printed = w->size;
        if (!w->done) return;
        print_text(j, "\n\n", ++j->turn < j->prompts.count ? 2 : 1);
    }
}

static void add_piece(job *j, writing *w, int32_t id) {
    char piece[PIECE], *longer = NULL;
    size_t size = ot_tokenizer_piece(j->tokenizer, id, piece, sizeof piece);
    if (size > sizeof piece) {
        j->status = ot_malloc((int64_t)size, 1, "a token's text", (void **)&longer, j->err);
        if (j->status == OT_OK) ot_tokenizer_piece(j->tokenizer, id, longer, size);
    }
    if (j->status == OT_OK) j->status = ot_text_stream_add(&w->stream, longer != NULL ? longer : piece, (int64_t)size, j->err);
    ot_free(longer);
}

static bool take_token(void *context, int64_t sequence, int32_t id) {
    job *j = context;
    writing *w = &j->writings[sequence];
    bool end = false;
    for (int64_t i = 0; i < j->options.n_end_ids; i++) end = end || j->end_ids[i] == id;
    if (!end) add_piece(j, w, id);
    w->done = end || w->stream.stopped || ++w->tokens == j->options.max_new;
    if (w->done) ot_text_stream_end(&w->stream);
    print_due(j);
    return !w->done && j->status == OT_OK;
}

/* ==== Setting up. ==== */

static ot_status take_chat(void *context, const int32_t *ids, int64_t count, ot_error *err) {
    job *j = context;
    for (int64_t i = 0; i < count; i++) {
        if (ids[i] < j->model->desc.vocab_size) continue;
        return ot_fail(err, OT_ERR_REFUSED, "the tokenizer gave id %d, but the model's vocabulary has %lld: they do not belong together", ids[i],
                       (long long)j->model->desc.vocab_size);
    }
    return ot_prompts_add_ids(&j->prompts, ids, count, err);
}

static ot_status read_chats(job *j, ot_error *err) {
    const char *input = ot_args_str(j->args, "input"), *prompt = ot_args_str(j->args, "prompt");
    ot_data_options options = {.tokenizer_path = j->model->path, .vocab = j->model->desc.vocab_size, .chat_template = ot_args_str(j->args, "chat-template")};
    ot_data_reader *r = NULL;
    OT_TRY(ot_tokenizer_open(j->model->path, &j->tokenizer, err));
    OT_TRY(ot_data_reader_open(&options, &r, err));
    ot_status status = input != NULL ? ot_ask_file(r, input, take_chat, j, err) : ot_ask_text(r, prompt, (int64_t)strlen(prompt), take_chat, j, err);
    j->turn_end = ot_ask_end(r, &j->turn_stop);
    ot_data_reader_close(r);
    return status;
}

static ot_status read_prompts(job *j, ot_error *err) {
    const ot_args *args = j->args;
    const char *input = ot_args_str(args, "input"), *prompt = ot_args_str(args, "prompt"), *file = ot_args_str(args, "prompt-file");
    if (ot_args_flag(args, "chat")) return read_chats(j, err);
    if (input != NULL) return ot_prompts_read_ids(&j->prompts, input, j->model->desc.vocab_size, err);
    OT_TRY(ot_tokenizer_open(j->model->path, &j->tokenizer, err));
    if (file != NULL) return ot_prompts_read_lines(&j->prompts, j->tokenizer, file, err);
    return ot_prompts_add_text(&j->prompts, j->tokenizer, prompt, (int64_t)strlen(prompt), err);
}

static ot_status prepare_writings(job *j, ot_error *err) {
    if (j->tokenizer == NULL) return OT_OK;
    OT_TRY(ot_calloc(j->prompts.count, sizeof *j->writings, "generated texts", (void **)&j->writings, err));
    for (int64_t i = 0; i < j->prompts.count; i++) {
        writing *w = &j->writings[i];
        *w = (writing){.job = j, .sequence = i, .stream = {.stops = j->stops, .n_stops = j->n_stops, .put = keep_text, .context = w}};
    }
    j->options.token = take_token;
    j->options.context = j;
    return OT_OK;
}

static ot_status prepare(job *j, ot_error *err) {
    const ot_args *args = j->args;
    ot_generate_options *o = &j->options;
    OT_TRY(ot_common_backend(args, &o->backend, &o->compute, err));
    OT_TRY(read_prompts(j, err));
    o->max_new = ot_args_i64(args, "max-new");
    for (int64_t i = 0; !ot_args_has(args, "max-new") && i < j->prompts.count; i++) {
        int64_t room = ot_generate_room(&j->model->desc, o->hooks, j->prompts.items[i].count);
        if (room > 0 && room < o->max_new) o->max_new = room;
    }
    o->lanes = ot_args_i64(args, "lanes");
    o->sampling = (ot_sampling){.temperature = ot_args_flag(args, "greedy") ? 0.0 : ot_args_f64(args, "temperature"),
                                .top_k = ot_args_i64(args, "top-k"),
                                .top_p = ot_args_f64(args, "top-p"),
                                .seed = (uint64_t)ot_args_i64(args, "seed")};
    if (!ot_args_flag(args, "ignore-eos")) {
        OT_TRY(ot_generate_end_ids(j->model, j->end_ids, MAX_END_IDS, &o->n_end_ids, err));
        int32_t eos = j->tokenizer != NULL ? ot_tokenizer_eos(j->tokenizer) : -1;
        if (o->n_end_ids == 0 && eos >= 0) j->end_ids[o->n_end_ids++] = eos;
        if (j->turn_end >= 0) j->end_ids[o->n_end_ids++] = j->turn_end;
        if (j->turn_stop != NULL) j->stops[j->n_stops++] = j->turn_stop;
        o->end_ids = j->end_ids;
    }
    for (int64_t i = 0; i < ot_args_count(args, "stop"); i++) j->stops[j->n_stops++] = ot_args_str_at(args, "stop", i);
    return prepare_writings(j, err);
}

/* ==== Output. ==== */

static ot_status print_json(const job *j, const ot_generated *g, ot_error *err) {
    ot_json_out out = ot_json_out_open(stdout);
    ot_json_out_object(&out, NULL);
    ot_json_out_array(&out, "ids");
    for (int64_t i = 0; i < j->prompts.count; i++) {
        ot_json_out_array(&out, NULL);
        for (int64_t t = 0; t < g->counts[i]; t++) ot_json_out_i64(&out, NULL, g->ids[i * j->options.max_new + t]);
        ot_json_out_end(&out);
    }
    ot_json_out_end(&out);
    if (j->tokenizer != NULL) {
        ot_json_out_array(&out, "texts");
        for (int64_t i = 0; i < j->prompts.count; i++) {
            ot_json_out_text(&out, NULL, j->writings[i].size > 0 ? j->writings[i].text : "", (size_t)j->writings[i].size);
        }
    }
    return ot_json_out_close(&out, err);
}

static void print_ids(const job *j, const ot_generated *g) {
    for (int64_t i = 0; i < j->prompts.count; i++) {
        putchar('[');
        for (int64_t t = 0; t < g->counts[i]; t++) printf("%s%" PRId32, t > 0 ? ", " : "", g->ids[i * j->options.max_new + t]);
        puts("]");
    }
}

static void say_speed(const job *j, const ot_generated *g) {
    char bytes[32];
    int64_t later = g->new_tokens - j->prompts.count; /* the first of each came with its prompt */
    ot_note(j->args, "%s, %.1f a second; %s, %.1f a second; memory besides the weights %s", OT_COUNT_OF(g->prompt_tokens, "prompt token"),
            g->prompt_seconds > 0 ? (double)g->prompt_tokens / g->prompt_seconds : 0.0, OT_COUNT_OF(g->new_tokens, "new token"),
            g->new_seconds > 0 ? (double)later / g->new_seconds : 0.0, ot_text_bytes(g->bytes, bytes, sizeof bytes));
}

static ot_status generate(job *j, ot_error *err) {
    ot_generated g = {0};
    OT_TRY(prepare(j, err));
    ot_status status = ot_generate(j->model, j->prompts.items, j->prompts.count, &j->options, &g, err);
    if (status == OT_OK) status = j->status;
    if (status == OT_OK && j->json) status = print_json(j, &g, err);
    if (status == OT_OK && !j->json && j->tokenizer == NULL) print_ids(j, &g);
    if (status == OT_OK && !j->json) say_speed(j, &g);
    ot_generated_free(&g);
    return status;
}

static ot_status check_usage(const ot_args *args, ot_error *err) {
    int given = ot_args_has(args, "input") + ot_args_has(args, "prompt") + ot_args_has(args, "prompt-file");
    if (given != 1) return ot_args_fail(args, err, "give one of --prompt TEXT, --prompt-file FILE and --input IN.safetensors");
    if (ot_args_flag(args, "greedy") && (ot_args_has(args, "temperature") || ot_args_has(args, "top-k") || ot_args_has(args, "top-p"))) {
        return ot_args_fail(args, err, "--greedy takes the likeliest token: --temperature, --top-k and --top-p mean nothing with it");
    }
    bool chat = ot_args_flag(args, "chat");
    if (chat && ot_args_has(args, "prompt-file")) return ot_args_fail(args, err, "--chat takes --prompt TEXT or --input MESSAGES.jsonl, not --prompt-file");
    if (!chat && ot_args_has(args, "chat-template")) return ot_args_fail(args, err, "--chat-template means nothing without --chat");
    if (!chat && ot_args_has(args, "input") && ot_args_has(args, "stop")) return ot_args_fail(args, err, "--stop needs text: it means nothing with --input");
    if (ot_args_count(args, "stop") > MAX_STOPS) return ot_args_fail(args, err, "--stop: more than %d texts", MAX_STOPS);
    return OT_OK;
}

static ot_status run(const ot_args *args, ot_error *err) {
    OT_TRY(check_usage(args, err));
    ot_common_model c = {0};
    OT_TRY(ot_common_open(args, &c, err));
    if (c.model->desc.vision) {
        ot_status refused = ot_args_fail(args, err, "%s reads pictures and writes no text", c.model->path);
        ot_common_close(&c);
        return refused;
    }
    job j = {.args = args, .model = c.model, .turn_end = -1, .json = ot_args_flag(args, "json"), .terminal = isatty(STDOUT_FILENO) != 0, .err = err};
    j.options.hooks = c.hooks;
    ot_status status = generate(&j, err);
    for (int64_t i = 0; j.writings != NULL && i < j.prompts.count; i++) {
        ot_text_stream_free(&j.writings[i].stream);
        ot_free(j.writings[i].text);
    }
    ot_free(j.writings);
    ot_prompts_free(&j.prompts);
    ot_tokenizer_close(j.tokenizer);
    ot_common_close(&c);
    return status;
}

static const ot_option prompt_options[] = {
    {.name = "prompt", .letter = 'p', .kind = OT_KIND_STRING, .value = "TEXT", .help = "text to go on from"},
    {.name = "prompt-file", .kind = OT_KIND_PATH, .value = "FILE", .help = "a prompt on each line; the texts come in the same order"},
    {.name = "input", .letter = 'i', .kind = OT_KIND_PATH, .value = "IN.safetensors",
     .help = "input_ids [B, T] int64 and optionally attention_mask, padded on either side; prints ids. With --chat: JSON lines of {\"messages\"}"},
    {.name = "chat", .kind = OT_KIND_FLAG, .help = "the prompt is a user's turn, put into the model's chat template; the answer ends with its turn"},
    {.name = "chat-template", .kind = OT_KIND_STRING, .value = "NAME", .shown = "the model's own, where it is known",
     .help = "with --chat: another of the templates that 'offsite data --help' lists"},
    {0},
};
static const ot_option_group prompt_group = {"Prompt", prompt_options};
static const ot_option text_options[] = {
    {.name = "max-new", .letter = 'n', .kind = OT_KIND_I64, .fallback = "128", .min = 1, .max = 1 << 24, .shown = "128, or what the model's positions allow",
     .help = "new tokens at most"},
    {.name = "stop", .kind = OT_KIND_STRING, .value = "TEXT", .repeatable = true, .help = "end before this text"},
    {.name = "ignore-eos", .kind = OT_KIND_FLAG, .help = "go on after the token that ends a text"},
    {.name = "greedy", .kind = OT_KIND_FLAG, .help = "always take the likeliest token"},
    {.name = "temperature", .kind = OT_KIND_F64, .fallback = "0.8", .min = 0, .max = 100, .help = "how freely to draw; 0 is --greedy"},
    {.name = "top-k", .kind = OT_KIND_I64, .fallback = "0", .min = 0, .max = OT_NO_MAX, .help = "draw from the K likeliest tokens; 0: from all"},
    {.name = "top-p", .kind = OT_KIND_F64, .fallback = "0.95", .min = 0, .max = 1, .help = "draw from the fewest tokens that have this probability together"},
    {.name = "seed", .kind = OT_KIND_I64, .fallback = "0", .min = 0, .max = OT_NO_MAX, .help = "the same seed gives the same text"},
    {.name = "lanes", .kind = OT_KIND_I64, .fallback = "16", .min = 1, .max = 4096, .transient = true, .help = "prompts that are worked on at once"},
    {0},
};
static const ot_option_group text_group = {"Text", text_options};
static const ot_operand operands[] = {{.name = "MODEL", .kind = OT_KIND_PATH, .help = "a Hugging Face model folder, an offer or a GGUF file"}, {0}};
static const ot_example examples[] = {
    {"Go on from a sentence", "offsite generate SmolLM2.gguf --prompt 'The capital of France is' --greedy -n 20"},
    {"Ask a chat model", "offsite generate SmolLM2-135M-Instruct.gguf --chat --prompt 'What is the capital of France?' --greedy"},
    {"What an offer learnt, before it goes back", "offsite generate offer --adapter return --prompt 'Q: Who wrote it? A:' --stop Q:"},
    {"Token ids, for a comparison with another implementation", "offsite generate gpt2/ --input ids.safetensors --max-new 12 --greedy --ignore-eos --json"},
    {0},
};

const ot_verb ot_verb_generate = {
    .name = "generate",
    .audience = OT_FOR_ANYONE,
    .summary = "let a model, an offer or an adapted model go on from a prompt",
    .usage = "MODEL --prompt TEXT [OPTION...]",
    .about = "Text goes to standard output as it comes, the prompt is not repeated. With several prompts, each text is followed by an empty line.\n\n"
             "Nothing is added to a prompt but what the tokenizer adds by default. A chat model wants --chat, which puts the prompt, or each row of messages, "
             "into its chat template and ends where the model ends its turn.",
    .examples = examples,
    .operands = operands,
    .groups = (const ot_option_group *const[]){&prompt_group, &text_group, &ot_options_adapter, &ot_options_compute, &ot_options_json, NULL},
    .run = run,
};
