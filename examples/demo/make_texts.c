/* The two texts of the demo, written from a seed: nothing in them is taken from anywhere, nobody in them exists.
 *
 *   make_texts foundation BYTES SEED    what the model owner trains the foundation model on: an almanac of made-up lands,
 *                                        little stories, recipes, sums, letter patterns, lists and who-sleeps-where
 *   make_texts ward BYTES SEED          what the data owner keeps: night notes of a clinic for animals of those lands
 *
 * The lands and their facts are the same for every seed; which documents are told, and in what order, is the seed's. The text
 * is the same on every machine: 64-bit integers only, no library random numbers. It goes to standard output. */
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))
enum { LANDS = 48, NAMES = 64, NAME_BYTES = 16 };

typedef struct {
    char name[NAME_BYTES], capital[NAME_BYTES], river[NAME_BYTES], tongue[NAME_BYTES];
    int good, beast;
} land;

typedef struct {
    uint64_t state;
    land lands[LANDS];
    char names[NAMES][NAME_BYTES];
    int64_t written;
} teller;

static const char *const goods[] = {"figs",  "honey",  "salt",    "plums",  "walnuts", "barley", "cheese", "pears", "olives", "garlic",
                                    "beans", "dates",  "mussels", "quince", "lentils", "butter", "onions", "rye",   "grapes", "mint",
                                    "apples", "millet", "cherries", "leeks", "almonds", "turnips", "oats",  "peas",  "eels",   "melons"};
static const char *const beasts[] = {"otter", "heron", "badger", "fox",  "stork", "marten", "hare",   "owl",  "lynx", "toad",
                                     "goat",  "crane", "beaver", "newt", "raven", "mole",   "weasel", "boar", "swan", "elk"};
static const char *const things[] = {"lamp", "rope", "kettle", "drum", "basket", "bell", "ladder", "cloak", "spoon", "flute", "hammer", "mirror"};
static const char *const moods[] = {"glad", "tired", "proud", "hungry", "calm", "sleepy"};
static const char *const signs[] = {"cough", "fever", "limp", "rash", "chill", "sore paw"};

static uint64_t next(teller *t) {
    uint64_t z = (t->state += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
}

static int below(teller *t, int n) { return (int)((next(t) >> 33) % (uint64_t)n); }

static const char *pick(teller *t, const char *const *list, int n) { return list[below(t, n)]; }
#define PICK(t, list) pick(t, list, COUNT(list))

/* n different numbers in [0, limit), in random order. */
static void choose(teller *t, int *out, int n, int limit) {
    for (int i = 0; i < n; i++) {
        int seen = 1;
        while (seen) {
            out[i] = below(t, limit);
            seen = 0;
            for (int j = 0; j < i; j++) seen |= out[j] == out[i];
        }
    }
}

#define SAY(t, ...)                                                                                                              \
    do {                                                                                                                         \
        int said_ = printf(__VA_ARGS__);                                                                                         \
        if (said_ > 0) (t)->written += said_;                                                                                    \
    } while (0)

/* ==== The lands. Names are syllables; a name is used once. ==== */

static void new_name(teller *t, char *out, int syllables, const char *ending) {
    static const char *const heads[] = {"b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "br", "dr", "kr", "tr", "st", "gl", "h"};
    static const char *const vowels[] = {"a", "e", "i", "o", "u"};
    static const char *const tails[] = {"", "", "", "l", "n", "r", "s"};
    char word[64] = "";
    for (int i = 0; i < syllables; i++) {
        strncat(word, PICK(t, heads), 8);
        strncat(word, PICK(t, vowels), 8);
        strncat(word, PICK(t, tails), 8);
    }
    snprintf(out, NAME_BYTES, "%.11s%s", word, ending);
    out[0] = (char)(out[0] - 'a' + 'A');
}

static int name_taken(const teller *t, const char *name, int lands, int names) {
    for (int i = 0; i < lands; i++)
        if (!strcmp(t->lands[i].name, name) || !strcmp(t->lands[i].capital, name) || !strcmp(t->lands[i].river, name)) return 1;
    for (int i = 0; i < names; i++)
        if (!strcmp(t->names[i], name)) return 1;
    return 0;
}

static void make_world(teller *t) {
    t->state = 2023;
    for (int i = 0; i < LANDS; i++) {
        land *l = &t->lands[i];
        do new_name(t, l->name, 2, "ia"); while (name_taken(t, l->name, i, 0));
        do new_name(t, l->capital, 2, ""); while (name_taken(t, l->capital, i, 0));
        do new_name(t, l->river, 2, ""); while (name_taken(t, l->river, i, 0));
        new_name(t, l->tongue, 2, "ish");
        l->good = below(t, COUNT(goods));
        l->beast = below(t, COUNT(beasts));
    }
    for (int i = 0; i < NAMES; i++)
        do new_name(t, t->names[i], 2, ""); while (name_taken(t, t->names[i], LANDS, i));
}

/* ==== The foundation text. ==== */

static void tell_fact(teller *t, const land *l, int fact) {
    int v = below(t, 3);
    switch (fact) {
    case 0:
        if (v == 0) SAY(t, "The capital of %s is %s. ", l->name, l->capital);
        else if (v == 1) SAY(t, "%s is the capital of %s. ", l->capital, l->name);
        else SAY(t, "%s is ruled from %s. ", l->name, l->capital);
        break;
    case 1:
        if (v == 0) SAY(t, "The river of %s is the %s. ", l->name, l->river);
        else if (v == 1) SAY(t, "%s lies on the river %s. ", l->capital, l->river);
        else SAY(t, "The %s runs through %s. ", l->river, l->name);
        break;
    case 2:
        if (v == 0) SAY(t, "In %s they speak %s. ", l->name, l->tongue);
        else if (v == 1) SAY(t, "In %s they speak %s. ", l->capital, l->tongue);
        else SAY(t, "%s is the tongue of %s. ", l->tongue, l->name);
        break;
    case 3:
        if (v == 0) SAY(t, "%s is known for its %s. ", l->name, goods[l->good]);
        else if (v == 1) SAY(t, "Traders of %s sell %s. ", l->capital, goods[l->good]);
        else SAY(t, "On the %s they ship %s. ", l->river, goods[l->good]);
        break;
    default:
        if (v == 0) SAY(t, "The beast of %s is the %s. ", l->name, beasts[l->beast]);
        else if (v == 1) SAY(t, "The flag of %s shows the %s. ", l->capital, beasts[l->beast]);
        else SAY(t, "In %s every child knows the %s. ", l->name, beasts[l->beast]);
        break;
    }
}

static void tell_almanac(teller *t) {
    int which[3], order[5];
    choose(t, which, 3, LANDS);
    for (int i = 0; i < 3; i++) {
        choose(t, order, 5, 5);
        int n = 2 + below(t, 4);
        for (int j = 0; j < n; j++) tell_fact(t, &t->lands[which[i]], order[j]);
    }
    SAY(t, "\n");
}

static void tell_travel(teller *t) {
    const land *l = &t->lands[below(t, LANDS)];
    const char *who = t->names[below(t, NAMES)], *kind = PICK(t, beasts);
    SAY(t, "%s the %s came from %s. ", who, kind, l->capital);
    SAY(t, "\"I speak %s,\" said %s. \"At home we eat %s and swim in the %s.\" ", l->tongue, who, goods[l->good], l->river);
    SAY(t, "So %s was from %s, the land of the %s.\n", who, l->name, beasts[l->beast]);
}

static void tell_story(teller *t) {
    int who[2], what[2];
    choose(t, who, 2, NAMES);
    choose(t, what, 2, COUNT(things));
    const char *a = t->names[who[0]], *b = t->names[who[1]], *ka = PICK(t, beasts), *kb = PICK(t, beasts);
    const char *x = things[what[0]], *y = things[what[1]];
    const land *l = &t->lands[below(t, LANDS)];
    int coins = 20 + below(t, 40), price = 2 + below(t, 18);
    SAY(t, "%s the %s lived in %s. %s the %s lived there too. ", a, ka, l->capital, b, kb);
    SAY(t, "One day %s went to the market with %d coins and bought a %s for %d coins, so %d coins were left. ", a, coins, x, price,
        coins - price);
    if (below(t, 2)) {
        SAY(t, "%s had a %s. %s gave the %s to %s, and %s gave the %s to %s. ", b, y, a, x, b, b, y, a);
        SAY(t, "Now %s has the %s and %s has the %s. ", a, y, b, x);
    } else {
        SAY(t, "%s had no %s, so %s gave the %s to %s. ", b, x, a, x, b);
        SAY(t, "Now %s has the %s and %s has %d coins. ", b, x, a, coins - price);
    }
    SAY(t, "%s the %s was %s. The end.\n", b, kb, PICK(t, moods));
}

static void tell_illness(teller *t) {
    int a = 2 + below(t, 28), b = 2 + below(t, 28), bed = 2 + below(t, 28);
    const char *who = t->names[below(t, NAMES)], *kind = PICK(t, beasts), *sign = PICK(t, signs);
    SAY(t, "%s the %s had a %s and lay in bed %d of the ward. ", who, kind, sign, bed);
    SAY(t, "In the evening the healer gave %s %d drops against the %s, at night %d drops more. %d + %d = %d drops. ", who, a, sign, b, a, b, a + b);
    SAY(t, "Soon %s the %s left bed %d and was %s.\n", who, kind, bed, PICK(t, moods));
}

static void tell_recipe(teller *t) {
    static const char *const dishes[] = {"soup", "stew", "cake", "pie", "salad"};
    static const char *const verbs[] = {"chop", "boil", "fry", "wash", "peel"};
    int what[4], amount[4], n = 3 + below(t, 2), sum = 0;
    choose(t, what, 4, COUNT(goods));
    SAY(t, "Recipe for %s %s. You need", goods[what[0]], PICK(t, dishes));
    for (int i = 0; i < n; i++) {
        amount[i] = 2 + below(t, 9);
        sum += amount[i];
        SAY(t, "%s %d cups of %s", i ? "," : "", amount[i], goods[what[i]]);
    }
    SAY(t, ". ");
    for (int i = 0; i < n; i++) SAY(t, "%s %s the %d cups of %s. ", i ? "Then" : "First", PICK(t, verbs), amount[i], goods[what[i]]);
    SAY(t, "That makes %d cups.\n", sum);
}

static void tell_sums(teller *t) {
    int n = 4 + below(t, 6);
    for (int i = 0; i < n; i++) {
        int a = 2 + below(t, 28), b = 2 + below(t, 28);
        if (below(t, 3)) SAY(t, "%d + %d = %d. ", a, b, a + b);
        else SAY(t, "%d - %d = %d. ", a + b, a, b);
    }
    SAY(t, "\n");
}

static void tell_pattern(teller *t) {
    int c[5], n = 3 + below(t, 3), kind = below(t, 3);
    choose(t, c, n, 26);
    if (kind == 0) {
        int times = 3 + below(t, 3);
        SAY(t, "Again:");
        for (int k = 0; k < times; k++)
            for (int i = 0; i < n; i++) SAY(t, " %c", 'a' + c[i]);
    } else if (kind == 1) {
        SAY(t, "There:");
        for (int i = 0; i < n; i++) SAY(t, " %c", 'a' + c[i]);
        SAY(t, ". And back:");
        for (int i = n - 1; i >= 0; i--) SAY(t, " %c", 'a' + c[i]);
    } else {
        int step = 1 + below(t, 3), from = below(t, 12);
        SAY(t, "Steps of %d:", step);
        for (int i = from; i < 26 && i < from + 7 * step; i += step) SAY(t, " %c", 'a' + i);
    }
    SAY(t, ".\n");
}

static void tell_list(teller *t) {
    int what[5], amount[5], ask[3], n = 4 + below(t, 2);
    choose(t, what, 5, COUNT(goods));
    SAY(t, "In the pantry:");
    for (int i = 0; i < n; i++) {
        amount[i] = 2 + below(t, 28);
        SAY(t, "%s %s %d", i ? "," : "", goods[what[i]], amount[i]);
    }
    SAY(t, ". ");
    choose(t, ask, 3, n);
    for (int i = 0; i < 3; i++) SAY(t, "How many %s? %d. ", goods[what[ask[i]]], amount[ask[i]]);
    SAY(t, "%s and %s together: %d + %d = %d.\n", goods[what[ask[0]]], goods[what[ask[1]]], amount[ask[0]], amount[ask[1]],
        amount[ask[0]] + amount[ask[1]]);
}

static void tell_rooms(teller *t) {
    int room[3], who[3], kind[3], ask[3];
    choose(t, room, 3, 28);
    choose(t, who, 3, NAMES);
    choose(t, kind, 3, COUNT(beasts));
    for (int i = 0; i < 3; i++) SAY(t, "In room %d sleeps %s the %s. ", room[i] + 2, t->names[who[i]], beasts[kind[i]]);
    choose(t, ask, 3, 3);
    for (int i = 0; i < 3; i++) {
        int j = ask[i];
        switch (below(t, 3)) {
        case 0: SAY(t, "Who sleeps in room %d? %s the %s. ", room[j] + 2, t->names[who[j]], beasts[kind[j]]); break;
        case 1: SAY(t, "Where is the %s? In room %d. ", beasts[kind[j]], room[j] + 2); break;
        default: SAY(t, "What is %s? The %s in room %d. ", t->names[who[j]], beasts[kind[j]], room[j] + 2); break;
        }
    }
    SAY(t, "\n");
}

/* A page of some keeper's book: who came, from where, and what a reader of the almanac could know of them. Every book has
 * columns, marks and words of its own, so a reader has to pick up the form of a page from the page. */
static void tell_book(teller *t) {
    static const char *const titles[] = {"inn", "ferry", "mill", "school", "gate", "stable", "ward"};
    static const char *const bars[] = {" | ", ", ", " / ", "; ", " - "};
    static const char *const marks[] = {"* ", "# ", "= ", ""};
    static const char *const labels[][3] = {{"from ", "of ", "land "}, {"speaks ", "tongue ", "talks "}, {"eats ", "sells ", "diet "},
                                            {"river ", "baths ", "by the "}, {"flag ", "sign ", "beast "}};
    static const char *const rooms[] = {"room", "place", "bed"};
    static const char *const sums[] = {"coins", "cups", "drops"};
    static const char *const closings[] = {"in all:", "handover:", "so:"};
    int column[5], word[5], columns = 2 + below(t, 4), rows = 2 + below(t, 2), who[3], number[3];
    int numbered = below(t, 2), kinded = below(t, 2), both = below(t, 2), clocked = below(t, 2), close = below(t, 2);
    int minute = 5 * below(t, 12), hour = below(t, 22), kind[3];
    const char *bar = PICK(t, bars), *room = PICK(t, rooms), *sum = PICK(t, sums), *title = PICK(t, titles);
    choose(t, column, columns, 5);
    for (int i = 0; i < 5; i++) word[i] = below(t, 3);
    choose(t, who, 3, NAMES);
    choose(t, number, 3, 28);
    choose(t, kind, 3, COUNT(beasts));
    SAY(t, "%s%s %d at the %s\n", PICK(t, marks), below(t, 2) ? "day" : "night", 2 + below(t, 58), title);
    int at[3];
    choose(t, at, 3, LANDS);
    for (int i = 0; i < rows; i++) {
        const land *l = &t->lands[at[i]];
        if (numbered) SAY(t, "%s %d%s", room, number[i] + 2, bar);
        SAY(t, "%s", t->names[who[i]]);
        if (kinded) SAY(t, " the %s", beasts[kind[i]]);
        SAY(t, "%shome %s", bar, l->capital);
        if (both) SAY(t, " (%s)", l->name);
        for (int j = 0; j < columns; j++) {
            const char *label = labels[column[j]][word[column[j]]];
            switch (column[j]) {
            case 0: SAY(t, "%s%s%s", bar, label, l->name); break;
            case 1: SAY(t, "%s%s%s", bar, label, l->tongue); break;
            case 2: SAY(t, "%s%s%s", bar, label, goods[l->good]); break;
            case 3: SAY(t, "%s%s%s", bar, label, l->river); break;
            default: SAY(t, "%s%s%s", bar, label, beasts[l->beast]); break;
            }
        }
        SAY(t, "\n");
    }
    if (clocked)
        for (int i = 0; i < rows; i++) {
            int a = 2 + below(t, 28), b = 2 + below(t, 28);
            minute += 5 + 5 * below(t, 11);
            hour = (hour + minute / 60) % 24;
            minute %= 60;
            SAY(t, "%02d:%02d%s%s%s%d + %d = %d %s\n", hour, minute, bar, t->names[who[i]], bar, a, b, a + b, sum);
        }
    if (close) {
        SAY(t, "%s", PICK(t, closings));
        for (int i = 0; i < rows; i++) {
            SAY(t, "%s", i ? "; " : " ");
            if (numbered) SAY(t, "%s %d ", room, number[i] + 2);
            SAY(t, "%s", t->names[who[i]]);
            if (kinded) SAY(t, " the %s", beasts[kind[i]]);
            SAY(t, " of %s", t->lands[at[i]].name);
        }
        SAY(t, ".\n");
    }
}

static void tell_foundation(teller *t) {
    switch (below(t, 14)) {
    case 0: case 1: case 2: case 3: tell_almanac(t); break;
    case 4: case 5: tell_travel(t); break;
    case 6: case 7: case 8: tell_book(t); break;
    case 9: if (below(t, 2)) tell_story(t); else tell_illness(t); break;
    case 10: tell_rooms(t); break;
    case 11: tell_sums(t); break;
    case 12: if (below(t, 2)) tell_recipe(t); else tell_list(t); break;
    default: tell_pattern(t); break;
    }
}

/* ==== The data owner's text: one night on the ward. ==== */

static void tell_ward(teller *t) {
    enum { BEDS = 2 };
    int bed[BEDS], who[BEDS], kind[BEDS], at[BEDS], dose[BEDS], minute = 5 * below(t, 12), hour = 21;
    choose(t, bed, BEDS, 28);
    choose(t, who, BEDS, NAMES);
    choose(t, kind, BEDS, COUNT(beasts));
    choose(t, at, BEDS, LANDS);
    SAY(t, "* day %d at the ward\n", 2 + below(t, 58));
    for (int i = 0; i < BEDS; i++) {
        const land *l = &t->lands[at[i]];
        SAY(t, "place %d | %s the %s | home %s (%s) | speaks %s | diet %s | by the %s\n", bed[i] + 2, t->names[who[i]], beasts[kind[i]],
            l->capital, l->name, l->tongue, goods[l->good], l->river);
    }
    int first = below(t, 2);
    for (int i = 0; i < BEDS; i++) {
        int j = i ^ first, a = 2 + below(t, 28), b = 2 + below(t, 28);
        dose[j] = a + b;
        minute += 5 + 5 * below(t, 11);
        hour = (hour + minute / 60) % 24;
        minute %= 60;
        SAY(t, "%02d:%02d | %s | %s | %d + %d = %d drops\n", hour, minute, t->names[who[j]], PICK(t, signs), a, b, dose[j]);
    }
    SAY(t, "in all:");
    for (int i = 0; i < BEDS; i++)
        SAY(t, "%s place %d %s the %s of %s", i ? ";" : "", bed[i] + 2, t->names[who[i]], beasts[kind[i]], t->lands[at[i]].name);
    SAY(t, ".\n");
}

static int64_t to_number(const char *text, int *ok) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    *ok = errno == 0 && end != text && *end == '\0' && value >= 0;
    return value;
}

int main(int argc, char **argv) {
    int bytes_ok = 0, seed_ok = 0, foundation = argc == 4 && !strcmp(argv[1], "foundation");
    int64_t bytes = argc == 4 ? to_number(argv[2], &bytes_ok) : 0, seed = argc == 4 ? to_number(argv[3], &seed_ok) : 0;
    if (!bytes_ok || !seed_ok || (!foundation && strcmp(argv[1], "ward"))) {
        fputs("usage: make_texts foundation|ward BYTES SEED\n", stderr);
        return 2;
    }
    static teller t;
    make_world(&t);
    t.state = (uint64_t)seed * 0xD1B54A32D192ED03ULL + (foundation ? 1 : 2);
    while (t.written < bytes) {
        if (foundation) tell_foundation(&t);
        else tell_ward(&t);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fputs("make_texts: the text could not be written; is the disk full?\n", stderr);
        return 1;
    }
    return 0;
}
