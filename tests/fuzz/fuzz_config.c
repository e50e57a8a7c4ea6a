/* Any bytes as a config file of `tune`: refused with a message that names the file, or written as an effective config that reads back the same. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition) {
    if (!condition) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ot_args first, second;
    ot_error err = {0};
    char *text = NULL, *again = NULL;
    size_t n = 0, m = 0;
    expect(ot_args_init(&first, ot_verb_find("tune"), &err) == OT_OK && ot_args_init(&second, ot_verb_find("tune"), &err) == OT_OK);
    if (ot_config_parse(&first, "fuzz.yaml", (const char *)data, (int64_t)size, &err) != OT_OK) {
        expect(err.code == OT_ERR_USAGE && strncmp(err.message, "fuzz.yaml:", 10) == 0);
    } else {
        expect(ot_config_write(&first, OT_CONFIG_WITH_PATHS, &text, &n, &err) == OT_OK);
        expect(ot_config_parse(&second, "again.yaml", text, (int64_t)n, &err) == OT_OK);
        expect(ot_config_write(&second, OT_CONFIG_WITH_PATHS, &again, &m, &err) == OT_OK);
        expect(n == m && memcmp(text, again, n) == 0);
    }
    free(text);
    free(again);
    ot_args_free(&first);
    ot_args_free(&second);
    return 0;
}
