/* Products of bf16 by AMX: eight tiles of up to 16 rows of 64 bytes; an instruction multiplies two and adds to a third. Included by attention_impl.h
 * with UNIT_AMX 1. A thread configures its tiles before its first product and gives them back after the last. */

/* Sums of two by two tiles, their operands, and the operands of the last half of a tile's depth. */
enum { AMX_SUM, AMX_LEFT = 4, AMX_RIGHT, AMX_LEFT_HALF, AMX_RIGHT_HALF, AMX_TILES };

static void amx_begin(void) {
    struct {
        uint8_t palette, start, zero[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shapes = {.palette = 1};
    for (int i = 0; i < AMX_TILES; i++) {
        shapes.bytes[i] = i == AMX_LEFT_HALF ? 32 : 64;
        shapes.rows[i] = i == AMX_RIGHT_HALF ? 8 : 16;
    }
    _tile_loadconfig(&shapes);
}

static void amx_end(void) { _tile_release(); }

/* Up to two by two tiles of C. Tiles are named by number in the instruction, so that loops are written out; strides in bytes. */
VEC_INLINE void amx_block(const char *a, int64_t a_row, const char *b, int64_t b_row, float *c, int64_t c_row, int64_t depth, bool add, const bool low,
                          const bool right) {
    char *first = (char *)c, *second = first + 16 * c_row;
    if (add) {
        _tile_loadd(0, first, c_row);
        if (right) _tile_loadd(1, first + 64, c_row);
        if (low) _tile_loadd(2, second, c_row);
        if (low && right) _tile_loadd(3, second + 64, c_row);
    } else {
        _tile_zero(0);
        if (right) _tile_zero(1);
        if (low) _tile_zero(2);
        if (low && right) _tile_zero(3);
    }
    for (int64_t k = 0; k + 16 <= depth; k += 16, a += 64, b += 16 * b_row) {
        _tile_loadd(4, a, a_row);
        _tile_loadd(5, b, b_row);
        _tile_dpbf16ps(0, 4, 5);
        if (right) {
            _tile_loadd(5, b + 64, b_row);
            _tile_dpbf16ps(1, 4, 5);
        }
        if (!low) continue;
        _tile_loadd(4, a + 16 * a_row, a_row);
        if (right) {
            _tile_dpbf16ps(3, 4, 5);
            _tile_loadd(5, b, b_row);
        }
        _tile_dpbf16ps(2, 4, 5);
    }
    if (depth % 16 != 0) {
        _tile_loadd(6, a, a_row);
        _tile_loadd(7, b, b_row);
        _tile_dpbf16ps(0, 6, 7);
        if (low) {
            _tile_loadd(6, a + 16 * a_row, a_row);
            _tile_dpbf16ps(2, 6, 7);
        }
        if (right) {
            _tile_loadd(7, b + 64, b_row);
            if (low) _tile_dpbf16ps(3, 6, 7);
            _tile_loadd(6, a, a_row);
            _tile_dpbf16ps(1, 6, 7);
        }
    }
    _tile_stored(0, first, c_row);
    if (right) _tile_stored(1, first + 64, c_row);
    if (low) _tile_stored(2, second, c_row);
    if (low && right) _tile_stored(3, second + 64, c_row);
}

/* C [m, n] (+)= A . B over `depth` units; strides in units (C: floats); m and n multiples of 16, depth of 8. */
static void amx_product(const void *a, int64_t a_row, const void *b, int64_t ldb, float *c, int64_t ldc, int64_t m, int64_t n, int64_t depth, bool add) {
    __asm__ volatile("" ::: "memory"); /* the instructions do not tell the compiler what they read */
    for (int64_t i = 0; i < m; i += 32) {
        for (int64_t j = 0; j < n; j += 32) {
            const char *left = (const char *)a + i * a_row * 4, *right = (const char *)b + j * 4;
            float *to = c + i * ldc + j;
            if (m - i > 16 && n - j > 16) amx_block(left, a_row * 4, right, ldb * 4, to, ldc * 4, depth, add, true, true);
            else if (m - i > 16) amx_block(left, a_row * 4, right, ldb * 4, to, ldc * 4, depth, add, true, false);
            else if (n - j > 16) amx_block(left, a_row * 4, right, ldb * 4, to, ldc * 4, depth, add, false, true);
            else amx_block(left, a_row * 4, right, ldb * 4, to, ldc * 4, depth, add, false, false);
        }
    }
    __asm__ volatile("" ::: "memory");
}
