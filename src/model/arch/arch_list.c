/* The list of architectures: a new one is one file in this folder and one line here. */
#include <stddef.h>

#include "model/arch/archs.h"

const ot_arch *const ot_archs[] = {&ot_arch_gpt2, &ot_arch_opt,   &ot_arch_bloom, &ot_arch_llama,
                                   &ot_arch_mistral, &ot_arch_qwen2, &ot_arch_qwen3, &ot_arch_vit,   &ot_arch_clip, &ot_arch_eva, NULL};
