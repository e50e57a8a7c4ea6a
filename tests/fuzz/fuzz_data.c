/* Any bytes as a file of training examples, packed or not: refused with a message, or examples that keep what is promised of them, with the bad
 * rows counted. Also as the Jinja text of a chat template. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "data/chat.h"
#include "data/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition) {
    if (!condition) abort();
}

static const int64_t UNPACKED = (int64_t)96 << 20;

typedef struct seen {
    const ot_data_options *options;
    int64_t examples, tokens, learnt;
} seen;

static ot_status take(void *context, const int32_t *ids, const uint8_t *learn, int64_t count, ot_error *err) {
    (void)err;
    seen *s = context;
    int64_t learnt = 0;
    expect(count >= 2 && count <= s->options->block);
    for (int64_t i = 0; i < count; i++) {
        expect(ids[i] >= 0 && ids[i] < s->options->vocab && learn[i] <= 1);
        learnt += i > 0 && learn[i];
    }
    expect(learnt > 0);
    s->examples++;
    s->tokens += count;
    s->learnt += learnt;
    return OT_OK;
}

static void read_with(const ot_input *in, const ot_data_options *options) {
    ot_data_reader *r = NULL;
    ot_data_report report = {0};
    seen s = {.options = options};
    ot_error err = {0};
    expect(ot_data_reader_open(options, &r, &err) == OT_OK);
    if (ot_data_read_rows(r, in, "fuzz", &report, take, &s, &err) != OT_OK) {
        expect(strncmp(err.message, "fuzz", 4) == 0 || (options->chat_template == NULL && strstr(err.message, "chat template") != NULL));
    } else {
        expect(report.rows > 0 && report.bad < report.rows && report.shape != NULL);
        expect(!options->strict || report.bad == 0);
    }
    expect(report.examples == s.examples && report.tokens == s.tokens && report.learnt == s.learnt);
    for (int64_t i = 0; i < report.bad && i < OT_DATA_SHOWN; i++) expect(report.shown[i].line > 0 && report.shown[i].why[0] != '\0');
    ot_data_reader_close(r);
}

static void read_rows(const ot_input *in) {
    static const char *const map[] = {"text=prompt", "completion=text"};
    const ot_data_options options[] = {
        {.block = 64, .chat_template = "chatml"},
        {.block = 4, .chat_template = "llama2", .train_all = true, .no_end = true},
        {.block = 64, .chat_template = "gemma", .strict = true},
        {.block = 64, .task = "arc_challenge", .limit = 3},
        {.block = 64, .map = map, .n_map = 2},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        ot_data_options o = options[i];
        o.tokenizer_path = TEST_DATA_DIR "/tokenizer/gpt2/tokenizer.json";
        o.vocab = 100000;
        read_with(in, &o);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ot_input in = {0};
    ot_error err = {0};
    const ot_chat_template *chat = ot_chat_recognise((const char *)data, (int64_t)size);
    expect(chat == NULL || chat->name != NULL);
    if (ot_input_from(data, (int64_t)size, "fuzz", UNPACKED, &in, &err) != OT_OK) {
        expect(in.data == NULL && in.unpacked == NULL && strncmp(err.message, "fuzz", 4) == 0);
        return 0;
    }
    (void)ot_data_is_rows(&in, "fuzz");
    read_rows(&in);
    ot_input_close(&in);
    return 0;
}
