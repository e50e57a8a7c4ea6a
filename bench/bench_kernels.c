/* Speed of the CPU backend's operations at the shapes of a GPT-2-small training step, as shares of the machine's peak measured around them.
 *
 *   bench_kernels [tokens] [threads] [repetitions]
 *
 * A time is the shortest of all repetitions; every repetition runs all operations once, so that a disturbance hits them alike. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/parallel.h"
#include "engine/cpu/gemm.h"
#include "engine/cpu/kernels.h"

enum { D = 768, F = 3072, H = 12, V = 50257, LAYERS = 12, STEPS = 400000, SUMS = 16 };

/* ==== The peak: independent multiply-adds on all threads ==== */

static volatile float sink[256]; /* keeps the sums alive */

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static void peak_f32(void *context, int64_t chunk) {
    (void)context;
    __m512 s[SUMS], x = _mm512_set1_ps(0.5F), y = _mm512_set1_ps(0.25F);
    for (int i = 0; i < SUMS; i++) s[i] = _mm512_set1_ps((float)i);
    for (int n = 0; n < STEPS; n++) {
        __asm__ volatile("" : "+v"(x));
#pragma GCC unroll 16
        for (int i = 0; i < SUMS; i++) s[i] = _mm512_fmadd_ps(s[i], x, y);
    }
    for (int i = 1; i < SUMS; i++) s[0] = _mm512_add_ps(s[0], s[i]);
    sink[chunk % 256] = _mm512_reduce_add_ps(s[0]);
}

__attribute__((target("avx512f,avx512bf16"))) static void peak_bf16(void *context, int64_t chunk) {
    (void)context;
    __m512 s[SUMS], x = _mm512_setzero_ps();
    for (int i = 0; i < SUMS; i++) s[i] = _mm512_set1_ps((float)i);
    for (int n = 0; n < STEPS; n++) {
        __asm__ volatile("" : "+v"(x));
#pragma GCC unroll 16
        for (int i = 0; i < SUMS; i++) s[i] = _mm512_dpbf16_ps(s[i], (__m512bh)x, (__m512bh)x);
    }
    for (int i = 1; i < SUMS; i++) s[0] = _mm512_add_ps(s[0], s[i]);
    sink[chunk % 256] = _mm512_reduce_add_ps(s[0]);
}
#endif

/* With one thread the CPU time of the process, so that other programs matter less; with more, wall time. */
static double seconds_now(void) {
    struct timespec t;
    clock_gettime(ot_threads() == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* GFLOP/s, 0 where it cannot be measured */
static double peak(bool bf16) {
#if defined(__x86_64__)
    const ot_cpu_kernels *tables[5];
    ot_cpu_tables(tables);
    if (tables[0] == &ot_cpu_kernels_generic || tables[0] == &ot_cpu_kernels_avx2 || (bf16 && !tables[0]->bf16_dot)) return 0;
    int threads = ot_threads();
    double start = seconds_now();
    ot_parallel_for(threads, bf16 ? peak_bf16 : peak_f32, NULL);
    return (double)threads * STEPS * SUMS * (bf16 ? 64 : 32) / (seconds_now() - start) * 1e-9;
#else
    (void)bf16;
    return 0;
#endif
}

/* ==== Operations ==== */

typedef struct timed {
    const char *name;
    ot_call call;
    ot_op_attr attr;
    bool backward;
    double flops, bytes; /* bytes: for operations that are bound by memory */
    int times;           /* in a training step with all blocks trained, frozen embeddings and head */
    double best;
} timed;

enum { MAX_TIMED = 64 };
typedef struct bench {
    timed ops[MAX_TIMED];
    int n;
    ot_batch batch;
    ot_segment segment;
    size_t scratch_bytes;
    void *scratch;
    ot_dtype compute;
    int64_t tokens;
} bench;

static void *filled(int64_t n, ot_dtype dtype) {
    size_t bytes = (size_t)n * (dtype == OT_F32 ? 4 : 2);
    char *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!memory) exit(1);
    uint64_t state = 1;
    for (int64_t i = 0; i < n; i++) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        float x = ((float)(state >> 40) / 16777216.0F - 0.5F) * 0.1F;
        if (dtype == OT_F32) ((float *)(void *)memory)[i] = x;
        else ((ot_bf16 *)(void *)memory)[i] = ot_f32_to_bf16(x);
    }
    return memory;
}

static ot_view view(int64_t rows, int64_t cols, ot_dtype dtype, bool dx) {
    return (ot_view){.x = filled(rows * cols, dtype), .dx = dx ? filled(rows * cols, dtype) : NULL, .dtype = dtype, .rows = rows, .cols = cols};
}

static ot_weight weight(int64_t rows, int64_t cols, ot_dtype dtype, bool dw) {
    return (ot_weight){.w = filled(rows * cols, dtype), .dw = dw ? filled(rows * cols, OT_F32) : NULL, .dtype = dtype, .rows = rows, .cols = cols};
}

static timed *add(bench *b, const char *name, ot_op_kind kind, bool backward, int times) {
    timed *t = &b->ops[b->n++];
    *t = (timed){.name = name, .backward = backward, .times = times, .best = 1e9};
    t->call.kind = kind;
    return t;
}

static void add_linear(bench *b, const char *const names[3], int64_t in, int64_t out) {
    for (int part = 0; part < 3; part++) {
        timed *t = add(b, names[part], OT_OP_LINEAR, part > 0, LAYERS);
        t->attr.linear.transposed = true;
        t->attr.linear.scale = 1;
        t->call.in[0] = view(b->tokens, in, b->compute, part == 1);
        t->call.out = view(b->tokens, out, b->compute, true);
        t->call.w[0] = weight(in, out, b->compute, part == 2);
        t->call.w[1] = weight(1, out, OT_F32, part == 2);
        t->flops = 2.0 * (double)(b->tokens * in * out);
    }
}

static void add_attention(bench *b, bool backward) {
    timed *t = add(b, backward ? "attention backward" : "attention forward", OT_OP_ATTENTION, backward, LAYERS);
    t->attr.attention.heads = t->attr.attention.kv_heads = H;
    t->attr.attention.head_dim = D / H;
    t->attr.attention.q = (ot_head_layout){0, D / H};
    t->attr.attention.k = (ot_head_layout){D, D / H};
    t->attr.attention.v = (ot_head_layout){2 * D, D / H};
    t->attr.attention.scale = 0.125F;
    t->attr.attention.causal = true;
    t->call.in[0] = t->call.in[1] = t->call.in[2] = view(b->tokens, 3 * D, b->compute, backward);
    t->call.out = view(b->tokens, D, b->compute, backward);
    t->call.save = filled(H * b->tokens, OT_F32);
    t->flops = 2.0 * (backward ? 2.5 : 1) * (double)(b->tokens * b->tokens * D);
}

static void add_norm(bench *b, bool backward) {
    timed *t = add(b, backward ? "layer norm backward" : "layer norm forward", OT_OP_NORM, backward, 2 * LAYERS + 1);
    t->attr.norm.width = D;
    t->attr.norm.eps = 1e-5;
    t->call.in[0] = view(b->tokens, D, OT_F32, backward);
    t->call.out = view(b->tokens, D, b->compute, backward);
    t->call.w[0] = weight(1, D, OT_F32, backward);
    t->call.w[1] = weight(1, D, OT_F32, backward);
    t->call.save = filled(2 * b->tokens, OT_F32);
    int size = b->compute == OT_F32 ? 4 : 2;
    t->bytes = (double)(b->tokens * D) * (backward ? 8 + size : 4 + size);
}

static void add_act(bench *b, bool backward) {
    timed *t = add(b, backward ? "gelu (tanh) backward" : "gelu (tanh) forward", OT_OP_ACT, backward, LAYERS);
    t->attr.act.kind = OT_ACT_GELU_TANH;
    t->call.in[0] = view(b->tokens, F, b->compute, backward);
    t->call.out = view(b->tokens, F, b->compute, backward);
    t->bytes = (double)(b->tokens * F) * (b->compute == OT_F32 ? 4 : 2) * (backward ? 3 : 2);
}

static void add_residual(bench *b) {
    timed *t = add(b, "residual add", OT_OP_ADD, false, 2 * LAYERS);
    t->call.in[0] = view(b->tokens, D, OT_F32, false);
    t->call.in[1] = view(b->tokens, D, b->compute, false);
    t->call.out = view(b->tokens, D, OT_F32, false);
    t->bytes = (double)(b->tokens * D) * (8 + (b->compute == OT_F32 ? 4 : 2));
}

static void add_head(bench *b, bool train, ot_dtype stored, const char *name, int times) {
    timed *t = add(b, name, OT_OP_HEAD_LOSS, true, times);
    t->call.in[0] = view(b->tokens, D, b->compute, true);
    t->call.w[0] = weight(V, D, stored, train);
    t->flops = 2.0 * (train ? 3 : 2) * (double)b->tokens * V * D;
}

static void add_decode(bench *b, bool transposed, const char *name) {
    timed *t = add(b, name, OT_OP_LINEAR, false, 0);
    t->attr.linear.transposed = transposed;
    t->attr.linear.scale = 1;
    t->call.in[0] = view(1, D, b->compute, false);
    t->call.out = view(1, F, b->compute, false);
    t->call.w[0] = weight(transposed ? D : F, transposed ? F : D, b->compute, false);
    t->bytes = (double)D * F * (b->compute == OT_F32 ? 4 : 2);
}

static void fill(bench *b) {
    static const char *const names[4][3] = {{"q, k, v 768 to 2304: y", "q, k, v 768 to 2304: dx", "q, k, v 768 to 2304: dw"},
                                            {"projection 768 to 768: y", "projection 768 to 768: dx", "projection 768 to 768: dw"},
                                            {"mlp 768 to 3072: y", "mlp 768 to 3072: dx", "mlp 768 to 3072: dw"},
                                            {"mlp 3072 to 768: y", "mlp 3072 to 768: dx", "mlp 3072 to 768: dw"}};
    add_linear(b, names[0], D, 3 * D);
    add_linear(b, names[1], D, D);
    add_linear(b, names[2], D, F);
    add_linear(b, names[3], F, D);
    for (int backward = 0; backward < 2; backward++) {
        add_attention(b, backward);
        add_norm(b, backward);
        add_act(b, backward);
    }
    add_residual(b);
    add_head(b, false, b->compute, "head and loss, frozen", 1);
    add_head(b, true, b->compute, "head and loss, trained", 0);
    add_head(b, false, b->compute == OT_F32 ? OT_BF16 : OT_F32, "head and loss, frozen, other dtype", 0);
    add_decode(b, false, "one row, 768 to 3072");
    add_decode(b, true, "one row, 768 to 3072, transposed");
}

static void run_once(bench *b, timed *t) {
    ot_error err = {0};
    t->call.attr = &t->attr;
    t->call.err = &err;
    t->call.batch = &b->batch;
    t->call.scratch = b->scratch;
    t->call.scratch_bytes = b->scratch_bytes;
    double start = seconds_now();
    ot_status status = (t->backward ? ot_backend_cpu.backward : ot_backend_cpu.forward)[t->call.kind](&t->call);
    double seconds = seconds_now() - start;
    if (status != OT_OK) {
        fprintf(stderr, "%s: %s\n", t->name, err.message);
        exit(1);
    }
    if (seconds < t->best) t->best = seconds;
}

static double measure(bench *b, int repetitions) {
    b->segment = (ot_segment){.nq = (int32_t)b->tokens, .nk = (int32_t)b->tokens};
    int32_t *numbers = calloc((size_t)b->tokens, sizeof *numbers);
    if (!numbers) exit(1);
    for (int64_t i = 0; i < b->tokens; i++) numbers[i] = (int32_t)i;
    b->batch = (ot_batch){.rows = b->tokens, .positions = numbers, .slots = numbers, .key_slots = numbers, .segments = &b->segment,
                          .n_segments = 1, .n_targets = b->tokens, .targets = numbers, .target_rows = numbers,
                          .loss_scale = 1.0 / (double)b->tokens};
    for (int i = 0; i < b->n; i++) {
        b->ops[i].call.attr = &b->ops[i].attr;
        size_t bytes = ot_backend_cpu.scratch(&b->ops[i].call);
        if (bytes > b->scratch_bytes) b->scratch_bytes = bytes;
    }
    b->scratch = aligned_alloc(64, (b->scratch_bytes + 63) / 64 * 64);
    if (!b->scratch) exit(1);
    memset(b->scratch, 0, b->scratch_bytes);
    double top = 0;
    for (int r = 0; r < repetitions; r++) {
        for (int i = 0; i < b->n; i++) {
            double now = peak(b->compute == OT_BF16);
            if (now > top) top = now;
            run_once(b, &b->ops[i]);
            run_once(b, &b->ops[i]);
        }
    }
    free(numbers);
    return top;
}

static double report(const bench *b, double top) {
    printf("\n%s, %lld tokens, peak %.0f GFLOP/s\n%-36s %9s %9s %7s %7s\n", ot_dtype_info(b->compute)->name, (long long)b->tokens, top,
           "operation", "ms", "GFLOP/s", "share", "GB/s");
    double step = 0;
    for (int i = 0; i < b->n; i++) {
        const timed *t = &b->ops[i];
        step += t->times * t->best;
        printf("%-36s %9.3f", t->name, t->best * 1e3);
        if (t->flops > 0) printf(" %9.0f %6.0f%%\n", t->flops / t->best * 1e-9, top > 0 ? t->flops / t->best * 1e-7 / top : 0.0);
        else printf(" %9s %7s %7.1f\n", "", "", t->bytes / t->best * 1e-9);
    }
    printf("%-36s %9.1f\n", "a step of 12 blocks, without optimizer", step * 1e3);
    return step;
}

int main(int argc, char **argv) {
    int64_t tokens = argc > 1 ? strtol(argv[1], NULL, 10) : 512;
    ot_threads_set(argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0);
    int repetitions = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 10;
    if (tokens < 8 || tokens > 65536 || repetitions < 1) {
        fprintf(stderr, "usage: bench_kernels [tokens] [threads] [repetitions]\n");
        return 2;
    }
    printf("loops: %s; bf16 products: %s; %d threads\n", ot_cpu_pick()->name, ot_gemm_bf16() ? "yes" : "no, decoded to f32", ot_threads());
    static bench benches[2];
    double steps[2];
    for (int half = 0; half < 2; half++) {
        bench *b = &benches[half];
        b->compute = half ? OT_BF16 : OT_F32;
        b->tokens = tokens;
        fill(b);
        steps[half] = report(b, measure(b, repetitions));
    }
    printf("\nbf16 step %.2f times as fast\n", steps[0] / steps[1]);
    return 0;
}
