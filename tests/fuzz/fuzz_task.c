/* Any bytes as a task file and rows for it: what stands before a line "%%%" is the YAML, or the name of a task of the table; what
 * follows, the rows. Refused with a message that names file and line, or documents that keep what is promised of them. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "task/own.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition) {
    if (!condition) abort();
}

/* Every byte is there: a sanitizer would object otherwise. */
static uint64_t touch(ot_str s) {
    uint64_t sum = 0;
    expect(s.size >= 0 && (s.size == 0 || s.text != NULL));
    for (int64_t i = 0; i < s.size; i++) sum = sum * 31 + (unsigned char)s.text[i];
    return sum;
}

static void check(const ot_task *task, const ot_task_doc *doc, ot_arena *arena) {
    ot_error err = {0};
    ot_str text;
    if (task->kind == OT_TASK_ROLLING || task->kind == OT_TASK_BLOCKS) {
        touch(doc->page);
        expect(task->kind == OT_TASK_BLOCKS || (doc->words >= 1 && doc->bytes >= 0));
        return;
    }
    expect(doc->n_choices >= 1 && doc->gold >= OT_GOLD_SOME && doc->gold < doc->n_choices &&
           (doc->gold == OT_GOLD_SOME) == (doc->n_golds > 0) && ot_task_is_right(doc, ot_task_answer(doc)));
    touch(doc->context);
    for (int64_t i = 0; i < doc->n_choices; i++) {
        expect(ot_task_continuation(doc, i, arena, &text, &err) == OT_OK);
        touch(text);
    }
}

static void render_all(const ot_task *task, const char *text, int64_t size) {
    ot_rows rows = {0};
    ot_error err = {0};
    char place[40];
    if (ot_rows_parse(text, size, "fuzz.jsonl", &rows, &err) != OT_OK) {
        expect(strncmp(err.message, "fuzz.jsonl", 10) == 0);
        return;
    }
    for (int64_t i = 0; i < rows.count; i++) {
        ot_arena arena = {0};
        ot_task_doc doc = {0};
        snprintf(place, sizeof place, "fuzz.jsonl:%lld: ", (long long)rows.items[i].line);
        if (ot_task_render(task, &rows.items[i], &arena, &doc, &err) == OT_OK) check(task, &doc, &arena);
        else expect(err.code == OT_ERR_FORMAT && strncmp(err.message, place, strlen(place)) == 0);
        ot_arena_free(&arena);
    }
    ot_rows_free(&rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char parting[] = "%%%\n";
    const char *text = (const char *)data;
    char name[64] = "";
    size_t at = 0, from = size;
    const ot_task *task = NULL;
    ot_error err = {0};
    for (; at + 4 <= size; at++) {
        if (memcmp(text + at, parting, 4) != 0 || (at > 0 && text[at - 1] != '\n')) continue;
        from = at + 4;
        break;
    }
    if (from == size) at = size;
    if (at > 1 && at < sizeof name && text[at - 1] == '\n') memcpy(name, text, at - 1);
    if (name[0] == '\0' || ot_task_find(name, &task, NULL) != OT_OK) {
        if (ot_own_task_parse(text, (int64_t)at, "fuzz.yaml", &task, &err) != OT_OK) {
            expect(err.code == OT_ERR_FORMAT && strncmp(err.message, "fuzz.yaml", 9) == 0);
            return 0;
        }
        expect(task->name != NULL && task->metrics != 0 && task->split != NULL &&
               (task->kind == OT_TASK_GENERATE) == (task->generation != NULL));
    }
    render_all(task, text + from, (int64_t)(size - from));
    ot_task_close(task);
    return 0;
}
