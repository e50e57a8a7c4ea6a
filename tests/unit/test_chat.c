/* Chat templates: the text equals what transformers renders, the assistant's parts are the right ones, a model's template is recognised. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "data/chat.h"
#include "format/json.h"
#include "support/scratch.h"
#include "support/tiny.h"
#include "task/rows.h"

enum { MOST = 8 };

static ot_status render(const json_t *c, ot_chat_text *out, ot_error *err) {
    const ot_chat_template *t = NULL;
    ot_chat_message messages[MOST];
    const json_t *list = json_object_get(c, "messages");
    int64_t n = (int64_t)json_array_size(list);
    assert_int_equal(ot_chat_find(json_string_value(json_object_get(c, "template")), &t, err), OT_OK);
    assert_in_range(n, 1, MOST);
    for (int64_t i = 0; i < n; i++) {
        const json_t *m = json_array_get(list, (size_t)i);
        messages[i] = (ot_chat_message){json_string_value(json_object_get(m, "role")), ot_json_text(json_object_get(m, "content"))};
    }
    return ot_chat_render(t, messages, n, "<s>", "</s>", json_is_true(json_object_get(c, "ask")), out, err);
}

static void renders_what_transformers_renders(void **state) {
    (void)state;
    json_t *cases = NULL;
    ot_error err = {0};
    size_t rendered = 0, refused = 0;
    assert_int_equal(ot_json_read(TEST_DATA_DIR "/chat/goldens.json", 1 << 24, &cases, &err), OT_OK);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *text = json_object_get(c, "text");
        const char *name = json_string_value(json_object_get(c, "template"));
        ot_chat_text out = {0};
        ot_status status = render(c, &out, &err);
        if (json_is_string(text) != (status == OT_OK)) fail_msg("case %zu (%s): %s", i, name, status == OT_OK ? out.text : err.message);
        if (status == OT_OK) {
            if (strcmp(out.text, json_string_value(text)) != 0) fail_msg("case %zu (%s):\n%s\nwanted\n%s", i, name, out.text, json_string_value(text));
            assert_int_equal(out.size, json_string_length(text));
            rendered++;
        } else {
            assert_int_equal(status, OT_ERR_FORMAT);
            refused++;
        }
        ot_chat_text_free(&out);
    }
    assert_true(rendered > 150 && refused > 10);
    json_decref(cases);
}

static void every_template_has_goldens(void **state) {
    (void)state;
    json_t *cases = NULL;
    ot_error err = {0};
    assert_int_equal(ot_json_read(TEST_DATA_DIR "/chat/goldens.json", 1 << 24, &cases, &err), OT_OK);
    for (const ot_chat_template *const *t = ot_chat_templates; *t != NULL; t++) {
        size_t found = 0;
        for (size_t i = 0; i < json_array_size(cases); i++) {
            found += strcmp(json_string_value(json_object_get(json_array_get(cases, i), "template")), (*t)->name) == 0;
        }
        if (found == 0) fail_msg("%s has no goldens", (*t)->name);
    }
    json_decref(cases);
}

/* What a model writes after it was asked is what is learnt: asked text + learnt part = the text with the answer, as far as that goes. */
static void learnt_parts_follow_the_question(void **state) {
    (void)state;
    for (const ot_chat_template *const *t = ot_chat_templates; *t != NULL; t++) {
        const ot_chat_message m[] = {{"user", ot_str_of("Question")}, {"assistant", ot_str_of("The answer")}};
        ot_chat_text asked = {0}, whole = {0};
        ot_error err = {0};
        assert_int_equal(ot_chat_render(*t, m, 1, "<s>", "</s>", true, &asked, &err), OT_OK);
        assert_int_equal(ot_chat_render(*t, m, 2, "<s>", "</s>", false, &whole, &err), OT_OK);
        assert_int_equal(asked.n_spans, 0);
        assert_int_equal(whole.n_spans, 1);
        assert_int_equal(whole.spans[0].from, asked.size);
        assert_memory_equal(whole.text, asked.text, (size_t)asked.size);
        const char *answer = strstr(whole.text, "The answer");
        assert_non_null(answer);
        assert_true(answer - whole.text >= whole.spans[0].from && answer + 10 - whole.text < whole.spans[0].to);
        ot_chat_text_free(&asked);
        ot_chat_text_free(&whole);
    }
}

static void a_model_is_asked_for_its_template(void **state) {
    (void)state;
    static const char config[] =
        "{\"chat_template\": [{\"name\": \"tools\", \"template\": \"no\"}, {\"name\": \"default\", \"template\": "
        "\"{% for m in messages %}{{ '<|im_start|>' + message[\\\"role\\\"] + '\\\\n' + message['content']  + '<|im_end|>\\\\n' }}{% endfor %}\"}]}";
    scratch s;
    scratch_open(&s, TEST_BINARY_DIR);
    const ot_chat_template *t = NULL;
    ot_error err = {0};
    assert_int_equal(ot_chat_open(s.dir, NULL, &t, &err), OT_ERR_REFUSED);
    assert_non_null(strstr(err.message, "has no chat template"));
    tiny_text(scratch_path(&s, "tokenizer_config.json"), config);
    assert_int_equal(ot_chat_open(s.dir, NULL, &t, &err), OT_OK);
    assert_string_equal(t->name, "chatml");
    /* The file of its own comes before it. */
    tiny_text(scratch_path(&s, "chat_template.jinja"), "{{ 'Human: ' + message.content }}");
    assert_int_equal(ot_chat_open(s.dir, NULL, &t, &err), OT_ERR_REFUSED);
    assert_non_null(strstr(err.message, "none of those known here"));
    assert_non_null(strstr(err.message, "chatml, smollm2"));
    tiny_text(scratch_path(&s, "chat_template.jinja"),
              "<|start_header_id|>{{ message['content'] | trim + '<|eot_id|>' }}");
    assert_int_equal(ot_chat_open(s.dir, NULL, &t, &err), OT_OK);
    assert_string_equal(t->name, "llama3");
    assert_int_equal(ot_chat_open(s.dir, "zephyr", &t, &err), OT_OK);
    assert_string_equal(t->name, "zephyr");
    assert_int_equal(ot_chat_open(s.dir, "Zephyr", &t, &err), OT_ERR_USAGE);
    assert_non_null(strstr(err.message, "known: chatml"));
    scratch_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renders_what_transformers_renders),
        cmocka_unit_test(every_template_has_goldens),
        cmocka_unit_test(learnt_parts_follow_the_question),
        cmocka_unit_test(a_model_is_asked_for_its_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
