/* WikiText as lm-eval scores it: documents are articles, detokenised by rules that are part of the task. Words and bytes are counted before that.
 * Here too: blocks, the paper's perplexity, which needs nothing but the text. */
#include <stdlib.h>

#include "task/tasks.h"

/* From each opening sign to the next closing one, across lines: what lies between without white space at its ends. */
static ot_status tighten(ot_arena *arena, ot_str s, char open, char close, ot_str *out, ot_error *err) {
    char *text = ot_arena_alloc(arena, s.size + 1, err);
    if (text == NULL) return OT_ERR_MEMORY;
    int64_t size = 0;
    bool closes = true; /* is there a closing sign ahead? */
    for (int64_t at = 0; at < s.size;) {
        const char *end = NULL;
        if (closes && s.text[at] == open) {
            end = memchr(s.text + at + 1, close, (size_t)(s.size - at - 1));
            closes = end != NULL;
        }
        text[size++] = s.text[at++];
        if (end == NULL) continue;
        ot_str inner = ot_py_strip((ot_str){s.text + at, end - (s.text + at)});
        if (inner.size > 0) memcpy(text + size, inner.text, (size_t)inner.size);
        size += inner.size;
        text[size++] = close;
        at = end + 1 - s.text;
    }
    *out = (ot_str){text, size};
    return OT_OK;
}

/* re.sub(r"/' [0-9]/", r"/'[0-9]/"): a slip of the harness (the class was meant as a class on both sides), kept. */
static ot_status slashes(ot_arena *arena, ot_str s, ot_str *out, ot_error *err) {
    for (int digit = 0; digit <= 9; digit++) {
        char from[] = "/' 0/";
        from[3] = (char)('0' + digit);
        OT_TRY(ot_py_replace(arena, s, from, "/'[0-9]/", &s, err));
    }
    *out = s;
    return OT_OK;
}

typedef struct change {
    const char *from, *to;
} change;

static ot_status change_all(ot_arena *arena, ot_str *s, const change *changes, ot_error *err) {
    for (; changes->from != NULL; changes++) OT_TRY(ot_py_replace(arena, *s, changes->from, changes->to, s, err));
    return OT_OK;
}

static ot_status detokenise(ot_arena *arena, ot_str s, ot_str *out, ot_error *err) {
    static const change signs[] = {{" @-@ ", "-"}, {" @,@ ", ","}, {" @.@ ", "."}, {" : ", ": "}, {" ; ", "; "}, {" . ", ". "},
                                   {" ! ", "! "},  {" ? ", "? "},  {" , ", ", "},  {NULL, NULL}};
    static const change rest[] = {{"= = = =", "===="}, {"= = =", "==="}, {"= =", "=="}, {" \xC2\xB0 ", "\xC2\xB0"}, {" \n", "\n"},
                                  {"\n ", "\n"},       {" N ", " 1 "},   {" 's", "'s"}, {NULL, NULL}};
    static const char *const brackets[] = {"()", "[]", "{}", "\"\"", "''"};
    OT_TRY(ot_py_replace(arena, s, "s '", "s'", &s, err));
    OT_TRY(slashes(arena, s, &s, err));
    OT_TRY(change_all(arena, &s, signs, err));
    for (size_t i = 0; i < sizeof brackets / sizeof *brackets; i++) OT_TRY(tighten(arena, s, brackets[i][0], brackets[i][1], &s, err));
    OT_TRY(change_all(arena, &s, rest, err));
    *out = s;
    return OT_OK;
}

static ot_status render(const ot_task *task, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err) {
    (void)task;
    ot_str page;
    OT_TRY(ot_row_text(row, "page", &page, err));
    doc->words = ot_py_words(page);
    doc->bytes = page.size;
    return detokenise(arena, page, &doc->page, err);
}

static ot_status add_page(ot_rows *rows, ot_str page, int64_t line, ot_error *err) {
    json_t *text = json_stringn(page.text, (size_t)page.size);
    if (text == NULL) return ot_fail(err, OT_ERR_FORMAT, "%s: the text that begins at line %lld is not UTF-8", rows->path, (long long)line);
    return ot_rows_add(rows, json_pack("{s:o}", "page", text), line, err);
}

static ot_status is_heading(ot_str line, bool *heading, ot_error *err) {
    ot_arena arena = {0};
    ot_status status = ot_py_replace(&arena, line, "= = =", "===", &line, err);
    if (status == OT_OK) status = ot_py_replace(&arena, line, "= =", "==", &line, err);
    line = ot_py_strip(line);
    *heading = status == OT_OK && ot_str_begins(line, ot_str_of("= ")) && ot_str_ends(line, ot_str_of(" ="));
    ot_arena_free(&arena);
    return status;
}

/* Articles begin at headings of the first level; the line feed between two belongs to neither. */
static ot_status pages(ot_str text, ot_rows *rows, ot_error *err) {
    int64_t begin = 0, first_line = 1, number = 0;
    for (int64_t at = 0; at <= text.size;) {
        const char *end = at < text.size ? memchr(text.text + at, '\n', (size_t)(text.size - at)) : NULL;
        int64_t stop = end != NULL ? end - text.text : text.size;
        bool heading = false;
        number++;
        OT_TRY(is_heading((ot_str){text.text + at, stop - at}, &heading, err));
        if (heading) {
            ot_str page = {text.text + begin, at > begin ? at - 1 - begin : 0};
            if (ot_py_strip(page).size > 0) OT_TRY(add_page(rows, page, first_line, err));
            begin = at;
            first_line = number;
        }
        at = stop + 1;
    }
    return add_page(rows, (ot_str){text.text + begin, text.size - begin}, first_line, err);
}

static ot_status whole(ot_str text, ot_rows *rows, ot_error *err) { return add_page(rows, text, 1, err); }

static ot_status render_whole(const ot_task *task, const ot_row *row, ot_arena *arena, ot_task_doc *doc, ot_error *err) {
    (void)task;
    (void)arena;
    return ot_row_text(row, "page", &doc->page, err);
}

static const char *const text_names[] = {"wikitext-2-raw", NULL};

const ot_task ot_task_wikitext = {
    .name = "wikitext",
    .help = "WikiText-2 articles, word and byte perplexity; rows have page, or the raw text as wikitext.test.txt",
    .dataset = "EleutherAI/wikitext_document_level",
    .config = "wikitext-2-raw-v1",
    .version = "2.0",
    .kind = OT_TASK_ROLLING,
    .metrics = OT_METRIC_PERPLEXITIES,
    .split = "test",
    .render = render,
    .text_names = text_names,
    .rows_of_text = pages,
};

const ot_task ot_task_blocks = {
    .name = "blocks",
    .help = "perplexity over blocks of 512 tokens that do not overlap, as the paper measures it; the text is blocks.test.txt",
    .dataset = "a text file",
    .version = "1.0",
    .kind = OT_TASK_BLOCKS,
    .metrics = OT_METRIC_BLOCKS,
    .split = "test",
    .render = render_whole,
    .text_names = text_names,
    .rows_of_text = whole,
};
