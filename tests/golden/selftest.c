/* Tests the golden runner itself: with answers that are right it passes, with any one of them spoiled it names the check, and
 * the list of passing checks can grow but not shrink.
 *
 *   golden_selftest RUNNER FAKE DATA
 *
 * FAKE answers from MODEL/truth, the untouched fixtures; what is spoiled is the fixture the runner compares with. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "golden.h"

typedef struct bench {
    gold_run run; /* its binary is the runner */
    const char *fake;
    gold_path data, model, truth, source, list;
    int failures;
} bench;

static gold_path temp_folder;

static void remove_temp(void) {
    ot_error err = {0};
    if (temp_folder[0] && ot_remove_tree(temp_folder, &err) != OT_OK) fprintf(stderr, "golden selftest: %s\n", err.message);
}

static void must(ot_status status, const ot_error *err) {
    if (status != OT_OK) gold_die("%s", err->message);
}

static void copy(const char *from, const char *to) {
    ot_error err = {0};
    must(ot_copy_file(from, to, &err), &err);
}

/* Puts the untouched fixtures back, in the model and beside it as the truth. */
static void restore(bench *b) {
    ot_error err = {0};
    must(ot_remove_tree(b->model, &err), &err);
    must(ot_make_dirs(b->truth, &err), &err);
    int64_t count;
    char **names = gold_names(b->source, &count);
    for (int64_t i = 0; i < count; i++) {
        gold_path from, to;
        gold_join(from, "%s/%s", b->source, names[i]);
        gold_join(to, "%s/%s", b->model, names[i]);
        copy(from, to);
        if (strncmp(names[i], "golden", 6) != 0 && strncmp(names[i], "generate", 8) != 0) continue;
        gold_join(to, "%s/%s", b->truth, names[i]);
        copy(from, to);
    }
    gold_names_free(names, count);
}

/* Rewrites a file: `change` may edit a tensor's copy or tell to leave it out. */
typedef bool edit(const ot_tensor *t, void *copy_of_data, const void *arg);

static void rewrite(bench *b, const char *path, edit *change, const void *arg) {
    ot_safetensors *st = gold_open_fixture(path);
    int64_t n = ot_safetensors_count(st), kept = 0;
    ot_tensor *tensors = calloc((size_t)n, sizeof *tensors);
    void **data = calloc((size_t)n, sizeof *data);
    if (!tensors || !data) gold_die("out of memory");
    for (int64_t i = 0; i < n; i++) {
        const ot_tensor *t = ot_safetensors_at(st, i);
        if (!(data[i] = malloc((size_t)t->bytes))) gold_die("out of memory");
        memcpy(data[i], t->data, (size_t)t->bytes);
        if (!change(t, data[i], arg)) continue;
        tensors[kept] = *t;
        tensors[kept++].data = data[i];
    }
    gold_path fresh;
    gold_temp(&b->run, fresh, ".safetensors");
    gold_write_tensors(fresh, tensors, kept);
    ot_safetensors_close(st);
    copy(fresh, path);
    for (int64_t i = 0; i < n; i++) free(data[i]);
    free(data);
    free(tensors);
}

typedef struct spoil {
    const char *file, *tensor; /* tensor: whole name, or its beginning when it ends in '*' */
    double amount;             /* in units of 1e-4 of its largest value; NAN writes a NaN */
    const char *check;         /* what must be reported */
    const char *word;          /* FAIL or LOOSE */
} spoil;

static bool named(const char *name, const char *pattern) {
    size_t n = strlen(pattern);
    return pattern[n - 1] == '*' ? strncmp(name, pattern, n - 1) == 0 : strcmp(name, pattern) == 0;
}

static bool spoil_one(const ot_tensor *t, void *data, const void *arg) {
    const spoil *s = arg;
    if (!named(t->name, s->tensor)) return true;
    if (t->dtype == OT_I64) {
        ((int64_t *)data)[0] += 1;
        return true;
    }
    float *v = data;
    int64_t largest = 0;
    for (int64_t i = 1; i < ot_tensor_elements(t); i++) {
        if (fabsf(v[i]) > fabsf(v[largest])) largest = i;
    }
    /* Not the largest itself, whose size sets the bar. */
    int64_t at = largest > 0 ? 0 : ot_tensor_elements(t) - 1;
    v[at] = isnan(s->amount) ? NAN : (float)((double)v[at] + s->amount * 1e-4 * fabs((double)v[largest]));
    return true;
}

static bool drop_one(const ot_tensor *t, void *data, const void *arg) {
    (void)data;
    return !named(t->name, arg);
}

/* Row 0 of the left-padded fixture is whole; the others begin with padding. */
static bool spoil_masked(const ot_tensor *t, void *data, const void *arg) {
    (void)arg;
    if (strcmp(t->name, "logits") == 0) ((float *)data)[t->shape[1] * t->shape[2]] = 1e-30F;
    return true;
}

static gold_result runner(bench *b, const char *more) {
    gold_args args = {0};
    gold_arg(&args, "--binary", b->fake, "--data", b->data, "--list", b->list, NULL);
    if (more) gold_arg(&args, more, NULL);
    return gold_exec(&b->run, &args, NULL);
}

/* How many lines of the output begin with this word; does one of them name the check? */
static int lines_with(const char *path, const char *word, const char *check, bool *names) {
    int count = 0;
    FILE *f = fopen(path, "r");
    if (!f) gold_die("cannot read %s", path);
    char line[4 * GOLD_TEXT];
    *names = check == NULL;
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, word, strlen(word)) != 0) continue;
        count++;
        if (check && strstr(line, check)) *names = true;
    }
    fclose(f);
    return count;
}

static void expect(bench *b, const char *what, const gold_result *r, int code, const char *word, const char *check, int at_least) {
    bool names;
    int n = lines_with(r->out, word, check, &names);
    bool good = r->code == code && (at_least ? n >= at_least && names : n == 0);
    printf("%s %s\n", good ? "ok  " : "FAIL", what);
    if (good) return;
    b->failures++;
    printf("     exit %d (expected %d), %d lines %s (expected %s%d) %s\n", r->code, code, n, word, at_least ? "at least " : "", at_least, check ? check : "");
}

static void test_list(bench *b) {
    gold_write_text(b->list, "");
    restore(b);
    gold_result r = runner(b, NULL);
    expect(b, "an unlisted check that passes is reported", &r, 1, "NEW", "models/gpt2/golden/logits", 5);
    r = runner(b, "--foreign");
    expect(b, "with --foreign it is not", &r, 0, "NEW", NULL, 0);
    r = runner(b, "--update");
    expect(b, "--update lists it", &r, 0, "FAIL", NULL, 0);
    r = runner(b, NULL);
    expect(b, "then all is as listed", &r, 0, "NEW", NULL, 0);
}

static void test_spoiled(bench *b) {
    static const spoil cases[] = {
        {"golden", "logits", 1.5, "models/gpt2/golden/logits", "FAIL"},
        {"golden", "logits", 0.5, "models/gpt2/golden/logits", "LOOSE"},
        {"golden", "logits", NAN, "models/gpt2/golden/logits", "FAIL"},
        {"golden", "loss", 1.5, "models/gpt2/golden/loss", "FAIL"},
        {"golden", "hidden_states.0", 1.5, "models/gpt2/golden/hidden_states", "FAIL"},
        {"golden", "hidden_states.1", 1.5, "models/gpt2/golden/hidden_states", "FAIL"},
        {"golden", "last_block", 1.5, "models/gpt2/golden/last_block", "FAIL"},
        {"golden", "grad.transformer.h.0.attn.c_attn.weight", 1.5, "models/gpt2/golden/grad", "FAIL"},
        {"golden", "grad.transformer.h.1.mlp.c_fc.bias", 1.5, "models/gpt2/golden/grad", "FAIL"},
        {"golden", "grad.transformer.ln_f.weight", NAN, "models/gpt2/golden/grad", "FAIL"},
        {"golden", "grad.transformer.wte.weight", 1.5, "models/gpt2/golden/grad", "FAIL"},
        {"golden-left", "loss", 1.5, "models/gpt2/golden-left/loss", "FAIL"},
        {"generate", "ids", 1, "models/gpt2/generate", "FAIL"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gold_path path;
        char what[GOLD_TEXT];
        restore(b);
        gold_join(path, "%s/%s.safetensors", b->model, cases[i].file);
        rewrite(b, path, spoil_one, &cases[i]);
        gold_result r = runner(b, NULL);
        snprintf(what, sizeof what, "%s of %s spoiled by %g bars: %s", cases[i].tensor, cases[i].file, cases[i].amount, cases[i].word);
        expect(b, what, &r, 1, cases[i].word, cases[i].check, 1);
    }
    gold_path path;
    restore(b);
    gold_join(path, "%s/golden-left.safetensors", b->truth);
    rewrite(b, path, spoil_masked, NULL);
    gold_result r = runner(b, NULL);
    expect(b, "a masked position that is not zero", &r, 1, "FAIL", "models/gpt2/golden-left/masked_logits", 1);
}

static void test_structure(bench *b) {
    static const struct {
        const char *where, *tensor, *check;
    } cases[] = {{"truth", "logits", "models/gpt2/golden/logits"},
                 {"truth", "hidden_states.0", "models/gpt2/golden/hidden_states"},
                 {"truth", "grad.transformer.wpe.weight", "models/gpt2/golden/grad"},
                 {"fixture", "grad.transformer.wpe.weight", "models/gpt2/golden/grad"},
                 {"fixture", "hidden_states.2", "models/gpt2/golden/hidden_states"}};
    gold_path path;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char what[GOLD_TEXT];
        restore(b);
        gold_join(path, "%s/golden.safetensors", strcmp(cases[i].where, "truth") == 0 ? b->truth : b->model);
        rewrite(b, path, drop_one, cases[i].tensor);
        gold_result r = runner(b, NULL);
        snprintf(what, sizeof what, "%s is missing from the %s", cases[i].tensor, cases[i].where);
        expect(b, what, &r, 1, "FAIL", cases[i].check, 1);
    }
    char *before, *after;
    int64_t n, m;
    ot_error err = {0};
    must(ot_read_file(b->list, 1 << 20, &before, &n, &err), &err);
    gold_result r = runner(b, "--update");
    must(ot_read_file(b->list, 1 << 20, &after, &m, &err), &err);
    expect(b, "--update refuses while a listed check fails", &r, 1, "FAIL", NULL, 1);
    if (n != m || memcmp(before, after, (size_t)n) != 0) {
        puts("FAIL --update changed the list although a listed check fails");
        b->failures++;
    }
    ot_free(before);
    ot_free(after);

    restore(b);
    gold_join(path, "%s/generate.safetensors", b->model);
    must(ot_remove_tree(path, &err), &err);
    r = runner(b, NULL);
    expect(b, "a listed check that is not run", &r, 1, "GONE", "models/gpt2/generate", 1);
    r = runner(b, "--foreign");
    expect(b, "with --foreign it may be absent", &r, 0, "GONE", NULL, 0);
    must(ot_remove_tree(b->data, &err), &err);
    r = runner(b, NULL);
    expect(b, "an absent folder is skipped, and says so", &r, 77, "skipped:", NULL, 1);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fputs("usage: golden_selftest RUNNER FAKE DATA\n", stderr);
        return 2;
    }
    bench b = {.run = {.prefix = "", .binary = argv[1]}, .fake = argv[2]};
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    const char *base = getenv("TMPDIR");
    gold_join(b.run.temp, "%s/offsite-selftest-XXXXXX", base && base[0] ? base : "/tmp");
    if (!mkdtemp(b.run.temp)) gold_die("cannot make a temporary folder");
    gold_join(temp_folder, "%s", b.run.temp);
    atexit(remove_temp);
    sigset_t waited;
    sigemptyset(&waited);
    sigaddset(&waited, SIGCHLD);
    sigprocmask(SIG_BLOCK, &waited, NULL);
    gold_join(b.source, "%s/models/gpt2", argv[3]);
    gold_join(b.data, "%s/data", b.run.temp);
    gold_join(b.model, "%s/models/gpt2", b.data);
    gold_join(b.truth, "%s/truth", b.model);
    gold_join(b.list, "%s/passing.txt", b.run.temp);
    test_list(&b);
    test_spoiled(&b);
    test_structure(&b);
    printf("%d failures\n", b.failures);
    return b.failures ? 1 : 0;
}
