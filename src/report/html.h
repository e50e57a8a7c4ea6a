/* A page in one HTML file: nothing is fetched, nothing runs. It reads in light and dark, in print and on narrow screens.
 *
 * Whatever is handed in as text is escaped, so that a file's name or a model's cannot become markup; the page's own policy forbids scripts and
 * outside addresses besides. Trouble with memory latches and is told by _save.
 *
 *     ot_html page;
 *     OT_TRY(ot_html_open(&page, "Wards", "what the data owner sees", err));
 *     ot_html_section(&page, "Pictures");
 *     ot_html_paragraph(&page, "%d pictures of the test set.", n);
 *     ot_html_gallery(&page);
 *     for (...) status = ot_html_picture(&page, bytes, size, "a frog, taken for a cat", "frog -> cat", err);   // JPEG, PNG or WebP as it is
 *     ot_html_gallery_end(&page);
 *     status = ot_html_save(&page, "page.html", err);                                                         // or ot_html_free
 */
#ifndef OT_REPORT_HTML_H
#define OT_REPORT_HTML_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "plot/plot.h"

typedef enum ot_tone { OT_TONE_PLAIN, OT_TONE_GOOD, OT_TONE_BAD, OT_TONE_MUTED, OT_TONE_STRONG } ot_tone;

typedef struct ot_html_column {
    const char *title;
    bool number; /* set to the right */
} ot_html_column;

typedef struct ot_html {
    FILE *f;
    char *text;
    size_t size;
    bool failed, in_section;
    const ot_html_column *columns; /* of the table being written */
    int n_columns, column;
} ot_html;

/* subtitle may be NULL. */
ot_status ot_html_open(ot_html *h, const char *title, const char *subtitle, ot_error *err);
/* Ends the page, writes the file, frees. */
ot_status ot_html_save(ot_html *h, const char *path, ot_error *err);
/* Without writing; accepts a closed page. */
void ot_html_free(ot_html *h);

/* A heading; the section before ends. */
void ot_html_section(ot_html *h, const char *heading);
/* A heading below a section's, of a table or chart. */
void ot_html_heading(ot_html *h, const char *heading);
void ot_html_paragraph(ot_html *h, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same in small: what a reader may want to know besides. */
void ot_html_note(ot_html *h, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Lines of a command, a file or a message, as they are. */
void ot_html_code(ot_html *h, const char *text);
/* What is opened by hand, shown in print. */
void ot_html_details(ot_html *h, const char *summary);
void ot_html_details_end(ot_html *h);

/* A box with a sentence that matters; then any number of marks; then _end. */
void ot_html_verdict(ot_html *h, ot_tone tone, const char *heading, const char *format, ...) __attribute__((format(printf, 4, 5)));
void ot_html_mark(ot_html *h, ot_tone tone, const char *text); /* good ones get a tick, bad ones a cross */
void ot_html_verdict_end(ot_html *h);

/* Rows are filled cell by cell from the left; the first cell of a row is its heading. columns must outlive the table. */
void ot_html_table(ot_html *h, const char *caption, const ot_html_column *columns, int n_columns);
void ot_html_row(ot_html *h, bool chosen);
void ot_html_cell(ot_html *h, ot_tone tone, const char *format, ...) __attribute__((format(printf, 3, 4)));
void ot_html_table_end(ot_html *h);

/* Charts between these two stand side by side where there is room. */
void ot_html_charts(ot_html *h);
void ot_html_charts_end(ot_html *h);
/* A chart with a caption (NULL: none). One without a point is left out. */
ot_status ot_html_plot(ot_html *h, const ot_plot *plot, const char *caption, ot_error *err);

/* Pictures in rows as wide as the page allows; _picture goes between the two. */
void ot_html_gallery(ot_html *h);
void ot_html_gallery_end(ot_html *h);
/* The file's own bytes, JPEG, PNG or WebP, inside the page. alt says what is seen, for who does not see it; caption may be NULL. */
ot_status ot_html_picture(ot_html *h, const void *bytes, int64_t size, const char *alt, const char *caption, ot_error *err);

#endif
