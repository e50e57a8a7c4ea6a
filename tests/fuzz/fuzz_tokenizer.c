/* Any bytes as a tokenizer.json, as a sentencepiece .model and as a gzipped vocabulary: refused with a message, or a tokenizer
 * that encodes, decodes and is written without trouble. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "format/tokenizer_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition) {
    if (!condition) abort();
}

static void use(const ot_tokenizer *t, const uint8_t *data, size_t size) {
    static const char TEXT[] = " a  b<s>ab\n\xC3\xA9 \xF0\x9F\x98\x80 12 e\xCC\x81 \xE2\x96\x81 I'm\xFF";
    int32_t *ids = NULL;
    int64_t count = 0;
    ot_error err = {0};
    for (int which = 0; which < 2; which++) {
        const char *text = which == 0 ? TEXT : (const char *)data;
        size_t length = which == 0 ? sizeof TEXT - 1 : size < 512 ? size : 512;
        char *back = NULL;
        size_t back_size = 0;
        /* Patterns that backtrack too far are an error of encoding. */
        if (ot_tokenizer_encode(t, text, length, true, &ids, &count, &err) != OT_OK) continue;
        if (ot_tokenizer_decode(t, ids, count, which == 0, &back, &back_size, &err) == OT_OK) {
            expect(back[back_size] == '\0');
            ot_free(back);
        }
        char piece[8];
        for (int64_t i = 0; i < count; i++) {
            expect(ids[i] >= 0 && ids[i] < ot_tokenizer_vocab_size(t));
            (void)ot_tokenizer_piece(t, ids[i], piece, sizeof piece);
        }
        ot_free(ids);
    }
}

typedef ot_status load_fn(ot_tokenizer *t, const uint8_t *data, int64_t size, const char *where, ot_error *err);

static ot_status load_json(ot_tokenizer *t, const uint8_t *data, int64_t size, const char *where, ot_error *err) {
    return ot_tok_load_json_text(t, (const char *)data, size, where, err);
}

static void load_with(load_fn *load, const uint8_t *data, size_t size) {
    ot_tokenizer *t = NULL;
    ot_error err = {0};
    expect(ot_tok_new("fuzz", &t, &err) == OT_OK);
    if (load(t, data, (int64_t)size, "fuzz", &err) == OT_OK) {
        use(t, data, size);
        expect(ot_tokenizer_write_json(t, "/dev/null", &err) == OT_OK);
    } else {
        expect(err.code != OT_OK && err.message[0] != '\0');
    }
    ot_tokenizer_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    load_with(load_json, data, size);
    load_with(ot_tok_load_spm_bytes, data, size);
    ot_tok_buf text = {0};
    ot_error err = {0};
    if (ot_tok_gunzip(data, (int64_t)size, "fuzz", &text, &err) != OT_OK) expect(strstr(err.message, "fuzz: ") != NULL);
    ot_tok_buf_free(&text);
    return 0;
}
