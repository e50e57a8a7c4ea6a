#include "base/digest.h"

#include <string.h>

void ot_digest_begin(ot_digest *d) { crypto_hash_sha256_init(&d->state); }

void ot_digest_add(ot_digest *d, const void *data, int64_t size) {
    if (size > 0) crypto_hash_sha256_update(&d->state, data, (unsigned long long)size);
}

void ot_digest_add_text(ot_digest *d, const char *text) { ot_digest_add(d, text, (int64_t)strlen(text) + 1); }

void ot_digest_end(ot_digest *d, char text[OT_DIGEST_TEXT]) {
    static const char digits[] = "0123456789abcdef";
    unsigned char hash[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_final(&d->state, hash);
    for (size_t i = 0; i < sizeof hash; i++) {
        text[2 * i] = digits[hash[i] >> 4];
        text[2 * i + 1] = digits[hash[i] & 15];
    }
    text[2 * sizeof hash] = '\0';
}

void ot_digest_of(const void *data, int64_t size, char text[OT_DIGEST_TEXT]) {
    ot_digest d;
    ot_digest_begin(&d);
    ot_digest_add(&d, data, size);
    ot_digest_end(&d, text);
}
