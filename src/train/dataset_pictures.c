/* Data sets of picture files: decoded, resized and changed by threads that run ahead of training. What a picture becomes is a function of the data,
 * the seed, its place and the epoch, never of a thread. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/parallel.h"
#include "data/pictures.h"
#include "data/preprocess.h"
#include "train/dataset.h"
#include "train/dataset_internal.h"

enum { AHEAD = 32, MAX_WORKERS = 16, MOST_KEPT = 128 << 20, WORTH_KEEPING = 2 };

typedef enum slot_state { WANTED, WORKING, READY } slot_state;

typedef struct slot {
    int64_t row, epoch;
    slot_state state;
    ot_status status;
    ot_error error;
    float *values;
} slot;

typedef struct file_pixels {
    ot_pixels base;
    ot_pictures list;
    ot_preprocess how;
    ot_augment augment;
    bool augmented;
    uint64_t seed;
    int64_t values; /* of one picture */
    int64_t next;   /* row that a reader in order takes next; -1: there is none */
    /* A ring: slots[(first + i) % AHEAD], i < count, in the order in which they will be asked for. All below belongs to the lock. */
    pthread_mutex_t lock;
    pthread_cond_t wanted, ready;
    slot slots[AHEAD];
    int first, count;
    bool closing;
    pthread_t workers[MAX_WORKERS];
    int n_workers;
    float *room;
} file_pixels;

static ot_status make(const file_pixels *p, int64_t row, int64_t epoch, float *out, ot_error *err) {
    ot_image image;
    ot_rng rng;
    const ot_augment *change = p->augmented && epoch >= 0 ? &p->augment : NULL;
    const ot_picture *item = &p->list.items[row];
    ot_rng_seed(&rng, ot_rng_hash(ot_rng_hash(p->seed ^ 0x70696373ULL, (uint64_t)epoch), (uint64_t)row));
    if (item->kept.rgb != NULL && (change == NULL || !change->crop)) return ot_preprocess_finish(&p->how, &item->kept, change, &rng, out, err);
    OT_TRY(ot_pictures_decode(&p->list, row, &image, err));
    ot_status status = ot_preprocess_apply(&p->how, &image, change, &rng, item->name, out, err);
    ot_image_free(&image);
    return status;
}

/* ==== Threads. ==== */

/* Called and left with the lock held; without it in between. */
static void fill_slot(file_pixels *p, slot *s) {
    s->state = WORKING;
    pthread_mutex_unlock(&p->lock);
    s->error = (ot_error){0};
    s->status = make(p, s->row, s->epoch, s->values, &s->error);
    pthread_mutex_lock(&p->lock);
    s->state = READY;
    pthread_cond_broadcast(&p->ready);
}

static slot *first_wanted(file_pixels *p) {
    for (int i = 0; i < p->count; i++) {
        slot *s = &p->slots[(p->first + i) % AHEAD];
        if (s->state == WANTED) return s;
    }
    return NULL;
}

static void *work(void *context) {
    file_pixels *p = context;
    pthread_mutex_lock(&p->lock);
    while (!p->closing) {
        slot *s = first_wanted(p);
        if (s != NULL) fill_slot(p, s);
        else pthread_cond_wait(&p->wanted, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static bool push(file_pixels *p, int64_t row, int64_t epoch) {
    if (p->count == AHEAD || p->n_workers == 0) return false;
    slot *s = &p->slots[(p->first + p->count++) % AHEAD];
    s->row = row;
    s->epoch = epoch;
    s->state = WANTED;
    pthread_cond_signal(&p->wanted);
    return true;
}

/* Forget what was announced; what is being worked on must end first, since it writes into its slot. */
static void forget(file_pixels *p) {
    for (int i = 0; i < p->count; i++) {
        slot *s = &p->slots[(p->first + i) % AHEAD];
        if (s->state == WANTED) s->state = READY;
        while (s->state == WORKING) pthread_cond_wait(&p->ready, &p->lock);
    }
    p->count = 0;
}

static void take(file_pixels *p, float *out, ot_status *status, ot_error *err) {
    slot *s = &p->slots[p->first];
    if (s->state == WANTED) fill_slot(p, s); /* all others are busy */
    while (s->state != READY) pthread_cond_wait(&p->ready, &p->lock);
    *status = s->status;
    if (s->status == OT_OK) memcpy(out, s->values, (size_t)p->values * sizeof *out);
    else *err = s->error;
    p->first = (p->first + 1) % AHEAD;
    p->count--;
}

static bool expect(ot_pixels *base, int64_t row, int64_t epoch) {
    file_pixels *p = (file_pixels *)base;
    pthread_mutex_lock(&p->lock);
    bool taken = push(p, row, epoch);
    pthread_mutex_unlock(&p->lock);
    return taken;
}

/* Without announcements the rows are likely read in order, as evaluation does. */
static void guess(file_pixels *p, int64_t row, int64_t epoch) {
    bool in_order = epoch < 0 && (row == 0 || row == p->next);
    p->next = row + 1;
    if (!in_order) return;
    for (int64_t r = row + 1 + p->count; r < p->list.n && push(p, r, epoch); r++) {}
}

static ot_status get(ot_pixels *base, int64_t row, int64_t epoch, float *out, ot_error *err) {
    file_pixels *p = (file_pixels *)base;
    ot_status status = OT_OK;
    pthread_mutex_lock(&p->lock);
    bool announced = p->count > 0 && p->slots[p->first].row == row && p->slots[p->first].epoch == epoch;
    if (announced) take(p, out, &status, err);
    else forget(p);
    guess(p, row, epoch);
    pthread_mutex_unlock(&p->lock);
    return announced ? status : make(p, row, epoch, out, err);
}

/* A quarter of the threads read ahead while all of them train. */
static ot_status start(file_pixels *p, ot_error *err) {
    int n = (ot_threads() + 3) / 4;
    if (n > MAX_WORKERS) n = MAX_WORKERS;
    OT_TRY(ot_malloc(AHEAD * p->values, sizeof(float), "pictures read ahead", (void **)&p->room, err));
    for (int i = 0; i < AHEAD; i++) p->slots[i].values = p->room + i * p->values;
    for (; p->n_workers < n; p->n_workers++) {
        if (pthread_create(&p->workers[p->n_workers], NULL, work, p) != 0) break; /* fewer, or none, do the same work */
    }
    return OT_OK;
}

static void close_pixels(ot_pixels *base) {
    file_pixels *p = (file_pixels *)base;
    pthread_mutex_lock(&p->lock);
    p->closing = true;
    pthread_cond_broadcast(&p->wanted);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n_workers; i++) pthread_join(p->workers[i], NULL);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->wanted);
    pthread_cond_destroy(&p->ready);
    ot_free(p->room);
    ot_pictures_close(&p->list);
    free(p);
}

/* ==== Names and labels. ==== */

static const char *name(const ot_pixels *base, int64_t row) { return ((const file_pixels *)base)->list.items[row].name; }

static ot_status digest(const ot_pixels *base, int64_t row, char text[OT_DIGEST_TEXT], ot_error *err) {
    return ot_pictures_digest(&((const file_pixels *)base)->list, row, text, err);
}

static void identify(const ot_pixels *base, void (*add)(void *context, const void *data, int64_t size), void *context) {
    enum { PATH_ROOM = 8192 };
    const file_pixels *p = (const file_pixels *)base;
    const ot_preprocess *h = &p->how;
    const double how[] = {h->resize, h->crop, h->rescale, h->normalise, (double)h->shortest_edge, (double)h->height, (double)h->width, h->filter,
                          (double)h->crop_height, (double)h->crop_width, h->factor, h->mean[0], h->mean[1], h->mean[2], h->std[0], h->std[1], h->std[2]};
    add(context, how, (int64_t)sizeof how);
    for (int64_t i = 0; i < p->list.n; i++) {
        const ot_picture *item = &p->list.items[i];
        char path[PATH_ROOM];
        struct stat st;
        int64_t size = item->size;
        if (item->data == NULL && ot_path_join(path, sizeof path, p->list.root, item->name) && stat(path, &st) == 0) size = st.st_size;
        add(context, item->name, (int64_t)strlen(item->name) + 1);
        add(context, &size, (int64_t)sizeof size);
    }
}

static ot_status take_labels(const char *path, int64_t classes, const ot_pictures *list, const ot_image_options *o, ot_dataset *d, ot_error *err) {
    for (int64_t r = 0; r < d->rows; r++) {
        int32_t label = list->items[r].label;
        if (!o->unlabelled && label >= classes) {
            return ot_fail(err, OT_ERR_FORMAT, "%s: the label of %s is %d, but there are %lld classes (a new head for other classes: --classes NAME,...)", path,
                           list->items[r].name, label, (long long)classes);
        }
        d->targets[r] = o->unlabelled ? 0 : label;
        d->counted[r] = o->unlabelled || label >= 0;
    }
    if (ot_dataset_targets(d) > 0) return OT_OK;
    return ot_fail(err, OT_ERR_REFUSED, "%s: no picture has a label, and there is nothing to learn or score without (a folder for each class gives them)", path);
}

/* Names that the user gave to labels that are numbers. */
static ot_status copy_names(const ot_image_options *o, file_pixels *p, ot_error *err) {
    for (int64_t i = 0; i < o->n_classes; i++) {
        const char *copy = ot_arena_strdup(&p->list.arena, o->classes[i], err);
        if (copy == NULL) return OT_ERR_MEMORY;
        OT_TRY(ot_pictures_add_class(&p->list, copy, err));
    }
    return OT_OK;
}

/* Does the picture fit; and is it worth keeping as resized, so that it is decoded this once? Large photographs are, as many as there is room for: which
 * ones follows from their place in the list. */
static ot_status look(void *context, ot_picture *item, int64_t i, const ot_image *image, ot_error *err) {
    const file_pixels *p = context;
    int64_t usual = p->how.out_height * p->how.out_width, most = 2 * usual * 3; /* twice as much where the longer side is cropped later */
    OT_TRY(ot_preprocess_fits(&p->how, image->width, image->height, item->name, err));
    if ((i + 1) * most > MOST_KEPT || image->width * image->height < WORTH_KEEPING * usual) return OT_OK;
    OT_TRY(ot_preprocess_fit(&p->how, image, item->name, &item->kept, err));
    if (item->kept.width * item->kept.height * 3 > most) ot_image_free(&item->kept);
    return OT_OK;
}

static int64_t kept_bytes(const ot_pictures *list) {
    int64_t bytes = 0;
    for (int64_t i = 0; i < list->n; i++) bytes += list->items[i].kept.rgb != NULL ? list->items[i].kept.width * list->items[i].kept.height * 3 : 0;
    return bytes;
}

static ot_status fill(const char *path, const ot_desc *desc, const ot_image_options *o, file_pixels *p, ot_dataset *d, ot_error *err) {
    if (desc->channels != 3) return ot_fail(err, OT_ERR_UNSUPPORTED, "%s: pictures have 3 channels, the model reads %lld", path, (long long)desc->channels);
    OT_TRY(ot_preprocess_read(o->model_path, desc->arch->name, desc->image_height, desc->image_width, &p->how, err));
    if (p->how.out_height == 0) {
        p->how.out_height = desc->image_height;
        p->how.out_width = desc->image_width;
    }
    if (p->how.out_height < desc->patch_size || p->how.out_width < desc->patch_size) {
        return ot_fail(err, OT_ERR_FORMAT, "%s: pictures of %lld x %lld pixels do not go into patches of %lld", p->how.where, (long long)p->how.out_width,
                       (long long)p->how.out_height, (long long)desc->patch_size);
    }
    OT_TRY(ot_pictures_open(path, o->strict, &p->list, err));
    ot_pictures_limit(&p->list, o->limit);
    OT_TRY(ot_pictures_check(&p->list, NULL, look, p, err));
    if (o->classes != NULL && p->list.classes == NULL) OT_TRY(copy_names(o, p, err));
    p->base.channels = 3;
    p->base.height = p->how.out_height;
    p->base.width = p->how.out_width;
    p->values = 3 * p->base.height * p->base.width;
    p->base.bad = p->list.bad;
    p->base.shown = p->list.shown;
    p->base.n_shown = p->list.n_shown;
    p->base.classes = o->unlabelled ? NULL : (const char *const *)p->list.classes;
    p->base.n_classes = p->base.classes != NULL ? p->list.n_classes : 0;
    p->base.held = AHEAD * p->values * (int64_t)sizeof(float) + p->list.n * (int64_t)sizeof *p->list.items + kept_bytes(&p->list);
    d->rows = d->examples = p->list.n;
    d->length = ot_desc_image_rows(desc, p->base.height, p->base.width);
    d->tokens = d->rows * d->length;
    OT_TRY(ot_malloc(d->rows, 4, "labels", (void **)&d->targets, err));
    OT_TRY(ot_malloc(d->rows, 4, "target counts", (void **)&d->counted, err));
    OT_TRY(ot_malloc(p->values, sizeof(float), "a picture", (void **)&d->picture, err));
    OT_TRY(take_labels(path, p->base.classes != NULL ? p->list.n_classes : desc->vocab_size, &p->list, o, d, err));
    return start(p, err);
}

ot_status ot_dataset_open_picture_files(const char *path, const ot_desc *desc, const ot_image_options *options, ot_dataset *out, ot_error *err) {
    ot_dataset d = {0};
    file_pixels *p = calloc(1, sizeof *p);
    if (p == NULL) return ot_fail_memory(err, sizeof *p, "a data set");
    p->base.get = get;
    p->base.expect = expect;
    p->base.name = name;
    p->base.digest = digest;
    p->base.identify = identify;
    p->base.close = close_pixels;
    p->next = -1;
    p->seed = options->seed;
    p->augmented = p->base.varies = options->augment != NULL;
    if (p->augmented) p->augment = *options->augment;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wanted, NULL);
    pthread_cond_init(&p->ready, NULL);
    d.pixels = &p->base;
    ot_status status = fill(path, desc, options, p, &d, err);
    if (status != OT_OK) {
        ot_dataset_free(&d);
        return status;
    }
    *out = d;
    return OT_OK;
}
