"""Published configurations, written from sizes: one small function for each format of a checkpoint.

A preset is data: the entries of a checkpoint's config.json, the settings of its frames, and as much of its tokenizer
and chat template as a prompt needs. Qwen's own formats are in published_qwen.py, the sizes in presets.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A published configuration, and what its prompts and frames need."""

    checkpoint: str  # where the configuration was published
    tokens: str  # what its tokens are, in words
    config: dict[str, Any]  # config.json
    settings: dict[str, dict[str, Any]]  # preprocessing: file name -> content
    special: dict[str, int]  # special tokens; the one with id 0, if any, stands for unknown words
    end: str  # the one that ends an answer
    template: str  # chat template; empty where the family writes the whole prompt

    @property
    def summary(self) -> str:
        """One line for users."""
        return f"{self.checkpoint}: {self.tokens}"


# --- parts ----------------------------------------------------------------------------------------------------------


def llm(hidden: int, mlp: int, layers: int, heads: int, kv: int, vocabulary: int, tied: bool) -> dict[str, Any]:
    """The sizes of an LLM; tied if word table and head are one."""
    return {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
    }


def encoder(hidden: int, mlp: int, layers: int, heads: int, image: int, patch: int) -> dict[str, Any]:
    """The sizes of a vision encoder for squares of `image` pixels."""
    return {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "image_size": image,
        "patch_size": patch,
    }


def rope(theta: float, kind: str = "default", **more: Any) -> dict[str, Any]:
    """Rotary positions of an LLM."""
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **more}}


def frames(statistics: tuple[list[float], list[float]], **more: Any) -> dict[str, Any]:
    """Preprocessing of frames: bicubic resizing unless `more` says otherwise, and a mean and deviation per channel."""
    mean, std = statistics
    rescaled = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "resample": 3}
    return {**rescaled, "image_mean": mean, "image_std": std, **more}


def chatml(video: str) -> str:
    """Qwen's chat template without system prompt; `video` is what it writes for one."""
    return (
        "{%- for message in messages -%}{{ '<|im_start|>' + message['role'] + '\\n' }}"
        "{%- for part in message['content'] -%}"
        f"{{{{ '{video}' if part['type'] == 'video' else part['text'] }}}}"
        "{%- endfor -%}{{ '<|im_end|>\\n' }}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
    )


CHATML = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}
QWEN = {"rms_norm_eps": 1e-06, "use_sliding_window": False, "bos_token_id": 151643, "eos_token_id": 151645}
HALF = ([0.5] * 3, [0.5] * 3)
CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])

# --- formats --------------------------------------------------------------------------------------------------------


def llava_video(checkpoint: str, text: dict[str, Any]) -> Preset:
    """LLaVA-Video's authors' own config.json: the LLM's entries at the top level, SigLIP by its name only."""
    config = {
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": "llava",
        **QWEN,
        **text,
        "max_position_embeddings": 32768,
        "rope_theta": 1000000.0,
        "rope_scaling": {"type": "linear", "factor": 2.0},
        "image_token_index": 151646,
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "mm_projector_type": "mlp2x_gelu",
        "mm_newline_position": "grid",
        "mm_spatial_pool_mode": "bilinear",
        "mm_spatial_pool_stride": 2,
        "add_faster_video": False,
        "add_time_instruction": True,
    }
    tokens = "14 x 15 tokens a frame, the last column newlines; frame times in words"
    return Preset(checkpoint, tokens, config, {}, CHATML, "<|im_end|>", "")


def nvila(checkpoint: str, projector: str, pool: list[int], text: dict[str, Any]) -> Preset:
    """NVILA's authors' own config.json, with the configurations of the three parts in it.

    Put together from the training script of NVILA-8B-Video (tower, projector, video encoder) and the config.json of
    NVILA-8B; the newline behind a slot is no word of the dummy's tokenizer.
    """
    siglip = encoder(1152, 4304, 27, 16, image=448, patch=14)
    config = {
        "architectures": ["LlavaLlamaModel"],
        "model_type": "llava_llama",
        "llm_cfg": {"model_type": "qwen2", "max_position_embeddings": 32768, **QWEN, **rope(1e6), **text},
        "vision_tower_cfg": {"model_type": "siglip_vision_model", **siglip},
        "mm_projector_cfg": {"mm_projector_type": projector},
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "cls_patch",
        "image_aspect_ratio": "resize",
        "video_encoder": {"_target_": "llava.model.encoders.TSPVideoEncoder", "pool_sizes": [pool]},
        "chat_template": "qwen2",
    }
    settings = {"vision_tower/preprocessor_config.json": frames(HALF, size={"height": 448, "width": 448})}
    special = CHATML | {"<vila/video>": 151650}
    tokens = f"16 x 16 tokens, the mean of {pool[0]} frames"
    return Preset(checkpoint, tokens, config, settings, special, "<|im_end|>", "")


def llava_onevision(checkpoint: str, text: dict[str, Any]) -> Preset:
    """SigLIP so400m at 384 pixels without its last layer, and a Qwen2."""
    siglip = encoder(1152, 4304, 26, 16, image=384, patch=14)
    config = {
        "architectures": ["LlavaOnevisionForConditionalGeneration"],
        "model_type": "llava_onevision",
        "image_token_index": 151646,
        "video_token_index": 151647,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "tie_word_embeddings": text["tie_word_embeddings"],
        "vision_config": {"model_type": "siglip_vision_model", "vision_use_head": False, **siglip},
        "text_config": {"model_type": "qwen2", "max_position_embeddings": 32768, **QWEN, **rope(1e6), **text},
    }
    settings = {"preprocessor_config.json": frames(HALF, size={"height": 384, "width": 384})}
    special = CHATML | {"<image>": 151646, "<video>": 151647}
    tokens = "14 x 14 tokens a frame"
    return Preset(checkpoint, tokens, config, settings, special, "<|im_end|>", chatml("<video>\\n"))


def internvl(checkpoint: str, text: dict[str, Any]) -> Preset:
    """InternViT-300M at 448 pixels and a Qwen2.5, as InternVL3's conversion to transformers' classes writes them."""
    intern_vit = encoder(1024, 4096, 24, 16, image=448, patch=14)
    positions = rope(1e6, "dynamic", factor=2.0)
    config = {
        "architectures": ["InternVLForConditionalGeneration"],
        "model_type": "internvl",
        "image_token_id": 151667,
        "image_seq_length": 256,
        "downsample_ratio": 0.5,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": text["tie_word_embeddings"],
        "vision_config": {"model_type": "internvl_vision", "attention_bias": True, **intern_vit},
        "text_config": {"model_type": "qwen2", "max_position_embeddings": 32768, **QWEN, **positions, **text},
    }
    settings = {"preprocessor_config.json": frames(IMAGENET, size={"height": 448, "width": 448})}
    special = CHATML | {"<img>": 151665, "</img>": 151666, "<IMG_CONTEXT>": 151667}
    tokens = "16 x 16 tokens a frame, its number in words before it"
    return Preset(checkpoint, tokens, config, settings, special, "<|im_end|>", chatml("<video>\\n"))


def smolvlm(checkpoint: str, theta: float, scale: int, vision: dict[str, Any], text: dict[str, Any]) -> Preset:
    """SmolVLM2: SigLIP, of whose patches `scale` x `scale` are one token, and a SmolLM2 with a head of its own."""
    image, patch = vision["image_size"], vision["patch_size"]
    side = image // patch // scale
    config = {
        "architectures": ["SmolVLMForConditionalGeneration"],
        "model_type": "smolvlm",
        "image_token_id": 49190,
        "scale_factor": scale,
        "tie_word_embeddings": text["tie_word_embeddings"],
        "vision_config": {"model_type": "smolvlm_vision", **vision},
        "text_config": {
            "model_type": "llama",
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-05,
            "head_dim": 64,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
            **rope(theta),
            **text,
        },
    }
    sizes = {"size": {"longest_edge": 4 * image}, "max_image_size": {"longest_edge": image}}
    settings = {"preprocessor_config.json": frames(HALF, **sizes, resample=1)}
    tokens = f"{side} x {side} tokens a frame, its time in words before it"
    return Preset(checkpoint, tokens, config, settings, _SMOL, "<end_of_utterance>", _SMOL_TEMPLATE)


_SMOL = {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2, "<global-img>": 49152}
_SMOL |= {"<fake_token_around_image>": 49189, "<image>": 49190, "<end_of_utterance>": 49279}
#: It knows no videos: SmolVLM2's processor, and so the family, gives it one as a text.
_SMOL_TEMPLATE = (
    "<|im_start|>{%- for message in messages -%}{{ message['role'] | capitalize + ': ' }}"
    "{%- for part in message['content'] -%}{{ part['text'] }}{%- endfor -%}{{ '<end_of_utterance>\\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ 'Assistant:' }}{%- endif -%}"
)
