/* Fuzz target of the GGUF reader: any bytes are refused or give tensors and values that can be used. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "format/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use_values(const ot_gguf *g) {
    static const char *const keys[] = {"general.architecture", "general.alignment", "test.u8",     "test.i8",     "test.u64",
                                       "test.f32",             "test.f64",          "test.bool",   "test.tokens", "test.scores",
                                       "test.types",           "test.flags",        "test.nested", "test.none",   "test.empty"};
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        int64_t i = 0, length = 0, count = ot_gguf_array_count(g, keys[k]);
        double d = 0.0;
        bool flag = false;
        ot_gguf_i64(g, keys[k], &i);
        ot_gguf_f64(g, keys[k], &d);
        ot_gguf_bool(g, keys[k], &flag);
        const char *text = ot_gguf_str(g, keys[k], &length);
        if (text != NULL && text[length] != '\0') abort();
        for (int64_t n = -1; n <= count && n < 1000; n++) {
            ot_gguf_array_i64(g, keys[k], n, &i);
            ot_gguf_array_f64(g, keys[k], n, &d);
            text = ot_gguf_array_str(g, keys[k], n, &length);
            /* Every byte is read, for the sanitizer. */
            volatile char sum = 0;
            for (int64_t c = 0; text != NULL && c < length; c++) sum = (char)(sum ^ text[c]);
        }
    }
}

static void use_tensors(const ot_gguf *g, size_t size) {
    for (int64_t i = 0; i < ot_gguf_tensor_count(g); i++) {
        const ot_tensor *t = ot_gguf_tensor_at(g, i);
        int64_t n = ot_tensor_elements(t), bytes = -1;
        if (ot_gguf_find(g, t->name) != t) abort();
        if (!ot_dtype_bytes(t->dtype, n, &bytes) || bytes != t->bytes || bytes > (int64_t)size) abort();
        float *values = malloc((size_t)n * sizeof *values);
        if (values == NULL) abort();
        ot_decode_f32(t->dtype, t->data, values, n);
        free(values);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0) abort();
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, data + done, size - done);
        if (n <= 0) abort();
        done += (size_t)n;
    }
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ot_gguf *g = NULL;
    ot_error err = {0};
    if (ot_gguf_open(path, &g, &err) == OT_OK) {
        use_values(g);
        use_tensors(g, size);
        ot_gguf_close(g);
    } else if (err.message[0] == '\0' || g != NULL) {
        abort();
    }
    close(fd);
    return 0;
}
