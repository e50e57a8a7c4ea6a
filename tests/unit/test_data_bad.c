/* The hand-made files of training examples: which are refused and in which words, how many rows of the others are left out. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "data/data.h"
#include "support/tiny.h"

#define FOLDER TEST_DATA_DIR "/bad/data"

/* All rows bad, or none: the file is refused. words: of the refusal or of the first bad row. */
static const struct {
    const char *name;
    int64_t rows, bad;
    const char *words;
} cases[] = {
    {"empty", 0, 0, "file is empty"},
    {"only-blanks", 0, 0, "file is empty"},
    {"nul-bytes", 3, 2, "not valid JSON"},
    {"not-utf8", 4, 4, "unable to decode byte 0xff"},
    {"byte-order-mark", 2, 0, ""},
    {"utf16", 2, 2, "unable to decode byte 0xff"},
    {"deep-arrays.gz", 2, 1, "maximum parsing depth"},
    {"deep-objects.gz", 2, 1, "maximum parsing depth"},
    {"cut-in-row", 2, 1, "premature end of input"},
    {"no-object-first", 3, 2, "not a JSON object"},
    {"key-twice", 2, 1, "duplicate object key"},
    {"two-rows-on-a-line", 2, 1, "end of file expected"},
    {"one-array", 2, 0, ""},
    {"list-cut", 3, 1, "not valid JSON at byte 27: premature end of input"},
    {"list-mixed", 5, 3, "not a JSON object"},
    {"list-then-text", 3, 1, "not valid JSON at byte 3: invalid token near 'and'"},
    {"list-commas", 3, 1, "not valid JSON at byte 0"},
    {"indented", 3, 3, "none of its 3 rows can be used"},
    {"huge-line.zst", 2, 1, "a row of 69206028 bytes; the longest allowed has 67108864"},
    {"unknown-keys", 2, 2, "the keys \"txt\" fit no known shape"},
    {"mixed-shapes", 4, 3, "\"text\" must be a text"},
    {"mixed-shapes-messages-first", 3, 2, "\"messages\" must be a list"},
    {"pair-missing", 3, 2, "\"completion\" must be a text"},
    {"messages-object", 2, 1, "\"messages\" must be a list"},
    {"message-number", 2, 1, "message 1 must be an object with a \"role\""},
    {"role-list", 2, 1, "message 1 must be an object with a \"role\""},
    {"role-misspelt", 2, 1, "message 2: the role \"assistent\" is not known"},
    {"content-null", 2, 1, "message 2: \"content\" must be a text"},
    {"tool-calls", 2, 1, "message 4 calls tools"},
    {"no-assistant", 2, 1, "no message is the assistant's"},
    {"many-messages.gz", 2, 1, "4098 messages are more than the 4096"},
    {"choices-uneven", 3, 1, "\"choices.text\" has 1 text for the 2 of \"choices.label\""},
    {"race-literals", 13, 12, "not a Python literal"},
    {"gzip-cut", 0, 0, "gzip data end early, at byte 60"},
    {"gzip-flipped", 0, 0, "damaged gzip data"},
    {"gzip-checksum", 0, 0, "incorrect data check"},
    {"gzip-then-text", 0, 0, "incorrect header check"},
    {"gzip-magic-alone", 0, 0, "gzip data end early, at byte 3"},
    {"gzip-of-nothing", 0, 0, "file is empty"},
    {"gzip-bomb", 0, 0, "unpacks to more than the 100663296 bytes"},
    {"zstd-cut", 0, 0, "zstd data end early, at byte 52"},
    {"zstd-flipped", 0, 0, "damaged zstd data"},
    {"zstd-then-text", 0, 0, "damaged zstd data near byte 58"},
    {"zstd-window-huge", 0, 0, "too much memory"},
    {"zstd-bomb", 0, 0, "unpacks to more than the 100663296 bytes"},
};

static ot_status take(void *context, const int32_t *ids, const uint8_t *learn, int64_t count, ot_error *err) {
    (void)context, (void)ids, (void)learn, (void)count, (void)err;
    return OT_OK;
}

static ot_status read_file(const char *name, ot_data_report *report, ot_error *err) {
    static const ot_data_options o = {
        .tokenizer_path = TEST_DATA_DIR "/tokenizer/gpt2/tokenizer.json", .block = 512, .vocab = 100000, .chat_template = "chatml"};
    ot_input in = {0};
    ot_data_reader *r = NULL;
    OT_TRY(ot_input_open(tiny_path(FOLDER, name), (int64_t)96 << 20, &in, err));
    ot_status status = ot_data_reader_open(&o, &r, err);
    if (status == OT_OK) status = ot_data_read_rows(r, &in, "file", report, take, NULL, err);
    ot_data_reader_close(r);
    ot_input_close(&in);
    return status;
}

static void bad_files_are_told(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ot_data_report report = {0};
        ot_error err = {0};
        bool read = read_file(cases[i].name, &report, &err) == OT_OK, wanted = cases[i].rows > cases[i].bad;
        const char *said = read ? report.shown[0].why : err.message;
        if (read != wanted || report.rows != cases[i].rows || report.bad != cases[i].bad || strstr(said, cases[i].words) == NULL) {
            fail_msg("%s: %lld rows, %lld bad, \"%s\"", cases[i].name, (long long)report.rows, (long long)report.bad, said);
        }
    }
}

static void good_files_are_read_whole(void **state) {
    (void)state;
    int good = 0;
    DIR *folder = opendir(FOLDER);
    assert_non_null(folder);
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        ot_data_report report = {0};
        ot_error err = {0};
        bool read = entry->d_name[0] != '.' && read_file(entry->d_name, &report, &err) == OT_OK;
        if (strncmp(entry->d_name, "good", 4) == 0) {
            if (!read || report.bad != 0) fail_msg("%s: %s%s", entry->d_name, err.message, report.shown[0].why);
            good++;
        }
    }
    closedir(folder);
    assert_true(good > 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_files_are_told),
        cmocka_unit_test(good_files_are_read_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
