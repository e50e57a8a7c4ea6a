/* `offsite tokenize MODEL`: standard input to token ids, or back, a line at a time. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "format/json.h"
#include "format/tokenizer.h"

typedef struct line_job {
    const ot_tokenizer *tokenizer;
    bool jsonl, special;
    const char *text; /* without the line's end; may hold NULs */
    size_t size;
    char where[64]; /* "standard input, line 3" */
} line_job;

static ot_status encode_text(const line_job *job, const char *text, size_t size, ot_error *err) {
    int32_t *ids = NULL;
    int64_t count = 0;
    OT_TRY(ot_tokenizer_encode(job->tokenizer, text, size, job->special, &ids, &count, err));
    if (job->jsonl) fputs("{\"ids\": ", stdout);
    putchar('[');
    for (int64_t i = 0; i < count; i++) printf("%s%" PRId32, i > 0 ? ", " : "", ids[i]);
    puts(job->jsonl ? "]}" : "]");
    ot_free(ids);
    return OT_OK;
}

static ot_status encode_line(const line_job *job, ot_error *err) {
    if (!job->jsonl) return encode_text(job, job->text, job->size, err);
    json_t *object = NULL;
    OT_TRY(ot_json_parse(job->text, (int64_t)job->size, job->where, &object, err));
    const json_t *text = json_object_get(object, "text");
    ot_status status;
    if (json_is_string(text)) {
        status = encode_text(job, json_string_value(text), json_string_length(text), err);
    } else {
        status = ot_fail(err, OT_ERR_FORMAT, "%s: expected an object with a string under \"text\"", job->where);
    }
    json_decref(object);
    return status;
}

static ot_status read_ids(const line_job *job, const json_t *array, int32_t *ids, ot_error *err) {
    size_t count = json_array_size(array);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(array, i);
        if (!json_is_integer(item))
            return ot_fail(err, OT_ERR_FORMAT, "%s: item %zu of the ids is not a whole number", job->where, i);
        json_int_t id = json_integer_value(item);
        if (id < 0 || id >= ot_tokenizer_vocab_size(job->tokenizer)) {
            return ot_fail(err, OT_ERR_FORMAT, "%s: id %" JSON_INTEGER_FORMAT " is outside the vocabulary of %" PRId64 " tokens",
                           job->where, id, ot_tokenizer_vocab_size(job->tokenizer));
        }
        ids[i] = (int32_t)id;
    }
    return OT_OK;
}

static ot_status decode_ids(const line_job *job, const json_t *array, bool as_object, ot_error *err) {
    void *ids = NULL;
    OT_TRY(ot_malloc((int64_t)json_array_size(array), (int64_t)sizeof(int32_t), "token ids", &ids, err));
    char *text = NULL;
    size_t size = 0;
    ot_status status = read_ids(job, array, ids, err);
    if (status == OT_OK) {
        status = ot_tokenizer_decode(job->tokenizer, ids, (int64_t)json_array_size(array), false, &text, &size, err);
    }
    if (status == OT_OK && as_object) {
        ot_json_out out = ot_json_out_open(stdout);
        ot_json_out_object(&out, NULL);
        ot_json_out_text(&out, "text", text, size);
        ot_json_out_end(&out);
        putchar('\n');
    } else if (status == OT_OK) {
        fwrite(text, 1, size, stdout);
        putchar('\n');
    }
    ot_free(text);
    ot_free(ids);
    return status;
}

/* An array or an object with "ids", whichever the line is; an object, or --jsonl, is answered by an object. */
static ot_status decode_line(const line_job *job, ot_error *err) {
    json_t *value = NULL;
    OT_TRY(ot_json_parse(job->text, (int64_t)job->size, job->where, &value, err));
    const json_t *ids = json_is_object(value) ? json_object_get(value, "ids") : value;
    ot_status status;
    if (json_is_array(ids)) {
        status = decode_ids(job, ids, job->jsonl || json_is_object(value), err);
    } else {
        status = ot_fail(err, OT_ERR_FORMAT, "%s: expected an array of ids, or an object with one under \"ids\"", job->where);
    }
    json_decref(value);
    return status;
}

static bool is_blank(const char *text, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r') return false;
    }
    return true;
}

static ot_status each_line(line_job *job, bool decode, ot_error *err) {
    char *buffer = NULL;
    size_t room = 0;
    ot_status status = OT_OK;
    for (int64_t number = 1; status == OT_OK; number++) {
        errno = 0;
        ssize_t length = getline(&buffer, &room, stdin);
        if (length < 0) {
            if (ferror(stdin) || errno == ENOMEM)
                status = ot_fail_errno(err, errno, "reading standard input failed at line %" PRId64, number);
            break;
        }
        if (length > 0 && buffer[length - 1] == '\n') length--;
        job->text = buffer;
        job->size = (size_t)length;
        snprintf(job->where, sizeof job->where, "standard input, line %" PRId64, number);
        if ((job->jsonl || decode) && is_blank(job->text, job->size)) continue;
        status = decode ? decode_line(job, err) : encode_line(job, err);
        if (ferror(stdout)) status = ot_output_flush(err);
    }
    free(buffer);
    return status;
}

static ot_status run(const ot_args *args, ot_error *err) {
    bool decode = ot_args_flag(args, "decode");
    if (decode && ot_args_flag(args, "special")) {
        return ot_args_fail(args, err,
                            "--special adds tokens to text and means nothing with --decode, which keeps all that the ids name");
    }
    ot_tokenizer *tokenizer = NULL;
    OT_TRY(ot_tokenizer_open(ot_args_operand(args, "MODEL"), &tokenizer, err));
    line_job job = {.tokenizer = tokenizer, .jsonl = ot_args_flag(args, "jsonl"), .special = ot_args_flag(args, "special")};
    ot_status status = each_line(&job, decode, err);
    ot_tokenizer_close(tokenizer);
    return status;
}

static const ot_operand operands[] = {
    {.name = "MODEL",
     .kind = OT_KIND_PATH,
     .help = "a model or offer, a folder with tokenizer files alone, a tokenizer.json, or a GGUF file"},
    {0},
};
static const ot_option options[] = {
    {.name = "jsonl", .kind = OT_KIND_FLAG, .help = "lines are JSON objects: {\"text\": ...} in, {\"ids\": [...]} out"},
    {.name = "special", .kind = OT_KIND_FLAG, .help = "add the special tokens that the tokenizer adds by default"},
    {.name = "decode", .kind = OT_KIND_FLAG, .help = "the other way: ids in, text out"},
    {0},
};
static const ot_option_group group = {"Tokenizing", options};
static const ot_example examples[] = {
    {"Ids of one line of text", "echo 'Hello, world' | offsite tokenize gpt2"},
    {"Texts that hold line breaks, with special tokens", "offsite tokenize opt-125m --jsonl --special < texts.jsonl > ids.jsonl"},
    {"Back to text", "echo '[15496, 11, 995]' | offsite tokenize gpt2 --decode"},
    {0},
};

const ot_verb ot_verb_tokenize = {
    .name = "tokenize",
    .audience = OT_FOR_ANYONE,
    .summary = "turn text into token ids, and back",
    .about =
        "Reads standard input a line at a time and writes one line for each: a JSON array of token ids. The end of the line is "
        "no "
        "part of the text. With --jsonl each line is a JSON object, so texts may hold line breaks and NUL characters.\n\n"
        "--decode reads arrays of ids, or objects with \"ids\", and writes the text. Special tokens are kept; bytes that are not "
        "UTF-8 appear as U+FFFD. Blank lines are skipped where JSON is read.",
    .operands = operands,
    .groups = (const ot_option_group *const[]){&group, NULL},
    .examples = examples,
    .run = run,
};
