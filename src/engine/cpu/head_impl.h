/* Head and loss with a frozen head as attention: the rows of W are keys and values at once, so softmax(x . W^T) . W, from which the
 * gradient follows, is summed over blocks of the vocabulary with running maximum and sum, and no logits are kept. Included once for
 * floats and once for pairs of bf16, after attention_impl.h, whose products and softmax serve here too. No include guard on purpose. */

/* Rows [v, v + n) of W: in place, or brought into part->w [n padded][dp] with zeros around. */
static const NAME(element) * NAME(head_rows)(const ot_head_job *job, const ot_head_part *part, int64_t v, int64_t n, int64_t padded) {
    int64_t dp = ot_attention_padded_d(job->D);
    if (job->in_place && n == padded) return (const NAME(element) *)job->w->w + v * job->D;
    NAME(element) *rows = (NAME(element) *)part->w;
    ot_span to = {rows, UNIT_BF16 ? OT_BF16 : OT_F32};
    for (int64_t i = 0; i < padded; i++) {
        if (i < n) job->decode_row(job->w, v + i, ot_span_at(to, i * dp));
        int64_t filled = i < n ? job->D : 0;
        memset(rows + i * dp + filled, 0, (size_t)(dp - filled) * sizeof *rows);
    }
    return rows;
}

/* x of tokens [first, first + TILE) as [units of dp][TILE] */
static void NAME(head_tokens)(const ot_head_job *job, int64_t first, int64_t end, void *turned) {
    enum { STRIP = 4 };
    int64_t dp = ot_attention_padded_d(job->D);
    int tokens = (int)(end - first < TILE ? end - first : TILE), lanes = NAME(lanes_of)(tokens);
    NAME(element) rows[STRIP * OT_HEAD_PIECE];
    for (int64_t i = 0; i < lanes; i += STRIP) {
        for (int64_t c = 0; c < dp; c += OT_HEAD_PIECE) {
            int64_t width = dp - c < OT_HEAD_PIECE ? dp - c : OT_HEAD_PIECE, n = job->D - c < width ? job->D - c : width;
            memset(rows, 0, sizeof rows);
            for (int64_t r = 0; r < STRIP && i + r < tokens; r++)
                NAME(load_row)(ot_span_at(job->x, (first + i + r) * job->D + c), rows + r * width, n, width);
            turn_units(rows, width / NAME(UNITS), (char *)turned + (c / NAME(UNITS) * TILE + i) * 4, TILE, STRIP, width / NAME(UNITS));
        }
    }
}

/* The scores of a block: bias, rows past the vocabulary, and the targets' own scores. */
static void NAME(head_scores)(const ot_head_job *job, const ot_head_part *part, int64_t v, int64_t n, int64_t padded, int64_t tile,
                              int64_t tokens, float *scores) {
    if (job->bias)
        for (int64_t i = 0; i < n; i++)
            for (int l = 0; l < TILE; l += LANES) vf_store(scores + i * TILE + l, vf_load(scores + i * TILE + l) + vf_set(job->bias[v + i]));
    for (int64_t i = n; i < padded; i++)
        for (int l = 0; l < TILE; l += LANES) vf_store(scores + i * TILE + l, vf_set(-INFINITY));
    for (int64_t t = 0; t < tokens; t++) {
        int64_t i = job->targets[part->first + tile * TILE + t] - v;
        if (i >= 0 && i < n) part->at_target[tile * TILE + t] = scores[i * TILE + t];
    }
}

#if !UNIT_BF16
/* The sums of exponentials alone, those of vocabulary rows v, v + 16, ... in one float after another: sum [16][OT_HEAD_TOKENS]. The block begins at
 * a multiple of 16. Terms are relative to the maximum so far, which loses the same small ones as if it were the last. */
static void NAME(head_sums16)(const float *scores, int rows, int lanes, float *top, float *sum) {
    enum { SUMS = 16 };
    for (int l = 0; l < lanes; l += LANES) {
        vf a = vf_set(-INFINITY), b = a, old = vf_load(top + l), s[SUMS];
        for (int j = 0; j < rows; j += 2) {
            a = vf_max(a, vf_load(scores + j * TILE + l));
            b = vf_max(b, vf_load(scores + (j + 1) * TILE + l));
        }
        vf m = vf_max(old, vf_max(a, b)), k = vf_exp(old - m);
        for (int i = 0; i < SUMS; i++) s[i] = vf_load(sum + i * OT_HEAD_TOKENS + l) * k;
        for (int j = 0; j < rows; j += SUMS) {
            for (int i = 0; i < SUMS; i++) s[i] += vf_exp(vf_load(scores + (j + i) * TILE + l) - m);
        }
        vf_store(top + l, m);
        for (int i = 0; i < SUMS; i++) vf_store(sum + i * OT_HEAD_TOKENS + l, s[i]);
    }
}
#endif

/* y [lanes][dp] += weights [padded / UNITS][TILE] turned . values [padded / UNITS][dp], after its rows were multiplied by `keep` */
static void NAME(head_sums)(const void *weights, const void *values, float *y, int lanes, int64_t dp, int64_t padded, const float *keep) {
#if UNIT_AMX
    __attribute__((aligned(64))) uint32_t rows[TILE * OT_HEAD_BLOCK / 2];
    turn_units(weights, TILE, rows, OT_HEAD_BLOCK / 2, padded / 2, lanes);
    for (int l = 0; l < lanes; l++) {
        ot_span row = {y + l * dp, OT_F32};
        if (keep[l] != 1.0f) loop_scale(keep[l], row, row, dp); /* seldom: the maximum is soon found */
    }
    NAME(rows_product)(rows, OT_HEAD_BLOCK / 2, values, dp, y, dp, lanes, dp, padded / 2, true);
#else
    NAME(product)(weights, 1, TILE, values, dp, y, dp, lanes, dp, padded / NAME(UNITS), true, keep);
#endif
}

/* top, sum, at_target [tokens] and, with gradients, y [tokens][dp] = sum of e^(score - top) * W[v], for one part of tokens and vocabulary. */
static void NAME(head)(const ot_head_job *job, const ot_head_part *part) {
    int64_t dp = ot_attention_padded_d(job->D), units = dp / NAME(UNITS), tiles = (part->tokens + TILE - 1) / TILE;
    __attribute__((aligned(64))) float scores[OT_HEAD_BLOCK * TILE], keep[TILE];
#if UNIT_BF16
    __attribute__((aligned(64))) uint32_t pairs[OT_HEAD_BLOCK / 2 * TILE];
    const void *weights = pairs;
#else
    const void *weights = scores;
    void *pairs = NULL;
#endif
    int lanes[OT_HEAD_TOKENS / TILE];
    for (int64_t t = 0; t < tiles; t++) {
        lanes[t] = NAME(lanes_of)(part->tokens - t * TILE < TILE ? part->tokens - t * TILE : TILE);
        NAME(head_tokens)(job, part->first + t * TILE, part->first + part->tokens, part->x + t * TILE * units * 4);
    }
    for (int64_t t = 0; t < tiles * TILE; t++) {
        part->top[t] = -INFINITY;
        part->sum[t] = part->at_target[t] = 0.0f;
    }
    if (job->sums16) memset(part->sum, 0, 16 * OT_HEAD_TOKENS * sizeof *part->sum);
    NAME(begin)();
    if (job->gradients) memset(part->y, 0, (size_t)(tiles * TILE * dp) * sizeof *part->y);
    for (int64_t v = part->v0; v < part->v1; v += OT_HEAD_BLOCK) {
        int64_t n = part->v1 - v < OT_HEAD_BLOCK ? part->v1 - v : OT_HEAD_BLOCK, padded = (n + 15) / 16 * 16;
        const NAME(element) *w = NAME(head_rows)(job, part, v, n, padded);
#if UNIT_BF16
        const void *values = part->w_pairs;
        for (int64_t i = 0; job->gradients && i < padded; i += 2)
            NAME(pair_rows)(w + i * dp, w + (i + 1) * dp, (uint32_t *)(void *)part->w_pairs + i / 2 * dp, dp);
#else
        const void *values = w;
#endif
        for (int64_t t = 0; t < tiles; t++) {
            int64_t tokens = part->tokens - t * TILE < TILE ? part->tokens - t * TILE : TILE;
            NAME(rows_product)(w, units, part->x + t * TILE * units * 4, TILE, scores, TILE, padded, lanes[t], units, false);
            NAME(head_scores)(job, part, v, n, padded, t, tokens, scores);
#if !UNIT_BF16
            if (job->sums16) {
                NAME(head_sums16)(scores, (int)padded, lanes[t], part->top + t * TILE, part->sum + t * TILE);
                continue;
            }
#endif
            NAME(online_softmax)(scores, (int)padded, lanes[t], 1.0f, part->top + t * TILE, part->sum + t * TILE, keep, pairs);
            if (job->gradients) NAME(head_sums)(weights, values, part->y + t * TILE * dp, lanes[t], dp, padded, keep);
        }
    }
    NAME(end)();
}
