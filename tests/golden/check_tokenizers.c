/* tokenizers/: ids of hard texts, with special tokens, and back to text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/json.h"
#include "golden.h"

enum { JSON_FLAGS = JSON_COMPACT | JSON_ENSURE_ASCII };

typedef struct lines {
    json_t **v;
    int64_t count;
} lines;

static lines read_lines(const char *path, char *why) {
    lines all = {0};
    int64_t capacity = 0;
    FILE *f = fopen(path, "r");
    if (!f) {
        snprintf(why, GOLD_TEXT, "cannot open %.150s", path);
        return all;
    }
    char *text = NULL;
    size_t size = 0;
    for (ssize_t n; (n = getline(&text, &size, f)) > 0;) {
        json_t *line = NULL;
        ot_error err = {0};
        if (ot_json_parse(text, n, "a line", &line, &err) != OT_OK) {
            snprintf(why, GOLD_TEXT, "line %lld: %.200s", (long long)all.count + 1, err.message);
            break;
        }
        if (all.count == capacity) {
            capacity = capacity ? 2 * capacity : 512;
            all.v = realloc(all.v, (size_t)capacity * sizeof *all.v);
            if (!all.v) gold_die("out of memory");
        }
        all.v[all.count++] = line;
    }
    free(text);
    fclose(f);
    return all;
}

static void free_lines(lines *all) {
    for (int64_t i = 0; i < all->count; i++) json_decref(all->v[i]);
    free(all->v);
}

/* One JSON object a line with the value that `pick` of the vector has, under `key`. */
static void write_lines(const char *path, const lines *vectors, const char *pick, const char *key) {
    FILE *f = fopen(path, "w");
    if (!f) gold_die("cannot write %s", path);
    for (int64_t i = 0; i < vectors->count; i++) {
        json_t *line = json_object();
        json_object_set(line, key, json_object_get(vectors->v[i], pick));
        char *text = json_dumps(line, JSON_FLAGS);
        if (!text) gold_die("out of memory");
        fprintf(f, "%s\n", text);
        free(text);
        json_decref(line);
    }
    if (fclose(f)) gold_die("cannot write %s", path);
}

/* What vector i should give: `want`, or `otherwise` when it has no such key. */
static void one_direction(gold_run *run, const char *name, const char *tokenizer, const lines *vectors, const char *pick, const char *from,
                          const char *to, const char *want, const char *otherwise, const char *flag) {
    gold_check *check = gold_check_add(run, "%s/%s", name, want);
    gold_path in;
    gold_temp(run, in, ".jsonl");
    write_lines(in, vectors, pick, from);
    gold_args args = {0};
    gold_arg(&args, "tokenize", tokenizer, "--jsonl", NULL);
    if (flag) gold_arg(&args, flag, NULL);
    gold_result result = gold_exec(run, &args, in);
    if (result.code != 0) {
        gold_fail(check, "%s", result.text);
        return;
    }
    char why[GOLD_TEXT] = "";
    lines out = read_lines(result.out, why);
    if (why[0]) gold_fail(check, "%s", why);
    if (out.count != vectors->count) gold_fail(check, "%lld lines for %lld texts", (long long)out.count, (long long)vectors->count);
    int64_t wrong = 0;
    for (int64_t i = 0; i < out.count && i < vectors->count; i++) {
        const json_t *expected = json_object_get(vectors->v[i], want);
        if (!expected) expected = json_object_get(vectors->v[i], otherwise);
        const json_t *actual = json_object_get(out.v[i], to);
        if (json_equal(expected, actual) == 1) continue;
        if (wrong++ == 0) {
            char *e = json_dumps(expected, JSON_FLAGS | JSON_ENCODE_ANY), *a = actual ? json_dumps(actual, JSON_FLAGS | JSON_ENCODE_ANY) : NULL;
            char *text = json_dumps(json_object_get(vectors->v[i], "text"), JSON_FLAGS | JSON_ENCODE_ANY);
            gold_fail(check, "line %lld, text %.60s: %.120s, expected %.120s", (long long)i + 1, text ? text : "?", a ? a : "nothing", e ? e : "?");
            free(e);
            free(a);
            free(text);
        }
    }
    if (wrong) {
        size_t n = strlen(check->detail);
        snprintf(check->detail + n, sizeof check->detail - n, " (%lld lines differ)", (long long)wrong);
    }
    gold_judge(check, "all lines", (double)wrong, 0, 0);
    free_lines(&out);
}

static void one_tokenizer(gold_run *run, const char *name, const char *tokenizer, const char *vectors_path) {
    char why[GOLD_TEXT] = "";
    lines vectors = read_lines(vectors_path, why);
    if (why[0]) gold_die("%s: %s", vectors_path, why);
    bool special = false;
    for (int64_t i = 0; i < vectors.count; i++) special |= json_object_get(vectors.v[i], "ids_special") != NULL;
    one_direction(run, name, tokenizer, &vectors, "text", "text", "ids", "ids", "ids", NULL);
    if (special) one_direction(run, name, tokenizer, &vectors, "text", "text", "ids", "ids_special", "ids", "--special");
    one_direction(run, name, tokenizer, &vectors, "ids", "ids", "text", "decoded", "text", "--decode");
    free_lines(&vectors);
}

void gold_section_tokenizers(gold_run *run) {
    gold_path dir;
    gold_join(dir, "%s/tokenizers", run->root);
    int64_t count;
    char **names = gold_names(dir, &count);
    for (int64_t i = 0; i < count; i++) {
        char name[GOLD_TEXT];
        size_t length = strcspn(names[i], ".");
        snprintf(name, sizeof name, "tokenizers/%.*s", (int)(length < 200 ? length : 200), names[i]);
        if (!gold_wanted(run, name)) continue;
        gold_path tokenizer, vectors;
        if (gold_exists("%s/%s/vectors.jsonl", dir, names[i])) {
            gold_join(tokenizer, "%s/%s", dir, names[i]);
            gold_join(vectors, "%s/%s/vectors.jsonl", dir, names[i]);
        } else if (names[i][length] && strcmp(names[i] + length, ".jsonl") == 0) {
            gold_join(vectors, "%s/%s", dir, names[i]);
            if (strcmp(name, "tokenizers/tok512") == 0) gold_join(tokenizer, "%s/gguf/f32.gguf", run->root);
            else if (strcmp(name, "tokenizers/smollm2-gguf") == 0) gold_join(tokenizer, "%s", run->smol ? run->smol : "");
            else gold_join(tokenizer, "%s/tokenizers/%.*s", run->shared, (int)length, names[i]);
        } else {
            continue;
        }
        if (tokenizer[0] && gold_exists("%s", tokenizer)) one_tokenizer(run, name, tokenizer, vectors);
        else gold_skip(run, name, "its vocabulary is not here");
    }
    gold_names_free(names, count);
}
