#include "report/html.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

/* Colours have a contrast of 4.5 or more against what is behind them, in both settings. Dark is for screens alone: paper is white. */
static const char style[] =
    ":root{color-scheme:light dark;--paper:#fff;--ink:#1a1d21;--soft:#57606b;--line:#d7dce1;--panel:#f4f6f8;--link:#0b5cab;"
    "--good:#0f6b3c;--good-paper:#e4f4ea;--bad:#a3262d;--bad-paper:#fbe8e9}\n"
    "@media screen and (prefers-color-scheme:dark){:root{--paper:#14171a;--ink:#e4e4e4;--soft:#a4adb7;--line:#343a41;--panel:#1d2227;--link:#7ab8ec;"
    "--good:#74d6a4;--good-paper:#15301f;--bad:#f59f9f;--bad-paper:#3a1c1f}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif;overflow-wrap:break-word}\n"
    "main{max-width:68rem;margin:0 auto;padding:2rem 1.25rem 4rem}\n"
    "h1{font-size:1.75rem;line-height:1.25;margin:0 0 .25rem}h2{font-size:1.25rem;margin:2.75rem 0 .5rem;padding-bottom:.25rem;border-bottom:1px solid var(--line)}\n"
    "h3{font-size:1rem;margin:1.5rem 0 .25rem}p{margin:.5rem 0;max-width:46rem}.soft{color:var(--soft);font-size:.875rem}header .soft{font-size:1rem;margin:0}\n"
    ".verdict{border:1px solid var(--line);border-left:5px solid var(--soft);border-radius:6px;background:var(--panel);padding:.75rem 1rem;margin:.75rem 0}\n"
    ".verdict.good{border-left-color:var(--good)}.verdict.bad{border-left-color:var(--bad)}.verdict h3{margin:0}.verdict p{margin:.25rem 0 .5rem;max-width:none}\n"
    ".marks{display:flex;flex-wrap:wrap;gap:.4rem;margin:0;padding:0;list-style:none}\n"
    ".marks li{border-radius:1rem;padding:.1rem .7rem;font-size:.8125rem;border:1px solid var(--line);color:var(--soft)}\n"
    ".marks .good{color:var(--good);background:var(--good-paper);border-color:transparent}.marks .bad{color:var(--bad);background:var(--bad-paper);border-color:transparent}\n"
    ".marks .good::before,td.good::before{content:\"\\2713\\00a0\"}.marks .bad::before,td.bad::before{content:\"\\2717\\00a0\"}\n"
    ".wide{overflow-x:auto;margin:.75rem 0;max-width:100%}\n"
    "table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums;min-width:100%}caption{text-align:left;color:var(--soft);padding-bottom:.35rem}\n"
    "th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;border-bottom:1px solid var(--line);unicode-bidi:isolate}thead th{border-bottom:2px solid var(--line);vertical-align:bottom;color:var(--soft)}\n"
    "th{font-weight:600}tbody th{font-weight:400;max-width:22rem}.n{text-align:right;white-space:nowrap}tr.chosen{background:var(--panel)}tr.chosen th{font-weight:600}\n"
    "td.good{color:var(--good)}td.bad{color:var(--bad)}td.muted{color:var(--soft)}td.strong{font-weight:600}\n"
    "figure{margin:1rem 0}figure svg{display:block;width:100%;max-width:46rem;height:auto}figcaption{color:var(--soft);font-size:.875rem;max-width:46rem}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(24rem,100%),1fr));gap:0 2rem}.charts figure{margin:.75rem 0}\n"
    "pre{background:var(--panel);border:1px solid var(--line);border-radius:6px;padding:.75rem 1rem;overflow-x:auto;font:.8125rem/1.55 ui-monospace,monospace;margin:.5rem 0}\n"
    "summary{cursor:pointer;color:var(--link);padding:.25rem 0}\n"
    ".gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(8.5rem,1fr));gap:1rem}.gallery figure{margin:0}.gallery img{width:100%;height:auto;"
    "border-radius:4px;image-rendering:auto;background:var(--panel)}\n"
    "footer{margin-top:3rem;border-top:1px solid var(--line);padding-top:.5rem}\n"
    ":focus-visible{outline:2px solid var(--link);outline-offset:2px}\n"
    "@media(max-width:40rem){main{padding:1.25rem .9rem 3rem}h1{font-size:1.4rem}th,td{padding:.3rem .45rem}}\n"
    "@media print{@page{margin:14mm}body{font-size:10.5pt}main{max-width:none;padding:0}h2{margin-top:1.5rem;break-after:avoid}h3{break-after:avoid}"
    ".verdict,figure,tr{break-inside:avoid}.wide{overflow:visible}table{font-size:8pt}th,td{padding:.2rem .35rem}pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:7.5pt}"
    "h2+p,h3+p{break-after:avoid}figure svg{max-width:13cm}.charts{grid-template-columns:repeat(auto-fit,minmax(8cm,1fr))}summary{color:var(--ink)}details::details-content{content-visibility:visible;height:auto}.verdict,.marks li,tr.chosen{print-color-adjust:exact;-webkit-print-color-adjust:exact}}\n";

static const char *const tones[] = {"", "good", "bad", "muted", "strong"};

static void put(ot_html *h, const char *markup) { fputs(markup, h->f); }
static void say(ot_html *h, const char *text) { ot_plot_escape(h->f, text); }

static void say_formatted(ot_html *h, const char *format, va_list given) {
    char *text = NULL;
    if (vasprintf(&text, format, given) < 0) {
        h->failed = true;
        return;
    }
    say(h, text);
    free(text);
}

/* ==== The page. ==== */

ot_status ot_html_open(ot_html *h, const char *title, const char *subtitle, ot_error *err) {
    *h = (ot_html){0};
    h->f = open_memstream(&h->text, &h->size);
    if (h->f == NULL) return ot_fail_memory(err, 4096, "a page");
    put(h, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
           "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';style-src 'unsafe-inline';img-src data:\">\n"
           "<meta name=\"referrer\" content=\"no-referrer\">\n<title>");
    say(h, title);
    put(h, "</title>\n<style>\n");
    put(h, style);
    put(h, "</style>\n</head>\n<body>\n<main>\n<header>\n<h1>");
    say(h, title);
    put(h, "</h1>\n");
    if (subtitle != NULL) {
        put(h, "<p class=\"soft\">");
        say(h, subtitle);
        put(h, "</p>\n");
    }
    put(h, "</header>\n");
    return OT_OK;
}

void ot_html_free(ot_html *h) {
    if (h->f != NULL) fclose(h->f);
    free(h->text);
    *h = (ot_html){0};
}

ot_status ot_html_save(ot_html *h, const char *path, ot_error *err) {
    if (h->in_section) put(h, "</section>\n");
    put(h, "<footer><p class=\"soft\">Made by offsite " OFFSITE_VERSION ". This file holds everything it shows and loads nothing.</p></footer>\n</main>\n</body>\n</html>\n");
    bool bad = h->failed || ferror(h->f) != 0;
    bad = fclose(h->f) != 0 || bad;
    h->f = NULL;
    ot_status status = OT_OK;
    if (bad) {
        status = ot_fail_memory(err, (uint64_t)h->size, "a page");
    } else {
        status = ot_write_file(path, h->text, (int64_t)h->size, err);
    }
    ot_html_free(h);
    return status;
}

/* ==== Text. ==== */

void ot_html_section(ot_html *h, const char *heading) {
    put(h, h->in_section ? "</section>\n<section>\n<h2>" : "<section>\n<h2>");
    say(h, heading);
    put(h, "</h2>\n");
    h->in_section = true;
}

void ot_html_heading(ot_html *h, const char *heading) {
    put(h, "<h3>");
    say(h, heading);
    put(h, "</h3>\n");
}

void ot_html_paragraph(ot_html *h, const char *format, ...) {
    va_list given;
    va_start(given, format);
    put(h, "<p>");
    say_formatted(h, format, given);
    put(h, "</p>\n");
    va_end(given);
}

void ot_html_note(ot_html *h, const char *format, ...) {
    va_list given;
    va_start(given, format);
    put(h, "<p class=\"soft\">");
    say_formatted(h, format, given);
    put(h, "</p>\n");
    va_end(given);
}

void ot_html_code(ot_html *h, const char *text) {
    put(h, "<pre tabindex=\"0\"><code>");
    while (*text != '\0') {
        char line[512];
        size_t n = strcspn(text, "\n"), taken = n < sizeof line ? n : sizeof line - 1;
        /* A long line is taken in pieces that do not cut a character. */
        while (taken < n && taken > 1 && ((unsigned char)text[taken] & 0xC0) == 0x80) taken--;
        memcpy(line, text, taken);
        line[taken] = '\0';
        say(h, line);
        text += taken;
        if (*text == '\n') {
            fputc('\n', h->f);
            text++;
        }
    }
    put(h, "</code></pre>\n");
}

void ot_html_details(ot_html *h, const char *summary) {
    put(h, "<details>\n<summary>");
    say(h, summary);
    put(h, "</summary>\n");
}
void ot_html_details_end(ot_html *h) { put(h, "</details>\n"); }

/* ==== Verdicts. ==== */

void ot_html_verdict(ot_html *h, ot_tone tone, const char *heading, const char *format, ...) {
    va_list given;
    va_start(given, format);
    fprintf(h->f, "<div class=\"verdict %s\">\n<h3>", tones[tone]);
    say(h, heading);
    put(h, "</h3>\n<p>");
    say_formatted(h, format, given);
    put(h, "</p>\n<ul class=\"marks\">\n");
    va_end(given);
}

void ot_html_mark(ot_html *h, ot_tone tone, const char *text) {
    fprintf(h->f, "<li class=\"%s\">", tones[tone]);
    say(h, text);
    put(h, "</li>\n");
}
void ot_html_verdict_end(ot_html *h) { put(h, "</ul>\n</div>\n"); }

/* ==== Tables. ==== */

void ot_html_table(ot_html *h, const char *caption, const ot_html_column *columns, int n_columns) {
    h->columns = columns;
    h->n_columns = n_columns;
    h->column = n_columns;
    put(h, "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"");
    say(h, caption);
    put(h, "\">\n<table>\n<caption>");
    say(h, caption);
    put(h, "</caption>\n<thead>\n<tr>");
    for (int i = 0; i < n_columns; i++) {
        fprintf(h->f, "<th scope=\"col\"%s>", columns[i].number ? " class=\"n\"" : "");
        say(h, columns[i].title);
        put(h, "</th>");
    }
    put(h, "</tr>\n</thead>\n<tbody>\n");
}

static void end_row(ot_html *h) {
    for (; h->column < h->n_columns; h->column++) put(h, "<td></td>");
    put(h, "</tr>\n");
}

void ot_html_row(ot_html *h, bool chosen) {
    if (h->column < h->n_columns) end_row(h);
    put(h, chosen ? "<tr class=\"chosen\">" : "<tr>");
    h->column = 0;
}

void ot_html_cell(ot_html *h, ot_tone tone, const char *format, ...) {
    va_list given;
    bool head = h->column == 0, number = h->column < h->n_columns && h->columns[h->column].number;
    va_start(given, format);
    put(h, head ? "<th scope=\"row\"" : "<td");
    if (number || tone != OT_TONE_PLAIN) fprintf(h->f, " class=\"%s%s%s\"", number ? "n" : "", number && tone != OT_TONE_PLAIN ? " " : "", tones[tone]);
    put(h, ">");
    say_formatted(h, format, given);
    put(h, head ? "</th>" : "</td>");
    va_end(given);
    if (++h->column == h->n_columns) put(h, "</tr>\n");
}

void ot_html_table_end(ot_html *h) {
    if (h->column < h->n_columns) end_row(h);
    put(h, "</tbody>\n</table>\n</div>\n");
    h->columns = NULL;
}

/* ==== Charts and pictures. ==== */

void ot_html_charts(ot_html *h) { put(h, "<div class=\"charts\">\n"); }
void ot_html_charts_end(ot_html *h) { put(h, "</div>\n"); }

ot_status ot_html_plot(ot_html *h, const ot_plot *plot, const char *caption, ot_error *err) {
    char *svg = NULL;
    size_t size = 0;
    ot_error why;
    ot_status status = ot_plot_svg(plot, &svg, &size, &why);
    if (status == OT_ERR_REFUSED) return OT_OK;
    if (status != OT_OK) return ot_fail(err, status, "%s", why.message);
    put(h, "<figure>\n");
    fwrite(svg, 1, size, h->f);
    free(svg);
    if (caption != NULL) {
        put(h, "<figcaption>");
        say(h, caption);
        put(h, "</figcaption>\n");
    }
    put(h, "</figure>\n");
    return OT_OK;
}

static const char *media_type(const uint8_t *b, int64_t size) {
    if (size > 8 && memcmp(b, "\x89PNG\r\n\x1a\n", 8) == 0) return "image/png";
    if (size > 3 && memcmp(b, "\xff\xd8\xff", 3) == 0) return "image/jpeg";
    if (size > 12 && memcmp(b, "RIFF", 4) == 0 && memcmp(b + 8, "WEBP", 4) == 0) return "image/webp";
    return NULL;
}

static void put_base64(FILE *f, const uint8_t *b, int64_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int64_t i = 0; i < size; i += 3) {
        int64_t n = size - i < 3 ? size - i : 3;
        uint32_t v = (uint32_t)b[i] << 16 | (n > 1 ? (uint32_t)b[i + 1] << 8 : 0) | (n > 2 ? b[i + 2] : 0);
        for (int k = 0; k < 4; k++) fputc(k <= n ? digits[v >> (18 - 6 * k) & 63] : '=', f);
    }
}

void ot_html_gallery(ot_html *h) { put(h, "<div class=\"gallery\">\n"); }
void ot_html_gallery_end(ot_html *h) { put(h, "</div>\n"); }

ot_status ot_html_picture(ot_html *h, const void *bytes, int64_t size, const char *alt, const char *caption, ot_error *err) {
    const char *type = media_type(bytes, size);
    if (type == NULL) return ot_fail(err, OT_ERR_FORMAT, "a picture for a page must be a JPEG, PNG or WebP file: %s", alt);
    fprintf(h->f, "<figure><img src=\"data:%s;base64,", type);
    put_base64(h->f, bytes, size);
    put(h, "\" alt=\"");
    say(h, alt);
    put(h, "\">");
    if (caption != NULL) {
        put(h, "<figcaption>");
        say(h, caption);
        put(h, "</figcaption>");
    }
    put(h, "</figure>\n");
    return OT_OK;
}
