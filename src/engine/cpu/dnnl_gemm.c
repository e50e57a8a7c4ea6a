/* All of oneDNN that is used: one matrix product by its C API, 2.x (Debian 12) or 3.x, and its older interface to products of floats. Primitives are made for each call; the library keeps the compiled
 * code of a shape in its own cache, which makes that cost about 20 microseconds and needs no state here. */
#include <dnnl.h>
#include <stdio.h>

#include "engine/cpu/gemm.h"

/* The library's levels are sets of bits, each level holding those below it. */
static bool reaches(dnnl_cpu_isa_t level) { return ((unsigned)dnnl_get_effective_cpu_isa() & (unsigned)level) == (unsigned)level; }

bool ot_dnnl_has_bf16(void) { return reaches(dnnl_cpu_isa_avx512_core_bf16); }

bool ot_dnnl_has_avx512(void) { return reaches(dnnl_cpu_isa_avx512_core); }

bool ot_dnnl_has_amx(void) { return reaches(dnnl_cpu_isa_avx512_core_amx); }

typedef struct objects {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t post_ops;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c, bias;
    dnnl_memory_desc_t shapes[4]; /* of a, b, c and the bias */
} objects;

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        dnnl_status_t try_status = (call);                                                                             \
        if (try_status != dnnl_success) return try_status;                                                             \
    } while (0)

static dnnl_data_type_t type_of(ot_dtype dtype) { return dtype == OT_BF16 ? dnnl_bf16 : dnnl_f32; }

#if DNNL_VERSION_MAJOR >= 3
static dnnl_status_t describe_strides(dnnl_memory_desc_t *out, const dnnl_dims_t dims, dnnl_data_type_t type, const dnnl_dims_t strides) {
    return dnnl_memory_desc_create_with_strides(out, 2, dims, type, strides);
}

/* alpha x product + (accumulate) what was there. */
static dnnl_status_t set_scaling(const ot_gemm *g, objects *o) {
    TRY(dnnl_post_ops_create(&o->post_ops));
    if (g->alpha != 1.0f) TRY(dnnl_post_ops_append_eltwise(o->post_ops, dnnl_eltwise_linear, g->alpha, 0.0f));
    if (g->accumulate) TRY(dnnl_post_ops_append_sum(o->post_ops, 1.0f, 0, dnnl_data_type_undef));
    return dnnl_primitive_attr_set_post_ops(o->attr, o->post_ops);
}

static dnnl_status_t make_product(const ot_gemm *g, objects *o) {
    dnnl_memory_desc_t *const shapes = o->shapes;
    return dnnl_matmul_primitive_desc_create(&o->desc, o->engine, shapes[0], shapes[1], g->bias ? shapes[3] : NULL, shapes[2], o->attr);
}

/* The description to make a memory from: an object of its own that the caller destroys. */
#define SHAPE(o, index) ((o)->shapes[index])

static void release_shapes(objects *o) {
    for (int i = 0; i < 4; i++)
        if (o->shapes[i]) dnnl_memory_desc_destroy(o->shapes[i]);
}
#else
static dnnl_status_t describe_strides(dnnl_memory_desc_t *out, const dnnl_dims_t dims, dnnl_data_type_t type, const dnnl_dims_t strides) {
    return dnnl_memory_desc_init_by_strides(out, 2, dims, type, strides);
}

static dnnl_status_t set_scaling(const ot_gemm *g, objects *o) {
    if (g->alpha != 1.0f) TRY(dnnl_primitive_attr_set_output_scales(o->attr, 1, 0, &g->alpha));
    if (!g->accumulate) return dnnl_success;
    TRY(dnnl_post_ops_create(&o->post_ops));
    TRY(dnnl_post_ops_append_sum(o->post_ops, 1.0f));
    return dnnl_primitive_attr_set_post_ops(o->attr, o->post_ops);
}

static dnnl_status_t make_product(const ot_gemm *g, objects *o) {
    dnnl_matmul_desc_t matmul;
    TRY(dnnl_matmul_desc_init(&matmul, &o->shapes[0], &o->shapes[1], g->bias ? &o->shapes[3] : NULL, &o->shapes[2]));
    return dnnl_primitive_desc_create(&o->desc, &matmul, o->attr, o->engine, NULL);
}

#define SHAPE(o, index) (&(o)->shapes[index])

static void release_shapes(objects *o) { (void)o; } /* plain values in 2.x */
#endif

/* Logical [rows, cols] of a matrix that lies with its row stride, or turned. */
static dnnl_status_t describe(dnnl_memory_desc_t *out, int64_t rows, int64_t cols, ot_dtype dtype, int64_t stride, bool turned) {
    const dnnl_dims_t dims = {rows, cols}, strides = {turned ? 1 : stride, turned ? stride : 1};
    return describe_strides(out, dims, type_of(dtype), strides);
}

static dnnl_status_t multiply(const ot_gemm *g, objects *o) {
    const dnnl_dims_t bias_dims = {1, g->n}, bias_strides = {g->n, 1};
    TRY(describe(&o->shapes[0], g->m, g->k, g->type, g->lda, g->ta));
    TRY(describe(&o->shapes[1], g->k, g->n, g->type, g->ldb, g->tb));
    TRY(describe(&o->shapes[2], g->m, g->n, g->c_type, g->ldc, false));
    TRY(describe_strides(&o->shapes[3], bias_dims, dnnl_f32, bias_strides));
    TRY(dnnl_engine_create(&o->engine, dnnl_cpu, 0));
    TRY(dnnl_stream_create(&o->stream, o->engine, dnnl_stream_default_flags));
    TRY(dnnl_primitive_attr_create(&o->attr));
    TRY(set_scaling(g, o));
    TRY(make_product(g, o));
    TRY(dnnl_primitive_create(&o->primitive, o->desc));
    TRY(dnnl_memory_create(&o->a, SHAPE(o, 0), o->engine, (void *)(uintptr_t)g->a));
    TRY(dnnl_memory_create(&o->b, SHAPE(o, 1), o->engine, (void *)(uintptr_t)g->b));
    TRY(dnnl_memory_create(&o->c, SHAPE(o, 2), o->engine, g->c));
    if (g->bias) TRY(dnnl_memory_create(&o->bias, SHAPE(o, 3), o->engine, (void *)(uintptr_t)g->bias));
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, o->a}, {DNNL_ARG_WEIGHTS, o->b}, {DNNL_ARG_DST, o->c}, {DNNL_ARG_BIAS, o->bias}};
    TRY(dnnl_primitive_execute(o->primitive, o->stream, g->bias ? 4 : 3, args));
    return dnnl_stream_wait(o->stream);
}

/* oneDNN accepts no NULL where there is nothing to destroy. */
#define RELEASE(kind, object)                                                                                          \
    do {                                                                                                               \
        if (object) dnnl_##kind##_destroy(object);                                                                     \
    } while (0)

ot_status ot_dnnl_gemm(const ot_gemm *g, ot_error *err) {
    objects o = {0};
    dnnl_status_t status = multiply(g, &o);
    RELEASE(memory, o.bias);
    RELEASE(memory, o.c);
    RELEASE(memory, o.b);
    RELEASE(memory, o.a);
    release_shapes(&o);
    RELEASE(primitive, o.primitive);
    RELEASE(primitive_desc, o.desc);
    RELEASE(post_ops, o.post_ops);
    RELEASE(primitive_attr, o.attr);
    RELEASE(stream, o.stream);
    RELEASE(engine, o.engine);
    return status == dnnl_success ? OT_OK : ot_dnnl_failed(g, (int)status, err);
}

int ot_dnnl_sgemm(const ot_gemm *g) {
    return dnnl_sgemm(g->ta ? 'T' : 'N', g->tb ? 'T' : 'N', g->m, g->n, g->k, g->alpha, g->a, g->lda, g->b, g->ldb, g->accumulate ? 1.0F : 0.0F, g->c, g->ldc);
}

ot_status ot_dnnl_failed(const ot_gemm *g, int status, ot_error *err) {
    return ot_fail(err, OT_ERR_LIBRARY, "oneDNN could not multiply %lld x %lld by %lld x %lld (%s): its status is %d", (long long)g->m,
                   (long long)g->k, (long long)g->k, (long long)g->n, ot_dtype_info(g->type)->name, status);
}

void ot_gemm_onednn_version(char *text, size_t size) {
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, size, "%d.%d.%d", v->major, v->minor, v->patch);
}
