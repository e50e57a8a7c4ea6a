#include "data/chat.h"

#include <stdio.h>

#include "base/mem.h"

/* ==== Finding. ==== */

static void list_names(char *text, size_t size) {
    text[0] = '\0';
    for (const ot_chat_template *const *t = ot_chat_templates; *t != NULL; t++) {
        size_t used = strlen(text);
        snprintf(text + used, size - used, "%s%s", used > 0 ? ", " : "", (*t)->name);
    }
}

ot_status ot_chat_find(const char *name, const ot_chat_template **out, ot_error *err) {
    for (const ot_chat_template *const *t = ot_chat_templates; *t != NULL; t++) {
        if (strcmp((*t)->name, name) != 0) continue;
        *out = *t;
        return OT_OK;
    }
    char known[512];
    list_names(known, sizeof known);
    return ot_fail(err, OT_ERR_USAGE, "--chat-template: there is no template \"%.100s\" (known: %s)", name, known);
}

/* One spelling: message['content'] as message.content, single quotes, real line breaks, one blank for several. *to has room for size + 1. */
static int64_t respell(const char *jinja, int64_t size, char *to) {
    int64_t n = 0;
    for (int64_t i = 0; i < size; i++) {
        char c = jinja[i] == '"' ? '\'' : jinja[i];
        if (c == ' ' && n > 0 && to[n - 1] == ' ') continue;
        if (c == '\\' && i + 1 < size && jinja[i + 1] == 'n') {
            c = '\n';
            i++;
        }
        to[n++] = c;
        bool closes = n > 2 && to[n - 1] == ']' && to[n - 2] == '\'';
        if (!closes) continue;
        int64_t open = n - 3;
        while (open > 0 && (to[open] == '_' || (to[open] >= 'a' && to[open] <= 'z'))) open--;
        if (open < 1 || to[open] != '\'' || to[open - 1] != '[' || open == n - 3) continue;
        int64_t letters = n - 2 - (open + 1);
        to[open - 1] = '.';
        memmove(to + open, to + open + 1, (size_t)letters);
        n = open + letters;
    }
    to[n] = '\0';
    return n;
}

static bool holds(const char *text, int64_t size, const char *part) { return memmem(text, (size_t)size, part, strlen(part)) != NULL; }

static bool fits(const ot_chat_template *t, const char *text, int64_t size) {
    for (int i = 0; i < OT_CHAT_MARKS && t->marks[i] != NULL; i++) {
        if (!holds(text, size, t->marks[i])) return false;
    }
    for (int i = 0; i < OT_CHAT_MARKS && t->never[i] != NULL; i++) {
        if (holds(text, size, t->never[i])) return false;
    }
    return true;
}

const ot_chat_template *ot_chat_recognise(const char *jinja, int64_t size) {
    void *text = NULL;
    if (ot_malloc(size + 1, 1, "a chat template", &text, NULL) != OT_OK) return NULL;
    int64_t n = respell(jinja, size, text);
    const ot_chat_template *found = NULL;
    for (const ot_chat_template *const *t = ot_chat_templates; *t != NULL && found == NULL; t++) found = fits(*t, text, n) ? *t : NULL;
    ot_free(text);
    return found;
}

ot_status ot_chat_open(const char *model_path, const char *name, const ot_chat_template **out, ot_error *err) {
    if (name != NULL) return ot_chat_find(name, out, err);
    char *jinja = NULL, known[512];
    int64_t size = 0;
    OT_TRY(ot_chat_read(model_path, &jinja, &size, err));
    *out = jinja != NULL ? ot_chat_recognise(jinja, size) : NULL;
    list_names(known, sizeof known);
    ot_status status = OT_OK;
    if (jinja == NULL) {
        status = ot_fail(err, OT_ERR_REFUSED, "%s has no chat template: choose the one that the model was tuned with by --chat-template NAME (%s)", model_path, known);
    } else if (*out == NULL) {
        status = ot_fail(err, OT_ERR_REFUSED,
                         "%s: its chat template is none of those known here: choose one that does the same by --chat-template NAME (%s), or give rows "
                         "with \"prompt\" and \"completion\"",
                         model_path, known);
    }
    ot_free(jinja);
    return status;
}

/* ==== Rendering. ==== */

typedef struct rendering {
    ot_chat_text *out;
    const char *bos, *eos, *role;
    ot_error *err;
    ot_status status; /* the first failure */
} rendering;

static void put(rendering *r, const char *text, int64_t size) {
    if (r->status != OT_OK || size == 0) return;
    r->status = ot_grow((void **)&r->out->text, &r->out->room, r->out->size + size + 1, 1, "a chat", r->err);
    if (r->status != OT_OK) return;
    memcpy(r->out->text + r->out->size, text, (size_t)size);
    r->out->size += size;
    r->out->text[r->out->size] = '\0';
}

/* The text of a table, with its names in braces filled in. */
static void put_text(rendering *r, const char *text) {
    while (text != NULL && *text != '\0') {
        const char *const names[] = {"{bos}", "{eos}", "{role}"}, *const values[] = {r->bos, r->eos, r->role};
        size_t plain = strcspn(text, "{");
        put(r, text, (int64_t)plain);
        text += plain;
        if (*text == '\0') return;
        size_t i = 0;
        while (i < 3 && strncmp(text, names[i], strlen(names[i])) != 0) i++;
        if (i < 3) put(r, values[i], (int64_t)strlen(values[i]));
        else put(r, text, 1);
        text += i < 3 ? strlen(names[i]) : 1;
    }
}

static void put_content(rendering *r, const ot_chat_turn *turn, ot_str content) {
    ot_str s = turn->trim ? ot_py_strip(content) : content;
    put(r, s.text, s.size);
}

static void put_turn(rendering *r, const ot_chat_turn *turn, const char *role, ot_str content) {
    r->role = role;
    put_text(r, turn->before);
    put_content(r, turn, content);
    put_text(r, turn->stop);
    put_text(r, turn->after);
}

/* A user's turn with the system text in it. */
static void put_joined(rendering *r, const ot_chat_template *t, ot_str system, ot_str content) {
    r->role = "user";
    put_text(r, t->user.before);
    ot_chat_text joined = {0};
    rendering inner = {.out = &joined, .bos = r->bos, .eos = r->eos, .role = "system", .err = r->err};
    put_text(&inner, t->system.before);
    put_content(&inner, &t->system, system);
    put_text(&inner, t->system.stop);
    if (t->trim_joined) {
        put(&inner, content.text, content.size);
        put_content(r, &t->user, (ot_str){joined.text, joined.size});
    } else {
        put(r, joined.text, joined.size);
        put_content(r, &t->user, content);
    }
    if (r->status == OT_OK) r->status = inner.status;
    ot_chat_text_free(&joined);
    put_text(r, t->user.stop);
    put_text(r, t->user.after);
}

static void put_answer(rendering *r, const ot_chat_template *t, ot_str content) {
    ot_chat_text *out = r->out;
    r->role = "assistant";
    put_text(r, t->assistant.before);
    int64_t from = out->size;
    put_text(r, t->assistant.lead);
    put_content(r, &t->assistant, content);
    put_text(r, t->assistant.stop);
    if (r->status == OT_OK) r->status = ot_grow((void **)&out->spans, &out->spans_room, out->n_spans + 1, sizeof *out->spans, "a chat", r->err);
    if (r->status == OT_OK) out->spans[out->n_spans++] = (ot_chat_span){from, out->size};
    put_text(r, t->assistant.after);
}

static bool is(const ot_chat_message *m, const char *role) { return strcmp(m->role, role) == 0; }

static ot_status check(const ot_chat_template *t, const ot_chat_message *messages, int64_t count, ot_error *err) {
    bool led = count > 0 && is(&messages[0], "system");
    if (count - led < 1) return ot_fail(err, OT_ERR_FORMAT, "there is no message besides the system's");
    if (led && t->system_mode == OT_CHAT_SYSTEM_REFUSED) return ot_fail(err, OT_ERR_FORMAT, "the chat template %s has no place for a system message", t->name);
    for (int64_t i = led; i < count; i++) {
        const ot_chat_message *m = &messages[i];
        bool user = is(m, "user"), known = user || is(m, "assistant") || (is(m, "system") && t->system_mode == OT_CHAT_SYSTEM_TURN);
        if (!known && !t->free_roles) return ot_fail(err, OT_ERR_FORMAT, "message %lld: the chat template %s has no role \"%.60s\" there", (long long)i + 1, t->name, m->role);
        if (t->alternates && user != ((i - led) % 2 == 0)) {
            return ot_fail(err, OT_ERR_FORMAT, "message %lld is the %.60s's: with the chat template %s the user begins and roles alternate", (long long)i + 1, m->role, t->name);
        }
    }
    return OT_OK;
}

static void put_system(rendering *r, const ot_chat_template *t, ot_str system) {
    r->role = "system";
    put_text(r, t->system.before);
    put_text(r, t->system_first);
    put_content(r, &t->system, system);
    put_text(r, t->system.stop);
    put_text(r, t->system.after);
}

ot_status ot_chat_render(const ot_chat_template *t, const ot_chat_message *messages, int64_t count, const char *bos, const char *eos, bool ask,
                         ot_chat_text *out, ot_error *err) {
    OT_TRY(check(t, messages, count, err));
    rendering r = {.out = out, .bos = bos, .eos = eos, .role = "", .err = err};
    bool led = is(&messages[0], "system"), turn = t->system_mode == OT_CHAT_SYSTEM_TURN;
    put_text(&r, t->begin);
    if (turn && (led || t->default_system != NULL)) put_system(&r, t, led ? messages[0].content : ot_str_of(t->default_system));
    for (int64_t i = led; i < count; i++) {
        const ot_chat_message *m = &messages[i];
        bool joins = led && ((t->system_mode == OT_CHAT_SYSTEM_IN_FIRST && i == 1) || (t->system_mode == OT_CHAT_SYSTEM_IN_LAST && i + 1 == count));
        if (is(m, "assistant")) put_answer(&r, t, m->content);
        else if (is(m, "user") && joins) put_joined(&r, t, messages[0].content, m->content);
        else put_turn(&r, is(m, "system") ? &t->system : &t->user, m->role, m->content);
    }
    put_text(&r, ask ? t->assistant.before : t->end);
    return r.status;
}

void ot_chat_text_free(ot_chat_text *t) {
    ot_free(t->text);
    ot_free(t->spans);
    *t = (ot_chat_text){0};
}
