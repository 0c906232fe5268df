"""A tiny random checkpoint of SmolVLM2, in the layout in which it is published."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

from tests.support.checkpoints.parts import TEXT, save_model, save_tokenizer

# SmolVLM2's template as published, which does not know videos.
SMOL_TEMPLATE = """<|im_start|>{% for m in messages %}{{ m.role | capitalize }}\
{% if m.content[0].type == 'image' %}:{% else %}: {% endif %}{% for c in m.content %}\
{% if c.type == 'text' %}{{ c.text }}{% elif c.type == 'image' %}<image>{% endif %}{% endfor %}<end_of_utterance>
{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"""


def smolvlm_checkpoint(folder: Path, seed: int = 0) -> Path:
    """SmolVLM2 in small: 24-pixel squares, 6 x 6 patches shuffled into 3 x 3, and a tokenizer that reads bytes."""
    tokenizer, vocabulary = _byte_tokenizer()
    special = {"bos_token_id": vocabulary["<|im_start|>"], "eos_token_id": vocabulary["<end_of_utterance>"]}
    config = SmolVLMConfig(
        text_config={
            **TEXT,
            **special,
            "model_type": "llama",
            "vocab_size": len(vocabulary),
            "pad_token_id": vocabulary["<|im_end|>"],
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 24,
            "patch_size": 4,
            "initializer_range": 0.3,
        },
        image_token_id=vocabulary["<image>"],
        scale_factor=2,
        initializer_range=0.3,
    )
    torch.manual_seed(seed)
    model = SmolVLMForConditionalGeneration(config)
    save_model(model, folder, **special, pad_token_id=vocabulary["<|im_end|>"])
    names = {"bos_token": "<|im_start|>", "eos_token": "<end_of_utterance>", "pad_token": "<|im_end|>"}
    save_tokenizer(folder, tokenizer, ["<image>"], **names)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": SMOL_TEMPLATE}))
    settings = {
        "do_convert_rgb": True,
        "do_image_splitting": True,
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "max_image_size": {"longest_edge": 24},
        "resample": 1,
        "rescale_factor": 1 / 255,
        "size": {"longest_edge": 96},
        "video_sampling": {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": 24}},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    (folder / "processor_config.json").write_text(
        json.dumps({"image_seq_len": 9, "processor_class": "SmolVLMProcessor"})
    )
    return folder


def _byte_tokenizer() -> tuple[Tokenizer, dict[str, int]]:
    """A byte-level tokenizer like those of small LLMs: words keep the space before them, line ends may merge."""
    words = [
        "You are provided the following series of",
        " frames from a",
        " [H:MM:SS] video",
        "Frame from",
        "User: You",
    ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<unk>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*words * 5, *["\n\n\n \n"] * 20], trainer)
    for text in ("<fake_token_around_image>", "<global-img>", "<image>", "<end_of_utterance>"):
        tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False)])
    return tokenizer, tokenizer.get_vocab()
