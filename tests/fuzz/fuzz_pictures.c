/* Any bytes as an archive and as a list of pictures: refused in words, or pictures with labels within their classes. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "data/pictures.h"
#include "format/tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition) {
    if (!condition) abort();
}

static void look(const ot_pictures *p) {
    expect(p->n > 0 && p->layout != NULL);
    for (int64_t i = 0; i < p->n; i++) {
        const ot_picture *item = &p->items[i];
        expect(ot_path_is_inside(item->name) && (item->class_name != NULL) == (item->label >= 0));
        expect(p->classes == NULL || item->label < p->n_classes);
    }
    for (int64_t c = 1; c < p->n_classes; c++) expect(strcmp(p->classes[c - 1], p->classes[c]) < 0);
}

static void read_as(const char *path, const uint8_t *data, size_t size, bool strict) {
    ot_pictures p = {0};
    ot_error err = {0};
    FILE *file = fopen(path, "wb");
    expect(file != NULL && fwrite(data, 1, size, file) == size && fclose(file) == 0);
    ot_status status = ot_pictures_open(path, strict, &p, &err);
    if (status == OT_OK) {
        look(&p);
        expect(!strict || p.bad == 0);
        if (p.n < 50) status = ot_pictures_check(&p, NULL, NULL, NULL, &err);
        if (status == OT_OK) look(&p);
    }
    expect(status == OT_OK || err.message[0] != '\0');
    ot_pictures_close(&p);
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char folder[] = "/tmp/fuzz-pictures-XXXXXX";
    static const char *const ends[] = {".tar", ".csv"};
    if (folder[sizeof folder - 2] == 'X') expect(mkdtemp(folder) != NULL);
    for (size_t i = 0; i < 4; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/fuzz%s", folder, ends[i / 2]);
        read_as(path, data, size, i % 2 == 1);
    }
    return 0;
}
