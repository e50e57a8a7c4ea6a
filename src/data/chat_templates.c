/* The known chat templates. One of another model is an entry here; its golden comes from tools/make_chat_goldens.py.
 *
 * Marks are compared with the Jinja text in one spelling: message['content'] is written message.content, quotes are single, \n is a line
 * break, and several blanks are one. */
#include <stddef.h>

#include "data/chat.h"

#define CHATML_TURNS                                                                                                                         \
    .free_roles = true, .system = {.before = "<|im_start|>system\n", .stop = "<|im_end|>", .after = "\n"},                                    \
    .user = {.before = "<|im_start|>{role}\n", .stop = "<|im_end|>", .after = "\n"},                                                          \
    .assistant = {.before = "<|im_start|>assistant\n", .stop = "<|im_end|>", .after = "\n"}

static const ot_chat_template chatml = {
    .name = "chatml",
    .help = "<|im_start|>role ... <|im_end|>, nothing added (OpenHermes, Yi)",
    .marks = {"<|im_start|>", "message.content + '<|im_end|>"},
    .never = {"You are", "think", "bos_token", "trim", "!= 'system'", "tools"},
    CHATML_TURNS,
};

static const ot_chat_template smollm2 = {
    .name = "smollm2",
    .help = "ChatML with SmolLM2's system message where there is none",
    .marks = {"<|im_start|>", "message.content + '<|im_end|>",
              "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>"},
    .never = {"think", "tools"},
    .default_system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
    CHATML_TURNS,
};

static const ot_chat_template qwen2 = {
    .name = "qwen2",
    .help = "ChatML with Qwen2's system message where there is none",
    .marks = {"<|im_start|>", "message.content + '<|im_end|>", "<|im_start|>system\nYou are a helpful assistant.<|im_end|>"},
    .never = {"think", "tools", "vision"},
    .default_system = "You are a helpful assistant.",
    CHATML_TURNS,
};

static const ot_chat_template qwen2_5 = {
    .name = "qwen2.5",
    .help = "ChatML with Qwen2.5's system message where there is none",
    .marks = {"<|im_start|>", "message.content + '<|im_end|>",
              "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>"},
    .never = {"think", "vision"},
    .default_system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    .system = {.before = "<|im_start|>system\n", .stop = "<|im_end|>", .after = "\n"},
    .user = {.before = "<|im_start|>user\n", .stop = "<|im_end|>", .after = "\n"},
    .assistant = {.before = "<|im_start|>assistant\n", .stop = "<|im_end|>", .after = "\n"},
};

static const ot_chat_template llama3 = {
    .name = "llama3",
    .help = "Llama 3: <|start_header_id|>role<|end_header_id|> ... <|eot_id|>",
    .marks = {"<|start_header_id|>", "message.content | trim + '<|eot_id|>'"},
    .never = {"Cutting Knowledge Date", "date_string", "think", "tools"},
    .begin = "{bos}",
    .free_roles = true,
    .system = {.before = "<|start_header_id|>system<|end_header_id|>\n\n", .stop = "<|eot_id|>", .trim = true},
    .user = {.before = "<|start_header_id|>{role}<|end_header_id|>\n\n", .stop = "<|eot_id|>", .trim = true},
    .assistant = {.before = "<|start_header_id|>assistant<|end_header_id|>\n\n", .stop = "<|eot_id|>", .trim = true},
};

/* Llama 3.2's own template writes the day on which it is run; here its day is fixed, so that the same data give the same run. */
static const ot_chat_template llama3_1 = {
    .name = "llama3.1",
    .help = "Llama 3.1 to 3.3: Llama 3 with dates in front of the system message",
    .marks = {"<|start_header_id|>", "message.content | trim + '<|eot_id|>'", "Cutting Knowledge Date: December 2023",
              "date_string = '26 Jul 2024'", "set system_message = ''"},
    .never = {"think"},
    .begin = "{bos}",
    .default_system = "",
    .system_first = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n",
    .system = {.before = "<|start_header_id|>system<|end_header_id|>\n\n", .stop = "<|eot_id|>", .trim = true},
    .user = {.before = "<|start_header_id|>user<|end_header_id|>\n\n", .stop = "<|eot_id|>", .trim = true},
    .assistant = {.before = "<|start_header_id|>assistant<|end_header_id|>\n\n", .stop = "<|eot_id|>", .trim = true},
};

static const ot_chat_template llama2 = {
    .name = "llama2",
    .help = "Llama 2: [INST] <<SYS>> ... [/INST]",
    .marks = {"bos_token + '[INST] ' + content.strip() + ' [/INST]'", "'<<SYS>>\n' + system_message + '\n<</SYS>>\n\n'",
              "' ' + content.strip() + ' ' + eos_token"},
    .never = {"You are", "'Vous"},
    .system_mode = OT_CHAT_SYSTEM_IN_FIRST,
    .alternates = true,
    .trim_joined = true,
    .system = {.before = "<<SYS>>\n", .stop = "\n<</SYS>>\n\n"},
    .user = {.before = "{bos}[INST] ", .stop = " [/INST]", .trim = true},
    .assistant = {.lead = " ", .stop = " {eos}", .trim = true},
};

static const ot_chat_template mistral = {
    .name = "mistral",
    .help = "Mistral 7B Instruct v0.2: [INST] ... [/INST], no system message",
    .marks = {"'[INST] ' + message.content + ' [/INST]'", "{{ message.content + eos_token",
              "Only user and assistant roles are supported!"},
    .never = {"eos_token + ' '", "system_message"},
    .begin = "{bos}",
    .system_mode = OT_CHAT_SYSTEM_REFUSED,
    .alternates = true,
    .user = {.before = "[INST] ", .stop = " [/INST]"},
    .assistant = {.stop = "{eos}"},
};

static const ot_chat_template mistral_v1 = {
    .name = "mistral-v1",
    .help = "Mistral's later template for the same models: spaces around [INST], the system message in the first turn",
    .marks = {"' [INST] ' + system_message + '\n\n' + message.content + ' [/INST]'", "' [INST] ' + message.content + ' [/INST]'",
              "' ' + message.content + eos_token"},
    .begin = "{bos}",
    .system_mode = OT_CHAT_SYSTEM_IN_FIRST,
    .alternates = true,
    .system = {.stop = "\n\n"},
    .user = {.before = " [INST] ", .stop = " [/INST]"},
    .assistant = {.lead = " ", .stop = "{eos}"},
};

static const ot_chat_template mistral_v3 = {
    .name = "mistral-v3",
    .help = "Mistral v0.3 and Large: [INST] ...[/INST], the system message in a last user turn",
    .marks = {"[AVAILABLE_TOOLS]", "loop.last and system_message is defined", "'[INST] ' + message.content + '[/INST]'",
              "' ' + message.content|trim + eos_token"},
    .begin = "{bos}",
    .system_mode = OT_CHAT_SYSTEM_IN_LAST,
    .alternates = true,
    .system = {.stop = "\n\n"},
    .user = {.before = "[INST] ", .stop = "[/INST]"},
    .assistant = {.lead = " ", .stop = "{eos}", .trim = true},
};

static const ot_chat_template zephyr = {
    .name = "zephyr",
    .help = "Zephyr and TinyLlama: <|role|> on a line, the content, the end token",
    .marks = {"'<|user|>\n' + message.content + eos_token", "'<|system|>\n' + message.content + eos_token",
              "'<|assistant|>\n' + message.content + eos_token"},
    .never = {"strip", "trim", "bos_token"},
    .system = {.before = "<|system|>\n", .stop = "{eos}", .after = "\n"},
    .user = {.before = "<|user|>\n", .stop = "{eos}", .after = "\n"},
    .assistant = {.before = "<|assistant|>\n", .stop = "{eos}", .after = "\n"},
};

static const ot_chat_template gemma = {
    .name = "gemma",
    .help = "Gemma 1 and 2: <start_of_turn>role ... <end_of_turn>, no system message",
    .marks = {"<start_of_turn>", "message.content | trim + '<end_of_turn>\n'", "System role not supported"},
    .begin = "{bos}",
    .system_mode = OT_CHAT_SYSTEM_REFUSED,
    .alternates = true,
    .user = {.before = "<start_of_turn>user\n", .stop = "<end_of_turn>", .after = "\n", .trim = true},
    .assistant = {.before = "<start_of_turn>model\n", .stop = "<end_of_turn>", .after = "\n", .trim = true},
};

static const ot_chat_template gemma3 = {
    .name = "gemma3",
    .help = "Gemma 3: as Gemma, the system message in the first user turn",
    .marks = {"<start_of_turn>", "<end_of_turn>", "first_user_prefix = messages[0].content + '\n\n'", "message.content | trim"},
    .begin = "{bos}",
    .system_mode = OT_CHAT_SYSTEM_IN_FIRST,
    .alternates = true,
    .system = {.stop = "\n\n"},
    .user = {.before = "<start_of_turn>user\n", .stop = "<end_of_turn>", .after = "\n", .trim = true},
    .assistant = {.before = "<start_of_turn>model\n", .stop = "<end_of_turn>", .after = "\n", .trim = true},
};

static const ot_chat_template phi3 = {
    .name = "phi3",
    .help = "Phi-3 mini and Phi-3.5: <|role|> on a line ... <|end|>",
    .marks = {"'<|system|>\n' + message.content + '<|end|>\n'", "'<|user|>\n' + message.content + '<|end|>\n'",
              "'<|assistant|>\n' + message.content + '<|end|>\n'", "{{ eos_token }}"},
    .never = {"bos_token"},
    .end = "{eos}",
    .system = {.before = "<|system|>\n", .stop = "<|end|>", .after = "\n"},
    .user = {.before = "<|user|>\n", .stop = "<|end|>", .after = "\n"},
    .assistant = {.before = "<|assistant|>\n", .stop = "<|end|>", .after = "\n"},
};

const ot_chat_template *const ot_chat_templates[] = {
    &chatml, &smollm2, &qwen2, &qwen2_5, &llama3, &llama3_1, &llama2, &mistral, &mistral_v1, &mistral_v3, &zephyr, &gemma, &gemma3, &phi3, NULL,
};
