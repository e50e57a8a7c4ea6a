/* Any bytes as comma-separated values: rows of one field or more, in the order of their lines, until the end or a refusal in words. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "format/csv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition) {
    if (!condition) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ot_csv csv;
    ot_error err = {0};
    bool found = true;
    int64_t line = 0, at = 0, letters = 0;
    ot_csv_open((const char *)data, (int64_t)size, "fuzz", &csv);
    while (found) {
        if (ot_csv_next(&csv, &found, &err) != OT_OK) {
            expect(strncmp(err.message, "fuzz:", 5) == 0 && !found);
            break;
        }
        if (!found) break;
        expect(csv.line > line && csv.at > at && csv.at <= (int64_t)size && csv.n_fields > 0 && csv.n_fields <= OT_CSV_MAX_FIELDS);
        line = csv.line;
        at = csv.at;
        for (int i = 0; i < csv.n_fields; i++) {
            size_t n = strlen(csv.fields[i]);
            expect(n <= OT_CSV_MAX_FIELD);
            letters += (int64_t)n;
        }
    }
    expect(letters <= (int64_t)size);
    ot_csv_close(&csv);
    return 0;
}
