/* Chat templates as data: how messages become the one text that a chat model was tuned on, equal to what transformers' apply_chat_template
 * renders, and which parts of it are the assistant's own. The Jinja text of a tokenizer is not run: it is recognised by what it contains. */
#ifndef OT_DATA_CHAT_H
#define OT_DATA_CHAT_H

#include "format/tokenizer.h"
#include "task/str.h"

typedef enum ot_chat_system {
    OT_CHAT_SYSTEM_TURN,       /* a turn of its own */
    OT_CHAT_SYSTEM_IN_FIRST,   /* inside the first user turn */
    OT_CHAT_SYSTEM_IN_LAST,    /* inside the user turn that is the last message, else nowhere */
    OT_CHAT_SYSTEM_REFUSED,
} ot_chat_system;

/* The text around one role's content. {bos} and {eos} stand for the tokenizer's tokens. */
typedef struct ot_chat_turn {
    const char *before; /* of the assistant: what asks for its answer */
    const char *lead;   /* of the assistant: written by it in front of the content */
    const char *stop;   /* ends the turn; of the assistant: learnt */
    const char *after;  /* what follows the stop, never learnt */
    bool trim;          /* white space around the content goes */
} ot_chat_turn;

enum { OT_CHAT_MARKS = 6 };
typedef struct ot_chat_template {
    const char *name, *help;
    const char *marks[OT_CHAT_MARKS]; /* a tokenizer's template that holds all of these ... */
    const char *never[OT_CHAT_MARKS]; /* ... and none of these is this one */
    const char *begin, *end;          /* around everything; `end` only when no answer is asked for */
    const char *default_system;       /* used when the messages do not begin with one; NULL: none */
    const char *system_first;         /* put in front of the first system text; NULL: nothing */
    ot_chat_system system_mode;
    bool alternates;  /* user and assistant must take turns, the user first */
    bool free_roles;  /* any role: its name stands in the turn, as {role} in `user` */
    bool trim_joined; /* the user's trimming comes after the system text was put in front */
    ot_chat_turn system, user, assistant;
} ot_chat_template;

/* All templates, NULL-terminated. */
extern const ot_chat_template *const ot_chat_templates[];
/* By name; an unknown one is OT_ERR_USAGE with the list. */
ot_status ot_chat_find(const char *name, const ot_chat_template **out, ot_error *err);
/* By the Jinja text of a tokenizer; NULL: none of the known ones. */
const ot_chat_template *ot_chat_recognise(const char *jinja, int64_t size);
/* The Jinja text of a model, *jinja NULL when it has none; ot_free. */
ot_status ot_chat_read(const char *model_path, char **jinja, int64_t *size, ot_error *err);
/* The template of a model folder or GGUF file: chat_template.jinja, tokenizer_config.json or the GGUF's key. name (may be NULL) overrides.
 * REFUSED with the list when there is none, or an unknown one. */
ot_status ot_chat_open(const char *model_path, const char *name, const ot_chat_template **out, ot_error *err);

typedef struct ot_chat_message {
    const char *role;
    ot_str content;
} ot_chat_message;

typedef struct ot_chat_span {
    int64_t from, to; /* bytes */
} ot_chat_span;

typedef struct ot_chat_text {
    char *text; /* NUL-terminated; ot_free */
    int64_t size;
    ot_chat_span *spans; /* [n_spans] what the assistant wrote, its ends of turns included; ot_free */
    int64_t n_spans;
    int64_t room, spans_room;
} ot_chat_text;

/* bos, eos: texts of the tokens, "" when there are none. ask: end with what makes the model answer. Zero-initialise out; a message that the
 * template cannot hold is OT_ERR_FORMAT without a place. */
ot_status ot_chat_render(const ot_chat_template *t, const ot_chat_message *messages, int64_t count, const char *bos, const char *eos, bool ask,
                         ot_chat_text *out, ot_error *err);
void ot_chat_text_free(ot_chat_text *t);

#endif
