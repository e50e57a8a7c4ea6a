/* Any bytes as JSON text: refused with a message and a position inside the text, or written again without trouble. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "format/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition) {
    if (!condition) abort();
}

/* Every getter on every key, whatever its type. */
static void get_all(json_t *object) {
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(object, key, value) {
        int64_t i = 0;
        double f = 0;
        bool b = false, found = false;
        const char *s = NULL;
        ot_error err = {0};
        int fits = 0;
        fits += ot_json_i64(object, key, "fuzz", &i, &found, &err) == OT_OK;
        fits += ot_json_f64(object, key, "fuzz", &f, &found, &err) == OT_OK;
        fits += ot_json_bool(object, key, "fuzz", &b, &found, &err) == OT_OK;
        fits += ot_json_str(object, key, "fuzz", &s, &found, &err) == OT_OK;
        expect(found == !json_is_null(value));
        expect(json_is_null(value) ? fits == 4 : fits <= 2);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *value = NULL;
    ot_error err = {0};
    if (ot_json_parse((const char *)data, (int64_t)size, "fuzz", &value, &err) != OT_OK) {
        expect(value == NULL && err.position >= 0 && err.position <= (int64_t)size && strstr(err.message, "fuzz: ") != NULL);
        return 0;
    }
    if (json_is_object(value)) get_all(value);
    expect(ot_json_write("/dev/null", value, &err) == OT_OK);
    json_decref(value);
    return 0;
}
