/* Packed matrices: the stored form of the emulator method `quantize`. A matrix [rows, cols] is two arrays:
 *   codes   INT8G: int8 [rows, cols]; INT4G: bytes [rows, ceil(cols / 2)], element 2i in the low nibble of byte i, 2i + 1 in the high one, each
 *           plus 8; the unused nibble of an odd row is 0
 *   scales  bf16 [rows, ceil(cols / group)]: one for each run of `group` values of a row; the last run of a row may be shorter
 * and value = code * scale, exact in F32. Rows do not share a scale, so every row can be read alone. */
#ifndef OT_TENSOR_PACKED_H
#define OT_TENSOR_PACKED_H

#include "tensor/dtype.h"

enum { OT_PACKED_MIN_GROUP = 8, OT_PACKED_MAX_GROUP = 65536 };

int64_t ot_packed_row_bytes(ot_dtype dtype, int64_t cols);
int64_t ot_packed_row_groups(int64_t cols, int64_t group);
/* dst[0 .. n) = elements [first, first + n) of the row whose codes and scales begin at these addresses (of any alignment). */
void ot_packed_decode(ot_dtype dtype, const void *codes, const void *scales, int64_t group, int64_t first, int64_t n, float *dst);
/* Whole matrices. Encoding picks, for each run, the scale with the smallest squared error among a few; ties of rounding go to even. */
void ot_packed_decode_all(ot_dtype dtype, const void *codes, const void *scales, int64_t group, int64_t rows, int64_t cols, float *dst);
void ot_packed_encode(ot_dtype dtype, const float *src, int64_t group, int64_t rows, int64_t cols, void *codes, void *scales);

#endif
