/* Runs a fuzz target on every file of the folders and files given: its corpus as an ordinary test, without a fuzzing engine.
 * Fails when there was nothing to run. */
#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool run_file(const char *path, size_t size) {
    FILE *file = fopen(path, "rb");
    /* Of the file's very size, so that the address sanitizer sees a read too far. */
    uint8_t *data = malloc(size > 0 ? size : 1);
    bool ok = file != NULL && data != NULL && fread(data, 1, size, file) == size;
    if (ok) LLVMFuzzerTestOneInput(data, size);
    else fprintf(stderr, "cannot read %s\n", path);
    free(data);
    if (file != NULL) fclose(file);
    return ok;
}

/* The number of files run, -1 on failure. */
static long run_path(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0) {
        perror(path);
        return -1;
    }
    if (!S_ISDIR(st.st_mode)) return run_file(path, (size_t)st.st_size) ? 1 : -1;
    DIR *dir = opendir(path);
    if (dir == NULL) {
        perror(path);
        return -1;
    }
    long total = 0;
    for (struct dirent *entry; total >= 0 && (entry = readdir(dir)) != NULL;) {
        char child[4096];
        if (entry->d_name[0] == '.') continue;
        int n = snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
        long ran = n < (int)sizeof child ? run_path(child) : -1;
        total = ran < 0 ? -1 : total + ran;
    }
    closedir(dir);
    return total;
}

int main(int argc, char **argv) {
    long total = 0;
    for (int i = 1; i < argc; i++) {
        long ran = run_path(argv[i]);
        if (ran < 0) return 1;
        total += ran;
    }
    printf("%ld inputs\n", total);
    if (total > 0) return 0;
    fprintf(stderr, "no input was found: give folders or files of inputs\n");
    return 1;
}
