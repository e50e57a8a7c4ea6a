/* Any bytes as a safetensors file: refused with a message, or every byte of every tensor can be read and found by name. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "format/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition) {
    if (!condition) abort();
}

static void read_all(const ot_safetensors *st, int64_t file_size) {
    int64_t bytes = 0;
    volatile uint8_t sum = 0;
    for (int64_t i = 0; i < ot_safetensors_count(st); i++) {
        const ot_tensor *t = ot_safetensors_at(st, i);
        expect(ot_safetensors_find(st, t->name) == t);
        int64_t need = -1;
        expect(ot_dtype_bytes(t->dtype, ot_tensor_elements(t), &need) && need == t->bytes);
        for (int64_t k = 0; k < t->bytes; k++) sum = (uint8_t)(sum + ((const uint8_t *)t->data)[k]);
        bytes += t->bytes;
    }
    expect(bytes <= file_size - 8);
    ot_safetensors_metadata(st, "format");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    expect(fd >= 0);
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, data + done, size - done);
        expect(n > 0);
        done += (size_t)n;
    }
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ot_safetensors *st = NULL;
    ot_error err = {0};
    if (ot_safetensors_open(path, &st, &err) == OT_OK) {
        read_all(st, (int64_t)size);
        ot_safetensors_close(st);
    } else {
        expect(st == NULL && strstr(err.message, path) != NULL);
    }
    close(fd);
    return 0;
}
