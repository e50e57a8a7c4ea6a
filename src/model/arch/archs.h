#ifndef OT_MODEL_ARCH_ARCHS_H
#define OT_MODEL_ARCH_ARCHS_H

#include "model/desc.h"

extern const ot_arch ot_arch_gpt2, ot_arch_opt, ot_arch_bloom, ot_arch_llama, ot_arch_mistral, ot_arch_qwen2, ot_arch_qwen3, ot_arch_vit,
    ot_arch_clip, ot_arch_eva;

#endif
