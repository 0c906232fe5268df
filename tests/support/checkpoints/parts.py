"""What tiny checkpoints of several families share: a vocabulary, turns of a chat, the size of the text part."""

from __future__ import annotations

SPECIAL = ["<unk>", "<pad>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<video>", "<image>"]
WORDS = [
    "user",
    "assistant",
    "what",
    "happens",
    "in",
    "this",
    "video",
    "?",
    "how",
    "many",
    *(f"w{i}" for i in range(80)),
]
VOCABULARY = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
QUESTIONS = ["what happens in this video ?", "how many w3 ?", "w7 w1 w2 w40"]

TURNS = """{% for m in messages %}<|im_start|>{{ m.role }}
{% for c in m.content %}{% if c.type == 'video' %}VIDEO{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
TEXT = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.3,  # large, so that a random model's answers depend on what it sees
    "bos_token_id": None,
    "eos_token_id": VOCABULARY["<|im_end|>"],
    "pad_token_id": VOCABULARY["<pad>"],
}
