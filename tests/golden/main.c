/* The golden runner's command line, the list of checks that pass, and the report.
 *
 *   golden_runner --binary OFFSITE --data DIR --list FILE [options]
 *     --prefix P      in front of every name (own/)          --only NAME   groups at or under NAME
 *     --shared DIR    has tokenizers/ (default DIR/..)       --smol FILE   SmolLM2 as GGUF
 *     --foreign       another seed's folder: listed checks that it has must pass, nothing more is asked
 *     --update        add what passes to the list; refuses to drop a line
 *     --all           every layer-drop pair                  --verbose     the whole table, and each command on stderr
 *     --keep          leave the temporary folder
 *
 * Exit codes: 0 as listed, 1 not as listed, 2 usage, 4 a fixture or the machine failed, 77 the folder is absent (skipped). */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "golden.h"

enum { EXIT_ABSENT = 77, WORST_SHOWN = 6 };

/* A tight bar is promised only with room for another processor's rounding. */
static const double TIGHT_MARGIN = 0.5;

typedef struct entry {
    char name[GOLD_TEXT];
    bool tight, seen, mine;
} entry;

typedef struct list {
    entry *v;
    int64_t count, capacity;
} list;

typedef struct options {
    const char *binary, *data, *list;
    bool foreign, update;
} options;

static char temp_folder[GOLD_PATH];

static void remove_temp(void) {
    ot_error err = {0};
    if (temp_folder[0] && ot_remove_tree(temp_folder, &err) != OT_OK) fprintf(stderr, "golden runner: %s\n", err.message);
}

/* ---- the list ---- */

static entry *list_add(list *l, const char *name) {
    if (l->count == l->capacity) {
        l->capacity = l->capacity ? 2 * l->capacity : 256;
        l->v = realloc(l->v, (size_t)l->capacity * sizeof *l->v);
        if (!l->v) gold_die("out of memory");
    }
    entry *e = &l->v[l->count++];
    *e = (entry){0};
    snprintf(e->name, sizeof e->name, "%s", name);
    return e;
}

static entry *list_find(const list *l, const char *name) {
    for (int64_t i = 0; i < l->count; i++) {
        if (strcmp(l->v[i].name, name) == 0) return &l->v[i];
    }
    return NULL;
}

/* Lines "NAME" or "NAME tight"; # begins a comment. Without a prefix, the lines of own/ are somebody else's. */
static list list_read(const char *path, const char *prefix) {
    list l = {0};
    FILE *f = fopen(path, "r");
    if (!f) gold_die("cannot read the list %s", path);
    char line[2 * GOLD_TEXT];
    for (int number = 1; fgets(line, sizeof line, f); number++) {
        line[strcspn(line, "#\r\n")] = 0;
        char *save = NULL, *name = strtok_r(line, " \t", &save), *word = name ? strtok_r(NULL, " \t", &save) : NULL;
        if (!name) continue;
        if ((word && strcmp(word, "tight") != 0) || strlen(name) >= GOLD_TEXT) gold_die("%s: line %d is not NAME or NAME tight", path, number);
        if (list_find(&l, name)) gold_die("%s: line %d repeats %s", path, number, name);
        entry *e = list_add(&l, name);
        e->tight = word != NULL;
        e->mine = prefix[0] ? strncmp(name, prefix, strlen(prefix)) == 0 : strncmp(name, "own/", 4) != 0;
    }
    fclose(f);
    return l;
}

static int by_name(const void *a, const void *b) { return strcmp(((const entry *)a)->name, ((const entry *)b)->name); }

static void list_write(const char *path, list *l) {
    qsort(l->v, (size_t)l->count, sizeof *l->v, by_name);
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f) gold_die("out of memory");
    fprintf(f, "# Golden checks that pass: NAME, or NAME tight where the bar of a float32 engine is kept too.\n"
               "# Written by golden_runner --update. A line may be added, never taken away.\n");
    for (int64_t i = 0; i < l->count; i++) fprintf(f, "%s%s\n", l->v[i].name, l->v[i].tight ? " tight" : "");
    if (fclose(f)) gold_die("out of memory");
    gold_write_text(path, text);
    free(text);
}

/* ---- the report ---- */

static void print_check(const char *word, const gold_check *c) {
    if (c->failed || !c->judged) {
        printf("%-8s %-48s %s\n", word, c->name, c->detail[0] ? c->detail : "nothing was compared");
    } else {
        printf("%-8s %-48s error %.2e bar %.2e ratio %.3g tight %.3g  %s", word, c->name, c->error, c->bar, c->ratio, c->tight, c->detail);
        if (c->key_tight > 0) printf("; key biases %.3g tight %.3g", c->key, c->key_tight);
        putchar('\n');
    }
}

static int by_ratio(const void *a, const void *b) {
    const gold_check *x = *(gold_check *const *)a, *y = *(gold_check *const *)b;
    return (y->ratio > x->ratio) - (y->ratio < x->ratio);
}

static void print_worst(const gold_run *run) {
    gold_check **passing = malloc((size_t)(run->count + 1) * sizeof *passing);
    if (!passing) gold_die("out of memory");
    int64_t n = 0, shown = 0;
    for (int64_t i = 0; i < run->count; i++) {
        if (gold_passes(run->checks[i])) passing[n++] = run->checks[i];
    }
    qsort(passing, (size_t)n, sizeof *passing, by_ratio);
    if (n && passing[0]->ratio > 0) puts("closest to their bars:");
    for (; shown < n && shown < WORST_SHOWN && passing[shown]->ratio > 0; shown++) print_check("", passing[shown]);
    free(passing);
}

static bool tight_with_room(const gold_check *c) { return gold_passes_tight(c) && c->tight <= TIGHT_MARGIN; }

static bool was_skipped(const gold_run *run, const char *name) {
    for (int64_t i = 0; i < run->n_skipped; i++) {
        if (strncmp(name, run->skipped[i], strlen(run->skipped[i])) == 0) return true;
    }
    return false;
}

/* Judges every check against the list; returns the exit code. */
static int report(const gold_run *run, const options *o) {
    list l = list_read(o->list, run->prefix);
    int64_t passing = 0, tight = 0, pending = 0, broken = 0, fresh = 0;
    int64_t listed_before = l.count;
    for (int64_t i = 0; i < run->count; i++) {
        const gold_check *c = run->checks[i];
        entry *e = list_find(&l, c->name);
        bool pass = gold_passes(c);
        passing += pass;
        tight += gold_passes_tight(c);
        if (e) e->seen = true;
        if (e && (!pass || (e->tight && !gold_passes_tight(c)))) {
            broken++;
            print_check(pass ? "LOOSE" : "FAIL", c);
        } else if (!e && pass) {
            fresh++;
            bool promise = tight_with_room(c);
            if (!o->update && !o->foreign) printf("NEW      add to %s: %s%s\n", o->list, c->name, promise ? " tight" : "");
            if (o->update) list_add(&l, c->name)->tight = promise;
            if (run->verbose) print_check("new", c);
        } else if (!e) {
            pending++;
            if (run->verbose) print_check("pending", c);
        } else {
            if (run->verbose) print_check("ok", c);
            if (o->update && !e->tight && tight_with_room(c)) e->tight = true;
        }
    }
    for (int64_t i = 0; i < listed_before; i++) {
        const entry *e = &l.v[i];
        if (e->seen || !e->mine || o->foreign || run->only || was_skipped(run, e->name)) continue;
        broken++;
        printf("GONE     %s is listed and was not run\n", e->name);
    }
    print_worst(run);
    printf("%lld checks: %lld pass (%lld within the tight bar), %lld listed ones broken, %lld new, %lld not passing yet; %lld runs of the binary\n",
           (long long)run->count, (long long)passing, (long long)tight, (long long)broken, (long long)fresh, (long long)pending, (long long)run->spawned);
    if (o->update && broken) {
        printf("the list stays as it was: it would lose lines\n");
    } else if (o->update) {
        list_write(o->list, &l);
        printf("%s now has %lld lines\n", o->list, (long long)l.count);
    }
    if (!run->count) printf("nothing was run\n");
    free(l.v);
    bool unlisted = fresh && !o->update && !o->foreign;
    return broken || unlisted || !run->count ? 1 : 0;
}

/* ---- main ---- */

static int usage(void) {
    fputs("usage: golden_runner --binary OFFSITE --data DIR --list FILE [--prefix P] [--shared DIR] [--smol FILE] [--only NAME] [--foreign] "
          "[--update] [--all] [--verbose] [--keep]\n",
          stderr);
    return 2;
}

static bool parse(int argc, char **argv, gold_run *run, options *o) {
    const struct {
        const char *flag;
        const char **value;
        bool *on;
    } table[] = {{"--binary", &o->binary, NULL},  {"--data", &o->data, NULL},      {"--list", &o->list, NULL},    {"--prefix", &run->prefix, NULL},
                 {"--shared", &run->shared, NULL}, {"--smol", &run->smol, NULL},    {"--only", &run->only, NULL},  {"--foreign", NULL, &o->foreign},
                 {"--update", NULL, &o->update},   {"--all", NULL, &run->all},      {"--verbose", NULL, &run->verbose}, {"--keep", NULL, &run->keep}};
    for (int i = 1; i < argc; i++) {
        size_t k = 0, n = sizeof table / sizeof table[0];
        while (k < n && strcmp(argv[i], table[k].flag) != 0) k++;
        if (k == n || (table[k].value && i + 1 == argc)) return false;
        if (table[k].on) *table[k].on = true;
        else *table[k].value = argv[++i];
    }
    return o->binary && o->data && o->list && !(o->update && o->foreign);
}

int main(int argc, char **argv) {
    gold_run run = {.prefix = ""};
    options o = {0};
    if (!parse(argc, argv, &run, &o)) return usage();
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    if (!ot_path_is_dir(o.data)) {
        printf("skipped: %s is not here\n", o.data);
        return EXIT_ABSENT;
    }
    if (access(o.binary, X_OK) != 0) gold_die("%s cannot be run", o.binary);
    gold_path binary, shared;
    if (o.binary[0] == '/') gold_join(binary, "%s", o.binary);
    else gold_join(binary, "./%s", o.binary);
    gold_join(shared, "%s/..", o.data);
    run.binary = binary;
    run.root = o.data;
    if (!run.shared) run.shared = shared;

    const char *base = getenv("TMPDIR");
    gold_join(run.temp, "%s/offsite-golden-XXXXXX", base && base[0] ? base : "/tmp");
    if (!mkdtemp(run.temp)) gold_die("cannot make a temporary folder %s", run.temp);
    if (!run.keep) gold_join(temp_folder, "%s", run.temp);
    atexit(remove_temp);
    sigset_t waited;
    sigemptyset(&waited);
    sigaddset(&waited, SIGCHLD);
    sigaddset(&waited, SIGINT);
    sigaddset(&waited, SIGTERM);
    sigprocmask(SIG_BLOCK, &waited, NULL); /* process.c takes them while it waits for a child */

    static const struct {
        const char *name;
        void (*run)(gold_run *);
    } sections[] = {{"models", gold_section_models}, {"gguf", gold_section_gguf}, {"train", gold_section_train},
                    {"emulator", gold_section_emulator}, {"tokenizers", gold_section_tokenizers}};
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        if (gold_wanted(&run, sections[i].name)) sections[i].run(&run);
    }
    int code = report(&run, &o);
    if (run.keep) printf("kept %s\n", run.temp);
    for (int64_t i = 0; i < run.count; i++) free(run.checks[i]);
    free(run.checks);
    return code;
}
