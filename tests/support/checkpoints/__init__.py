"""Tiny random checkpoints in the published layouts: one file a family, and the table from which tests take them all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stsimdiff_cli.models import FAMILIES
from tests.support.checkpoints.gemma4 import gemma4_checkpoint
from tests.support.checkpoints.glm4v import glm4v_checkpoint, glm4v_moe_checkpoint, glm46v_checkpoint
from tests.support.checkpoints.internvl import internvl_checkpoint
from tests.support.checkpoints.llava_next_video import llava_next_video_checkpoint
from tests.support.checkpoints.llava_onevision import llava_onevision_checkpoint
from tests.support.checkpoints.llava_video import llava_video_checkpoint
from tests.support.checkpoints.minicpmv4_6 import minicpmv4_6_checkpoint
from tests.support.checkpoints.molmo2 import molmo2_checkpoint
from tests.support.checkpoints.nvila import nvila_checkpoint
from tests.support.checkpoints.qwen2_5_omni import qwen2_5_omni_checkpoint
from tests.support.checkpoints.qwen2_5_vl import qwen2_5_vl_checkpoint
from tests.support.checkpoints.qwen2_vl import qwen2_vl_checkpoint
from tests.support.checkpoints.qwen3_5 import qwen3_5_checkpoint
from tests.support.checkpoints.qwen3_5_moe import qwen3_5_moe_checkpoint
from tests.support.checkpoints.qwen3_omni_moe import qwen3_omni_moe_checkpoint
from tests.support.checkpoints.qwen3_vl import qwen3_vl_checkpoint
from tests.support.checkpoints.qwen3_vl_moe import qwen3_vl_moe_checkpoint
from tests.support.checkpoints.smolvlm import smolvlm_checkpoint
from tests.support.checkpoints.video_llama_3 import video_llama_3_checkpoint

#: Family -> a function that saves a checkpoint in a folder and returns the folder; `seed` chooses the weights.
CHECKPOINTS: dict[str, Callable[..., Path]] = {
    "qwen2_5_vl": qwen2_5_vl_checkpoint,
    "llava_onevision": llava_onevision_checkpoint,
    "qwen2_5_omni": qwen2_5_omni_checkpoint,
    "qwen3_omni_moe": qwen3_omni_moe_checkpoint,
    "qwen2_vl": qwen2_vl_checkpoint,
    "qwen3_vl": qwen3_vl_checkpoint,
    "qwen3_vl_moe": qwen3_vl_moe_checkpoint,
    "qwen3_5": qwen3_5_checkpoint,
    "qwen3_5_moe": qwen3_5_moe_checkpoint,
    "glm4v": glm4v_checkpoint,
    "glm46v": glm46v_checkpoint,
    "glm4v_moe": glm4v_moe_checkpoint,
    "video_llama_3": video_llama_3_checkpoint,
    "molmo2": molmo2_checkpoint,
    "internvl": internvl_checkpoint,
    "llava_next_video": llava_next_video_checkpoint,
    "smolvlm": smolvlm_checkpoint,
    "llava_video": llava_video_checkpoint,
    "nvila": nvila_checkpoint,
    "minicpmv4_6": minicpmv4_6_checkpoint,
    "gemma4": gemma4_checkpoint,
}
#: What the installed transformers cannot run yet; the families refuse it.
TOO_NEW = {name for name in CHECKPOINTS if not FAMILIES.load(name).can_run()}
for _name in TOO_NEW:
    del CHECKPOINTS[_name]
#: Families inside whose LLM no token can be pruned: some layers, or all, do not let all tokens see those before them.
CLOSED = {"qwen3_5", "qwen3_5_moe", "minicpmv4_6", "gemma4", "molmo2"}
