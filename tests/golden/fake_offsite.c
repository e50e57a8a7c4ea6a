/* A stand-in for the binary that knows the answers: the runner's own test compares them with fixtures, whole or spoiled.
 * MODEL/truth/ holds the untouched golden*.safetensors; the answer is the file with the input's token ids. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

static const char *option(int argc, char **argv, const char *flag) {
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], flag) == 0) return argv[i + 1];
    }
    return NULL;
}

static bool flag_given(int argc, char **argv, const char *flag) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], flag) == 0) return true;
    }
    return false;
}

static int refuse(int code, const char *message) {
    fprintf(stderr, "offsite: %s\n", message);
    return code;
}

static bool same_ids(const ot_tensor *a, const ot_tensor *b) {
    return a && b && a->bytes == b->bytes && gold_same_shape(a, b) && memcmp(a->data, b->data, (size_t)a->bytes) == 0;
}

/* The truth whose tensor `key` equals the input's token ids. */
static ot_safetensors *truth_for(const char *model, const ot_tensor *ids, const char *key) {
    gold_path dir, path;
    gold_join(dir, "%s/truth", model);
    int64_t count;
    char **names = gold_names(dir, &count);
    ot_safetensors *found = NULL;
    for (int64_t i = 0; i < count && !found; i++) {
        gold_join(path, "%s/%s", dir, names[i]);
        ot_safetensors *st = gold_open_fixture(path);
        if (same_ids(ot_safetensors_find(st, key), ids)) found = st;
        else ot_safetensors_close(st);
    }
    gold_names_free(names, count);
    return found;
}

static bool asked(const char *name, bool hidden, bool gradients, bool labels) {
    if (strncmp(name, "grad.", 5) == 0) return gradients;
    if (strncmp(name, "hidden_states.", 14) == 0 || strcmp(name, "last_block") == 0) return hidden;
    return strcmp(name, "logits") == 0 || (labels && strcmp(name, "loss") == 0);
}

static int forward(const char *model, const ot_safetensors *in, int argc, char **argv) {
    const ot_tensor *labels = ot_safetensors_find(in, "labels");
    if (labels) {
        int64_t *v = gold_ints(labels), counted = 0;
        for (int64_t i = 0; i < ot_tensor_elements(labels); i++) counted += v[i] != -100;
        free(v);
        if (!counted) return refuse(3, "no label counts");
    }
    ot_safetensors *truth = truth_for(model, ot_safetensors_find(in, "input_ids"), "input_ids");
    if (!truth) return refuse(1, "no answer for this input");
    int64_t n = 0;
    ot_tensor *out = calloc((size_t)ot_safetensors_count(truth), sizeof *out);
    if (!out) gold_die("out of memory");
    for (int64_t i = 0; i < ot_safetensors_count(truth); i++) {
        const ot_tensor *t = ot_safetensors_at(truth, i);
        if (asked(t->name, flag_given(argc, argv, "--hidden"), flag_given(argc, argv, "--grad"), labels != NULL)) out[n++] = *t;
    }
    gold_write_tensors(option(argc, argv, "-o"), out, n);
    free(out);
    ot_safetensors_close(truth);
    return 0;
}

static int generate(const char *model, const ot_safetensors *in) {
    ot_safetensors *truth = truth_for(model, ot_safetensors_find(in, "input_ids"), "prompt");
    if (!truth) return refuse(1, "no answer for this prompt");
    int64_t *ids = gold_ints(ot_safetensors_find(truth, "ids"));
    printf("{\"ids\": [[");
    for (int64_t i = 0, n = ot_tensor_elements(ot_safetensors_find(truth, "ids")); i < n; i++) printf("%s%lld", i ? ", " : "", (long long)ids[i]);
    printf("]]}\n");
    free(ids);
    ot_safetensors_close(truth);
    return 0;
}

int main(int argc, char **argv) {
    const char *input = option(argc, argv, "--input");
    if (argc < 3 || !input) return refuse(2, "unknown verb");
    ot_safetensors *in = gold_open_fixture(input);
    int code = strcmp(argv[1], "forward") == 0 ? forward(argv[2], in, argc, argv) : strcmp(argv[1], "generate") == 0 ? generate(argv[2], in) : refuse(2, "unknown verb");
    ot_safetensors_close(in);
    return code;
}
