/* Labelled pictures, from what people have: a folder with a folder for each class (ImageFolder), a tar archive of such folders or of WebDataset's
 * KEY.jpg beside KEY.cls or KEY.json, a folder of such archives, or a CSV list of paths and labels. Nothing is unpacked or copied. */
#ifndef OT_DATA_PICTURES_H
#define OT_DATA_PICTURES_H

#include "base/digest.h"
#include "base/file.h"
#include "base/mem.h"
#include "image/image.h"

typedef struct ot_picture {
    const char *name;    /* for people: the path below the data's own */
    const uint8_t *data; /* inside a mapped archive; NULL: a file of its own */
    int64_t size;
    const char *class_name; /* or its number as text; NULL: no label */
    int32_t label;          /* in classes, or the number itself; -1: none */
    ot_image kept;          /* what the check's look made of it; rgb NULL: nothing */
} ot_picture;

enum { OT_PICTURES_SHOWN = 10000, OT_PICTURES_MAX = 1 << 26 };

typedef struct ot_pictures {
    ot_picture *items;
    int64_t n, room;
    const char **classes; /* sorted by their bytes; NULL: labels are numbers, or there are none */
    int64_t n_classes, classes_room;
    const char *layout;   /* "folders", "tar of folders", "WebDataset", "CSV list" */
    int64_t bad;          /* left out: rows, members or pictures that cannot be used */
    const char **shown;   /* [n_shown] why, of the first bad ones */
    int64_t n_shown, shown_room;
    bool strict;          /* the first bad one is an error */
    const char *path, *root; /* as given; names of files are below root */
    ot_map *maps;         /* of archives */
    int64_t n_maps, maps_room;
    ot_arena arena;
} ot_pictures;

/* Is this path for ot_pictures_open (a folder, a .tar, a .csv, or something below a .tar), by its looks? Also a packed archive or a single picture,
 * which it refuses in words. */
bool ot_pictures_is(const char *path);
/* path: also ARCHIVE.tar/FOLDER, for the part of an archive. Every picture's bytes are still unread: see ot_pictures_check. */
ot_status ot_pictures_open(const char *path, bool strict, ot_pictures *out, ot_error *err);
void ot_pictures_close(ot_pictures *p);

/* Decode picture i; safe from several threads. */
ot_status ot_pictures_decode(const ot_pictures *p, int64_t i, ot_image *out, ot_error *err);
/* SHA-256 of the bytes of picture i's file. */
ot_status ot_pictures_digest(const ot_pictures *p, int64_t i, char text[OT_DIGEST_TEXT], ot_error *err);
/* Keep about n pictures, spread evenly over all. */
void ot_pictures_limit(ot_pictures *p, int64_t n);
typedef struct ot_picture_sizes {
    int64_t least_width, least_height, most_width, most_height;
} ot_picture_sizes;
/* What else is to be looked at when a picture is decoded, on several threads; an error (of memory apart) leaves the picture out. It may fill item->kept. */
typedef ot_status (*ot_picture_look)(void *context, ot_picture *item, int64_t i, const ot_image *image, ot_error *err);
/* Decode every picture once, on all threads, and leave out those that cannot be. sizes: NULL, or gets the smallest and the largest; look: NULL, or a
 * further check. */
ot_status ot_pictures_check(ot_pictures *p, ot_picture_sizes *sizes, ot_picture_look look, void *context, ot_error *err);

/* ==== For the files of this folder. ==== */

ot_status ot_pictures_add(ot_pictures *p, const ot_picture *picture, ot_error *err);
/* Leave something out and remember why; with strict, the error. */
ot_status ot_pictures_bad(ot_pictures *p, ot_error *err, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A class that counts although no picture may have it. */
ot_status ot_pictures_add_class(ot_pictures *p, const char *name, ot_error *err);
/* Folders of pictures that are parts of a data set and no classes: train, test, ... */
bool ot_pictures_is_part(const char *name);
ot_status ot_pictures_read_folder(ot_pictures *p, ot_error *err);
/* archive: its path; below: the part of it that counts, "" for all. */
ot_status ot_pictures_read_tar(ot_pictures *p, const char *archive, const char *below, ot_error *err);
ot_status ot_pictures_read_csv(ot_pictures *p, ot_error *err);

#endif
