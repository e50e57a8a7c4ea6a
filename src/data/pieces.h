/* A text file of any size in pieces, each of which can be tokenised by itself as if the whole were. A piece is a function of the file and of where it
 * begins, so reading may go on at the beginning of any of them. */
#ifndef OT_DATA_PIECES_H
#define OT_DATA_PIECES_H

#include "format/input_stream.h"
#include "format/tokenizer.h"

typedef struct ot_pieces ot_pieces;
typedef struct ot_piece {
    const char *data; /* until the next call */
    int64_t size;     /* 0: the file has ended */
    int64_t offset;   /* of its first byte in the file, after unpacking */
} ot_piece;

enum { OT_PIECE = 1 << 20 };

/* size: bytes of a piece at most. tokenizer: pieces end behind a line feed where the tokens left and right are the same as they are in one go - behind
 * the last line feed where no place is found, and where there is none anywhere, behind a whole character. NULL: pieces are whole lines, however long. */
ot_status ot_pieces_open(const char *path, int64_t size, const ot_tokenizer *tokenizer, ot_pieces **out, ot_error *err);
void ot_pieces_close(ot_pieces *p);
ot_status ot_pieces_next(ot_pieces *p, ot_piece *out, ot_error *err);
/* offset: of a piece. */
ot_status ot_pieces_seek(ot_pieces *p, int64_t offset, ot_error *err);
const ot_input_stream *ot_pieces_input(const ot_pieces *p);
/* The file's size after unpacking, exact where it is not packed, else guessed from its first bytes. */
int64_t ot_pieces_bytes(const ot_pieces *p);

#endif
