/* Offsite as a C library: open models, score and continue token ids, and the owner's and data owner's checks of what is exchanged.
 *
 * Every function that can fail returns an offsite_status and, when `error` is not NULL, fills it with one sentence that names the file,
 * tensor or byte position and says what to do; on success it is left alone. The library never exits, prints, or keeps state of its own.
 * A model is not changed by use: one model may serve one thread at a time. Token ids are int32_t, counts are elements, sizes bytes.
 *
 * Method: Xiao, Lin, Han, "Offsite-Tuning: Transfer Learning without Full Model" (2023); sections named below are the paper's. */
#ifndef OFFSITE_H
#define OFFSITE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Values are part of the ABI. */
typedef enum offsite_status {
    OFFSITE_OK = 0,
    OFFSITE_MEMORY = 1,
    OFFSITE_IO = 2,
    OFFSITE_FORMAT = 3,
    OFFSITE_UNSUPPORTED = 4,
    OFFSITE_USAGE = 5,
    OFFSITE_REFUSED = 6, /* by a check: the answer is no, nothing is broken */
    OFFSITE_NUMERIC = 7,
    OFFSITE_LIBRARY = 8,
    OFFSITE_INTERRUPTED = 9
} offsite_status;

enum { OFFSITE_ERROR_TEXT = 768, OFFSITE_ID_TEXT = 65 };

typedef struct offsite_error {
    offsite_status status;
    char message[OFFSITE_ERROR_TEXT];
} offsite_error;

/* "0.1.0"; the caller does not free it. */
const char *offsite_version(void);

/* ==== Models ==== */

typedef struct offsite_model offsite_model;

/* path: a Hugging Face folder (config.json, safetensors), a GGUF file, or an offer. The files stay mapped until offsite_model_close. */
offsite_status offsite_model_open(const char *path, offsite_model **model, offsite_error *error);
void offsite_model_close(offsite_model *model); /* NULL is allowed */

typedef struct offsite_model_info {
    int64_t layers, hidden_size, vocab_size;
    int64_t parameters; /* elements, tied ones once */
    int64_t bytes;      /* of the weights as stored */
} offsite_model_info;
void offsite_model_describe(const offsite_model *model, offsite_model_info *info);

/* Mean cross-entropy, in nats, of ids[1..count) given what is before each: *loss. count >= 2. perplexity = exp(loss). f32 arithmetic. */
offsite_status offsite_model_loss(const offsite_model *model, const int32_t *ids, int64_t count, double *loss, offsite_error *error);

/* Continues ids[0..count) by at most max_new tokens into out[max_new]; *made says how many. temperature 0: always the likeliest token;
 * else drawn with `seed`. Ends early after a token that the model's configuration calls an end of text. */
offsite_status offsite_model_generate(const offsite_model *model, const int32_t *ids, int64_t count, int64_t max_new, double temperature,
                                      uint64_t seed, int32_t *out, int64_t *made, offsite_error *error);

/* ==== Tokenizers ==== */

typedef struct offsite_tokenizer offsite_tokenizer;

/* path: a model's folder, a tokenizer.json or a GGUF. */
offsite_status offsite_tokenizer_open(const char *path, offsite_tokenizer **tokenizer, offsite_error *error);
void offsite_tokenizer_close(offsite_tokenizer *tokenizer);
/* text[0..size) in UTF-8, without special tokens. *ids is the caller's, to give to offsite_free. */
offsite_status offsite_tokenizer_encode(const offsite_tokenizer *tokenizer, const char *text, size_t size, int32_t **ids, int64_t *count,
                                        offsite_error *error);
/* *text ends in a NUL and is the caller's, to give to offsite_free. */
offsite_status offsite_tokenizer_decode(const offsite_tokenizer *tokenizer, const int32_t *ids, int64_t count, char **text, offsite_error *error);
void offsite_free(void *memory);

/* ==== The exchange (section 3) ====
 *
 * An output that is, lies inside or holds something that is read (a model, a return, a ledger) is OFFSITE_USAGE, whatever names lead there. */

typedef struct offsite_split_options {
    int64_t bottom, top;  /* blocks at either end that the data owner may tune */
    const char *emulator; /* steps as in `offsite split --emulator`; "" or NULL: the middle as it is */
} offsite_split_options;

/* Owner: MODEL becomes the folder `offer` and the private ledger `offer`.owner.json beside it. An existing `offer` is refused; a failure leaves
 * nothing behind. offer_id (NULL: not wanted) gets the offer's id. */
offsite_status offsite_split(const offsite_model *model, const char *offer, const offsite_split_options *options, char offer_id[OFFSITE_ID_TEXT],
                             offsite_error *error);

/* Either side: does a bundle hold what its manifest says (digests, shapes, finite values) and nothing else? offer: the offer that a return is
 * for, or NULL. OFFSITE_REFUSED names the first thing that is off. */
offsite_status offsite_verify(const char *bundle, const char *offer, offsite_error *error);

/* Owner: the model at `model` with the tuned layers of the return, as the new Hugging Face folder `output`. ledger: the offer's, or NULL to look for it beside the
 * return, the output and in the current folder. OFFSITE_REFUSED for another offer, another model, missing, extra or non-finite tensors. */
offsite_status offsite_plug(const char *model, const char *returned, const char *ledger, const char *output, offsite_error *error);

#ifdef __cplusplus
}
#endif
#endif
