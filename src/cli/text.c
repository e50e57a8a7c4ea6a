/* See text.h. */
#include "cli/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <utf8proc.h>

int32_t ot_text_next(const char **p) {
    utf8proc_int32_t c = 0;
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)*p, (utf8proc_ssize_t)strnlen(*p, 4), &c);
    if (n <= 0) {
        *p += 1;
        return 0xFFFD;
    }
    *p += n;
    return c;
}

void ot_text_put(FILE *f, int32_t code_point) {
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t n = utf8proc_encode_char(code_point, bytes);
    if (n > 0) fwrite(bytes, 1, (size_t)n, f);
}

int64_t ot_text_width(const char *text) {
    int64_t width = 0;
    while (*text != '\0') width += utf8proc_charwidth(ot_text_next(&text));
    return width;
}

void ot_put_safe(FILE *f, const char *text) {
    while (*text != '\0') {
        const char *start = text;
        int32_t c = ot_text_next(&text);
        if (c < 0x20 || (c >= 0x7F && c < 0xA0) || (c == 0xFFFD && text - start == 1)) {
            for (const char *b = start; b < text; b++) fprintf(f, "\\x%02X", (unsigned)(unsigned char)*b);
        } else {
            fwrite(start, 1, (size_t)(text - start), f);
        }
    }
}

int ot_terminal_width(FILE *f) {
    enum { MAX_COLUMNS = 100, PLAIN_COLUMNS = 80, MIN_COLUMNS = 40 };
    struct winsize size;
    int fd = fileno(f);
    if (fd < 0 || !isatty(fd) || ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return PLAIN_COLUMNS;
    return size.ws_col > MAX_COLUMNS ? MAX_COLUMNS : size.ws_col < MIN_COLUMNS ? MIN_COLUMNS : size.ws_col;
}

bool ot_terminal_styled(FILE *f) {
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    int fd = fileno(f);
    if (term == NULL || strcmp(term, "dumb") == 0 || (no_color != NULL && *no_color != '\0')) return false;
    return fd >= 0 && isatty(fd) != 0;
}

void ot_put_wrapped(FILE *f, const char *text, int at, int indent, int width) {
    bool at_start = true; /* nothing printed on this line behind the indentation */
    while (*text != '\0') {
        if (text[0] == '\n' && (text[1] == '\n' || text[1] == ' ')) {
            /* A new paragraph, or a line to keep. */
            bool paragraph = text[1] == '\n';
            fputs(paragraph ? "\n\n" : "\n", f);
            text += paragraph ? 2 : 1;
            fprintf(f, "%*s", indent, "");
            at = indent;
            at_start = true;
            if (*text == ' ') {
                size_t length = strcspn(text, "\n");
                fwrite(text, 1, length, f);
                text += length;
                if (*text == '\n' && text[1] != '\n' && text[1] != ' ' && text[1] != '\0') {
                    fprintf(f, "\n%*s", indent, "");
                    text++;
                }
            }
            continue;
        }
        if (*text == ' ' || *text == '\n') {
            text++;
            continue;
        }
        size_t length = strcspn(text, " \n");
        char word[256];
        snprintf(word, sizeof word, "%.*s", (int)(length < sizeof word ? length : sizeof word - 1), text);
        int columns = (int)ot_text_width(word);
        if (!at_start && at + 1 + columns > width) {
            fprintf(f, "\n%*s", indent, "");
            at = indent;
            at_start = true;
        }
        if (!at_start) fputc(' ', f);
        fwrite(text, 1, length, f);
        at += columns + !at_start;
        at_start = false;
        text += length;
    }
    fputc('\n', f);
}

const char *ot_text_bytes(int64_t bytes, char *text, size_t size) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double v = (double)bytes;
    int unit = 0;
    while (unit < 5 && fabs(v) >= 1024.0) v /= 1024.0, unit++;
    if (unit == 0) {
        ot_text_of(bytes, "byte", text, size);
    } else {
        snprintf(text, size, "%.*f %s", fabs(v) < 10.0 ? 2 : fabs(v) < 100.0 ? 1 : 0, v, units[unit]);
    }
    return text;
}

const char *ot_text_seconds(double seconds, char *text, size_t size) {
    if (!isfinite(seconds) || seconds < 0.0) {
        snprintf(text, size, "?");
    } else if (seconds < 59.95) {
        snprintf(text, size, seconds < 9.95 ? "%.1f s" : "%.0f s", seconds);
    } else {
        int64_t s = seconds < 1e15 ? (int64_t)(seconds + 0.5) : 0;
        if (s < 3600) {
            snprintf(text, size, "%" PRId64 " min %02" PRId64 " s", s / 60, s % 60);
        } else if (s < 86400) {
            snprintf(text, size, "%" PRId64 " h %02" PRId64 " min", s / 3600, s % 3600 / 60);
        } else {
            snprintf(text, size, "%" PRId64 " d %02" PRId64 " h", s / 86400, s % 86400 / 3600);
        }
    }
    return text;
}
