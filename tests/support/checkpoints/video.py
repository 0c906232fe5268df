"""Tiny random checkpoints of the families that write one frame a slot: LLaVA-NeXT-Video and SmolVLM2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GenerationConfig,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.base import Family
from stsimdiff_cli.models.loading.checkpoint import DUMMY
from tests.support.checkpoints.parts import SPECIAL, TEXT, VOCABULARY

# Vicuna's turns, as the hub's template writes them: the video first, whatever the order of the parts.
VICUNA_TEMPLATE = """{% for m in messages %}{{ m.role.upper() }}: {% for c in m.content %}\
{% if c.type == 'video' %}<video>
{% endif %}{% endfor %}{% for c in m.content %}\
{% if c.type == 'text' %}{{ c.text }} {% endif %}{% endfor %}{% endfor %}\
{% if add_generation_prompt %}ASSISTANT:{% endif %}"""
# SmolVLM2's, which knows no videos, as on the hub.
SMOL_TEMPLATE = """<|im_start|>{% for m in messages %}{{ m.role | capitalize }}\
{% if m.content[0].type == 'image' %}:{% else %}: {% endif %}{% for c in m.content %}\
{% if c.type == 'text' %}{{ c.text }}{% elif c.type == 'image' %}<image>{% endif %}{% endfor %}<end_of_utterance>
{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"""


def llava_next_video_checkpoint(folder: Path, seed: int = 0) -> Path:
    """LLaVA-NeXT-Video in small: 24-pixel frames, 6 x 6 patches and [CLS], pooled to 3 x 3; a tokenizer that begins."""
    vocabulary = _with(VOCABULARY, ["<s>", "USER", "ASSISTANT", ":"])
    config = LlavaNextVideoConfig(
        text_config={
            **TEXT,
            "model_type": "llama",
            "vocab_size": len(vocabulary),
            "bos_token_id": vocabulary["<s>"],
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        },
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "image_size": 24,
            "patch_size": 4,
            "projection_dim": 16,
            "initializer_factor": 3.0,
        },
        video_token_index=vocabulary["<video>"],
        image_token_index=vocabulary["<image>"],
        initializer_range=0.3,
    )
    torch.manual_seed(seed)
    model = LlavaNextVideoForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        bos_token_id=vocabulary["<s>"], eos_token_id=TEXT["eos_token_id"], pad_token_id=TEXT["pad_token_id"]
    )
    model.save_pretrained(folder, max_shard_size="40KB")
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in [*SPECIAL, "<s>"]])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    _save(tokenizer, folder, bos_token="<s>", eos_token="<|im_end|>", special=SPECIAL[2:])
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": VICUNA_TEMPLATE}))
    settings = {
        "crop_size": {"height": 24, "width": 24},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": 24},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


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
    model.generation_config = GenerationConfig(**special, pad_token_id=vocabulary["<|im_end|>"])
    model.save_pretrained(folder, max_shard_size="40KB")
    _save(tokenizer, folder, bos_token="<|im_start|>", eos_token="<end_of_utterance>", special=["<image>"])
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
    """A byte-level tokenizer as small language models have it: words keep the blank before them, lines may melt."""
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


def dummy_of(folder: Path, vision: dict[str, int], preprocessor: dict[str, Any], **changes: Any) -> Family:
    """The family of a checkpoint with another geometry, whose weights are made of noise when they are loaded."""
    config = json.loads((folder / "config.json").read_text()) | changes | {DUMMY: True}
    config["vision_config"] |= vision
    (folder / "config.json").write_text(json.dumps(config))
    settings = json.loads((folder / "preprocessor_config.json").read_text()) | preprocessor
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return open_family(str(folder))


def clip_of(count: int, height: int, width: int) -> torch.Tensor:
    """Frames (count, height, width, 3) uint8: a soft spot that wanders over a gradient."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    frames = []
    for t in range(count):
        disc = (-((x - 0.2 - 0.6 * t / max(count, 2)) ** 2 + (y - 0.5) ** 2) / 0.04).exp()
        frames.append(torch.stack([disc, y * (1 - disc), (x + 0.1 * t) / 2], -1))
    return (torch.stack(frames) * 255).to(torch.uint8)


def _with(vocabulary: dict[str, int], more: list[str]) -> dict[str, int]:
    """The shared vocabulary with a family's own words behind it."""
    return vocabulary | {text: len(vocabulary) + number for number, text in enumerate(more)}


def _save(tokenizer: Tokenizer, folder: Path, bos_token: str, eos_token: str, special: list[str]) -> None:
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<pad>" if "<pad>" in tokenizer.get_vocab() else "<|im_end|>",
        bos_token=bos_token,
        eos_token=eos_token,
        additional_special_tokens=special,
    ).save_pretrained(folder)
