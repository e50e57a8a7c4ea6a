/* SHA-256 over libsodium, as lower-case hexadecimal text. */
#ifndef OT_BASE_DIGEST_H
#define OT_BASE_DIGEST_H

#include <sodium.h>
#include <stdint.h>

#include "base/error.h"

enum { OT_DIGEST_TEXT = 65 };

typedef struct ot_digest {
    crypto_hash_sha256_state state;
} ot_digest;

void ot_digest_begin(ot_digest *d);
void ot_digest_add(ot_digest *d, const void *data, int64_t size);
void ot_digest_add_text(ot_digest *d, const char *text); /* with its final NUL, so that parts cannot run together */
void ot_digest_end(ot_digest *d, char text[OT_DIGEST_TEXT]);
void ot_digest_of(const void *data, int64_t size, char text[OT_DIGEST_TEXT]);

#endif
