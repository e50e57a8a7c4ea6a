/* Any bytes as a tar archive: refused in words, or files whose names stay inside and whose contents lie within the bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "format/tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition) {
    if (!condition) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ot_tar tar = {0};
    ot_error err = {0};
    if (ot_tar_read(data, (int64_t)size, "fuzz", &tar, &err) != OT_OK) {
        expect(tar.files == NULL && tar.n_files == 0 && strncmp(err.message, "fuzz: byte ", 11) == 0);
        return 0;
    }
    expect(tar.n_files > 0 && tar.n_files <= (int64_t)size / 512 && tar.n_skipped >= 0);
    uint8_t sum = 0;
    for (int64_t i = 0; i < tar.n_files; i++) {
        const ot_tar_file *f = &tar.files[i];
        expect(f->at >= 512 && f->size >= 0 && f->size <= (int64_t)size - f->at);
        expect(strlen(f->name) <= OT_TAR_MAX_NAME && ot_path_is_inside(f->name));
        for (int64_t k = 0; k < f->size; k++) sum = (uint8_t)(sum + data[f->at + k]);
    }
    (void)sum;
    ot_tar_free(&tar);
    return 0;
}
