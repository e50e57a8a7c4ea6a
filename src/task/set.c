/* The documents of a task: finding the files, few-shot examples, the list of tasks by name. */
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "task/own.h"
#include "task/python_random.h"

enum { FEWSHOT_SEED = 1234, MAX_SHOTS = 1024, PATH_ROOM = 4096 };
static const int64_t TEXT_LIMIT = (int64_t)2 << 30;

struct ot_task_set {
    const ot_task *task;
    ot_rows rows, pool;
    int64_t count, shots;
    ot_python_random random;
    int64_t drawn_for; /* documents that have drawn */
    int64_t *drawn;    /* [shots + 1] rows of the pool */
};

/* ==== Names. ==== */

ot_status ot_task_find(const char *name, const ot_task **out, ot_error *err) {
    char known[512] = "";
    for (const ot_task *const *t = ot_tasks; *t != NULL; t++) {
        if (strcmp((*t)->name, name) == 0) {
            *out = *t;
            return OT_OK;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", used > 0 ? ", " : "", (*t)->name);
    }
    return ot_fail(err, OT_ERR_USAGE, "there is no task \"%s\" (known: %s; a task of your own is a .yaml file)", name, known);
}

ot_status ot_task_open(const char *name, const ot_task **out, ot_error *err) {
    bool file = ot_path_ends(name, ".yaml") || ot_path_ends(name, ".yml");
    return file ? ot_own_task_read(name, out, err) : ot_task_find(name, out, err);
}

void ot_task_close(const ot_task *task) {
    if (task != NULL && task->own != NULL) ot_own_task_free(task);
}

/* ==== Files. ==== */

static bool present(const ot_task_set_options *o, const char *name, const char *split, const char *suffix, char path[PATH_ROOM]) {
    char file[512];
    snprintf(file, sizeof file, "%s.%s.%s", name, split, suffix);
    for (int64_t i = 0; i < o->n_folders; i++) {
        if (ot_path_join(path, PATH_ROOM, o->folders[i], file) && ot_path_exists(path)) return true;
    }
    return false;
}

static bool find_in_folders(const ot_task *task, const ot_task_set_options *o, const char *split, char path[PATH_ROOM]) {
    if (present(o, task->name, split, "jsonl", path)) return true;
    if (task->rows_of_text == NULL) return false;
    if (present(o, task->name, split, "txt", path)) return true;
    for (const char *const *name = task->text_names; name != NULL && *name != NULL; name++) {
        if (present(o, *name, split, "txt", path)) return true;
    }
    return false;
}

/* Folders that are asked for come first, then what the task's own file names. */
static bool find_rows(const ot_task *task, const ot_task_set_options *o, const char *split, char path[PATH_ROOM]) {
    if (find_in_folders(task, o, split, path)) return true;
    for (int64_t i = 0; i < task->n_files; i++) {
        if (strcmp(task->files[i].split, split) != 0) continue;
        snprintf(path, PATH_ROOM, "%s", task->files[i].path);
        return true;
    }
    return false;
}

static const char *first_folder(const ot_task_set_options *o) { return o->n_folders > 0 ? o->folders[0] : "."; }

static ot_status read_text(const ot_task *task, const char *path, ot_rows *out, ot_error *err) {
    char *text = NULL;
    int64_t size = 0;
    OT_TRY(ot_read_file(path, TEXT_LIMIT, &text, &size, err));
    ot_status status = size == 0 ? ot_fail(err, OT_ERR_FORMAT, "%s is empty", path) : ot_rows_begin(path, out, err);
    if (status == OT_OK) status = task->rows_of_text((ot_str){text, size}, out, err);
    ot_free(text);
    return status;
}

static ot_status read_rows(const ot_task *task, const char *path, ot_rows *out, ot_error *err) {
    bool text = task->rows_of_text != NULL && !ot_path_ends(path, ".jsonl");
    return text ? read_text(task, path, out, err) : ot_rows_read(path, out, err);
}

static ot_status open_rows(ot_task_set *set, const ot_task_set_options *o, ot_error *err) {
    char path[PATH_ROOM];
    const ot_task *task = set->task;
    const char *split = o->split != NULL ? o->split : task->split;
    if (o->file != NULL) {
        snprintf(path, sizeof path, "%s", o->file);
    } else if (o->n_folders == 0 && task->n_files == 0) {
        return ot_fail(err, OT_ERR_USAGE, "%s: where its rows are is not said: name the folder with --data DIR", task->name);
    } else if (!find_rows(task, o, split, path)) {
        return ot_fail(err, OT_ERR_IO, "%s: the file %s.%s.jsonl%s is not there: put the rows of %s into it, one JSON object a line", first_folder(o),
                       task->name, split, task->rows_of_text != NULL ? " (or .txt)" : "", task->dataset != NULL ? task->dataset : "the task");
    }
    OT_TRY(read_rows(task, path, &set->rows, err));
    set->count = o->limit > 0 && o->limit < set->rows.count ? o->limit : set->rows.count;
    return OT_OK;
}

static ot_status open_pool(ot_task_set *set, const ot_task_set_options *o, ot_error *err) {
    char path[PATH_ROOM];
    const ot_task *task = set->task;
    if (task->examples == NULL) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "%s has no few-shot form, in the harness neither: leave --num-fewshot out", task->name);
    }
    if (o->shots > MAX_SHOTS) return ot_fail(err, OT_ERR_USAGE, "%lld examples are too many: %d at most", (long long)o->shots, MAX_SHOTS);
    bool found = false;
    for (const char *const *split = task->examples; !found && *split != NULL; split++) found = find_rows(task, o, *split, path);
    if (!found) {
        return ot_fail(err, OT_ERR_IO, "%s: few-shot examples of %s come from %s.%s.jsonl, which is not there", first_folder(o), task->name,
                       task->name, task->examples[0]);
    }
    OT_TRY(read_rows(task, path, &set->pool, err));
    set->shots = o->shots;
    ot_python_random_seed(&set->random, FEWSHOT_SEED);
    return ot_calloc(set->shots + 1, sizeof *set->drawn, "few-shot examples", (void **)&set->drawn, err);
}

ot_status ot_task_set_open(const ot_task *task, const ot_task_set_options *options, ot_task_set **out, ot_error *err) {
    ot_task_set *set = calloc(1, sizeof *set);
    if (set == NULL) return ot_fail_memory(err, sizeof *set, "a task");
    set->task = task;
    ot_task_set_options o = *options;
    if (o.shots < 0) o.shots = task->shots;
    ot_status status = open_rows(set, &o, err);
    if (status == OT_OK && o.shots > 0 && task->kind != OT_TASK_ROLLING && task->kind != OT_TASK_BLOCKS) status = open_pool(set, &o, err);
    if (status != OT_OK) {
        ot_task_set_close(set);
        return status;
    }
    *out = set;
    return OT_OK;
}

void ot_task_set_close(ot_task_set *set) {
    if (set == NULL) return;
    ot_rows_free(&set->rows);
    ot_rows_free(&set->pool);
    ot_free(set->drawn);
    free(set);
}

ot_status ot_task_check(const ot_task *task, const ot_task_set_options *options, ot_error *err) {
    ot_task_set *set = NULL;
    OT_TRY(ot_task_set_open(task, options, &set, err));
    int64_t n = task->kind == OT_TASK_BLOCKS ? set->rows.count : set->count;
    ot_status status = OT_OK;
    for (int64_t i = 0; status == OT_OK && i < n; i++) {
        ot_arena arena = {0};
        ot_task_doc doc;
        status = ot_task_set_doc(set, i, &arena, &doc, err);
        ot_arena_free(&arena);
    }
    ot_task_set_close(set);
    return status;
}

int64_t ot_task_set_shots(const ot_task_set *set) { return set->shots; }
int64_t ot_task_set_count(const ot_task_set *set) { return set->count; }
int64_t ot_task_set_rows(const ot_task_set *set) { return set->rows.count; }
const ot_row *ot_task_set_row(const ot_task_set *set, int64_t i) { return &set->rows.items[i]; }
const int64_t *ot_task_set_drawn(const ot_task_set *set) { return set->drawn; }

/* ==== Few-shot examples. ==== */

/* Too few were left: the harness draws again, from a pool without the document. */
static ot_status draw_from_others(ot_task_set *set, const json_t *document, ot_error *err) {
    int64_t *others = NULL, n = 0;
    OT_TRY(ot_malloc(set->pool.count, sizeof *others, "few-shot examples", (void **)&others, err));
    for (int64_t i = 0; i < set->pool.count; i++) {
        if (!json_equal(set->pool.items[i].value, document)) others[n++] = i;
    }
    ot_status status = ot_python_random_sample(&set->random, n, set->shots, set->drawn, err);
    for (int64_t i = 0; status == OT_OK && i < set->shots; i++) set->drawn[i] = others[set->drawn[i]];
    ot_free(others);
    return status;
}

static ot_status draw(ot_task_set *set, int64_t i, ot_error *err) {
    if (!set->task->no_test_split) return ot_python_random_sample(&set->random, set->pool.count, set->shots, set->drawn, err);
    const json_t *document = set->rows.items[i].value;
    OT_TRY(ot_python_random_sample(&set->random, set->pool.count, set->shots + 1, set->drawn, err));
    int64_t kept = 0;
    for (int64_t k = 0; k <= set->shots && kept < set->shots; k++) {
        if (!json_equal(set->pool.items[set->drawn[k]].value, document)) set->drawn[kept++] = set->drawn[k];
    }
    return kept < set->shots ? draw_from_others(set, document, err) : OT_OK;
}

/* Every document draws, whether it is asked for or not: what one gets depends on how many came before. */
static ot_status draw_up_to(ot_task_set *set, int64_t i, ot_error *err) {
    if (i < set->drawn_for) {
        set->drawn_for = 0;
        ot_python_random_seed(&set->random, FEWSHOT_SEED);
    }
    while (set->drawn_for <= i) OT_TRY(draw(set, set->drawn_for++, err));
    return OT_OK;
}

/* The first rows that are not the document, where it may be among them. */
static ot_status draw_first(ot_task_set *set, int64_t i, ot_error *err) {
    const json_t *document = set->rows.items[i].value;
    int64_t kept = 0;
    for (int64_t k = 0; k < set->pool.count && kept < set->shots; k++) {
        if (set->task->no_test_split && json_equal(set->pool.items[k].value, document)) continue;
        set->drawn[kept++] = k;
    }
    if (kept == set->shots) return OT_OK;
    return ot_fail(err, OT_ERR_REFUSED, "%lld examples are asked for, but %s has %lld", (long long)set->shots, set->pool.path, (long long)kept);
}

static ot_status render_bare(const ot_task *task, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err) {
    *doc = (ot_task_doc){.delimiter = ot_str_of(" ")};
    OT_TRY(task->render(task, row, arena, doc, err));
    doc->question = doc->context;
    return OT_OK;
}

static ot_status put_in_front(ot_arena *arena, ot_task_doc *doc, ot_str examples, ot_error *err) {
    if (doc->description.size + examples.size == 0) return OT_OK;
    return ot_str_join(arena, (ot_str[]){doc->description, examples, doc->context}, 3, &doc->context, err);
}

ot_status ot_task_render(const ot_task *task, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err) {
    OT_TRY(render_bare(task, row, arena, doc, err));
    return put_in_front(arena, doc, (ot_str){"", 0}, err);
}

static ot_status render_examples(ot_task_set *set, ot_arena *arena, ot_str *out, ot_error *err) {
    ot_str *parts = ot_arena_alloc(arena, 4 * set->shots * (int64_t)sizeof *parts, err);
    if (parts == NULL) return OT_ERR_MEMORY;
    int64_t n = 0;
    for (int64_t k = 0; k < set->shots; k++) {
        ot_task_doc example;
        OT_TRY(render_bare(set->task, &set->pool.items[set->drawn[k]], arena, &example, err));
        ot_str answer = example.choices[ot_task_answer(&example)];
        parts[n++] = example.context;
        if (answer.size == 0 && set->task->kind != OT_TASK_CHOICE) continue; /* in the harness nothing follows a question whose answer is empty */
        parts[n++] = example.delimiter;
        parts[n++] = answer;
        parts[n++] = ot_str_of(set->task->fewshot_delimiter != NULL ? set->task->fewshot_delimiter : "\n\n");
    }
    return ot_str_join(arena, parts, n, out, err);
}

ot_status ot_task_set_doc(ot_task_set *set, int64_t i, ot_arena *arena, ot_task_doc *doc, ot_error *err) {
    ot_str examples = {"", 0};
    OT_TRY(render_bare(set->task, &set->rows.items[i], arena, doc, err));
    if (set->shots > 0) {
        OT_TRY(set->task->first_examples ? draw_first(set, i, err) : draw_up_to(set, i, err));
        OT_TRY(render_examples(set, arena, &examples, err));
    }
    return put_in_front(arena, doc, examples, err);
}

/* ==== Small helpers. ==== */

static ot_str scored_delimiter(const ot_task_doc *doc) { return doc->joined ? (ot_str){"", 0} : doc->delimiter; }

ot_status ot_task_continuation(const ot_task_doc *doc, int64_t choice, ot_arena *arena, ot_str *out, ot_error *err) {
    return ot_str_join(arena, (ot_str[]){scored_delimiter(doc), doc->choices[choice]}, 2, out, err);
}

ot_status ot_task_lesson(const ot_task *task, const ot_task_doc *doc, ot_arena *arena, ot_str *out, ot_error *err) {
    const ot_task_generation *g = task->generation;
    ot_str end = g != NULL && g->n_until > 0 ? ot_str_of(g->until[0]) : (ot_str){"", 0};
    return ot_str_join(arena, (ot_str[]){scored_delimiter(doc), doc->choices[ot_task_answer(doc)], end}, 3, out, err);
}

ot_status ot_task_context(ot_arena *arena, ot_task_doc *doc, const ot_str *parts, int64_t n, ot_error *err) {
    return ot_str_join(arena, parts, n, &doc->context, err);
}

json_t *ot_task_choices_json(const ot_task_doc *doc) {
    json_t *list = json_array();
    for (int64_t i = 0; i < doc->n_choices; i++) json_array_append_new(list, json_stringn(doc->choices[i].text, (size_t)doc->choices[i].size));
    return list;
}

ot_status ot_task_choices(ot_arena *arena, ot_task_doc *doc, int64_t n, ot_error *err) {
    doc->choices = ot_arena_alloc(arena, n * (int64_t)sizeof *doc->choices, err);
    doc->n_choices = n;
    return doc->choices == NULL ? OT_ERR_MEMORY : OT_OK;
}
