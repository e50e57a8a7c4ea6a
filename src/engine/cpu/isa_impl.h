/* All loops of one instruction set and their table. A unit defines OT_ISA and OT_ISA_TABLE, includes this, and is done. */
#ifndef OT_ENGINE_CPU_ISA_IMPL_H
#define OT_ENGINE_CPU_ISA_IMPL_H

#include "engine/cpu/vec.h"
#include "engine/cpu/vec_math.h"
#include "engine/cpu/loops_impl.h"
#include "engine/cpu/attention_common.h"
#include "engine/cpu/thin_impl.h"
#include "engine/cpu/turn.h"

#define UNIT_BF16 0
#define UNIT_AMX 0
#define NAME(x) f32_##x
#include "engine/cpu/unit_impl.h"
#include "engine/cpu/attention_impl.h"
#if OT_ISA >= OT_ISA_AVX512
#include "engine/cpu/gemm_impl.h"
#include "engine/cpu/head_impl.h"
#endif
#undef NAME
#undef UNIT_AMX
#undef UNIT_BF16

#if OT_ISA >= OT_ISA_AVX512BF
#define UNIT_BF16 1
#define UNIT_AMX (OT_ISA == OT_ISA_AMX)
#define NAME(x) bf16_##x
#include "engine/cpu/unit_impl.h"
#include "engine/cpu/attention_impl.h"
#include "engine/cpu/head_impl.h"
#if OT_ISA == OT_ISA_AVX512BF
#include "engine/cpu/gemm_impl.h"
#else
#include "engine/cpu/amx_thin_impl.h"
#endif
#undef NAME
#undef UNIT_AMX
#undef UNIT_BF16
#endif

OT_ISA_END

const ot_cpu_kernels OT_ISA_TABLE = {
    .name = OT_ISA_NAME,
    .bf16_dot = OT_ISA >= OT_ISA_AVX512BF,
    .copy = loop_copy,
    .axpy = loop_axpy,
    .combine = loop_combine,
    .scale = loop_scale,
    .add = loop_add,
    .act = loop_act,
    .act_back = loop_act_back,
    .gate = loop_gate,
    .gate_back = loop_gate_back,
    .norm = loop_norm,
    .norm_back = loop_norm_back,
    .rope = loop_rope,
    .dropout = loop_dropout,
    .dropout_bits = loop_dropout_bits,
    .turn = turn_floats,
    .column_sum = loop_column_sum,
    .dots = loop_dots,
#if OT_ISA == OT_ISA_AMX
    .thin_prepare = thin_prepare,
    .thin_in = amx_thin_in,
    .thin_grad = amx_thin_grad,
#else
    .thin_in = thin_in,
    .thin_grad = thin_grad,
#endif
    .thin_out = thin_out,
    .softmax_loss = loop_softmax_loss,
    .softmax_loss_sums16 = loop_softmax_loss_sums16,
    .divergence = loop_divergence,
#if OT_ISA >= OT_ISA_AVX512
    .gemm_f32 = {f32_pack_a, f32_multiply},
    .head_f32 = f32_head,
#endif
#if OT_ISA == OT_ISA_AVX512BF
    .gemm_bf16 = {bf16_pack_a, bf16_multiply},
#endif
    .attention_f32 = {f32_pack, f32_forward, f32_backward},
#if OT_ISA >= OT_ISA_AVX512BF
    .head_bf16 = bf16_head,
    .attention_bf16 = {bf16_pack, bf16_forward, bf16_backward},
#endif
    .attention_few = attention_few,
    .attention_finish = attention_finish,
};

#endif
