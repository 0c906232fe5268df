"""The tokenizer of a checkpoint."""

from __future__ import annotations

from typing import Any

from transformers import AutoTokenizer, PretrainedConfig

from ...errors import ModelError
from .checkpoint import Checkpoint
from .damage import reason, refuse_pointer
from .memory import out_of_memory
from .quiet import quiet


def read_tokenizer(checkpoint: Checkpoint, config: PretrainedConfig) -> Any:
    """The tokenizer of a checkpoint; `config` decides its class where the checkpoint's files do not.

    ModelError if it cannot be loaded, or only by running code of its own.
    """
    for name in ("tokenizer.json", "tokenizer.model"):
        if (checkpoint.tokenizer_path / name).is_file():
            refuse_pointer(checkpoint.tokenizer_path / name, checkpoint.id)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                checkpoint.tokenizer_path, config=config, local_files_only=True, trust_remote_code=False
            )
            tokenizer.decode(tokenizer("a")["input_ids"])  # some damage shows only when it is used
            return tokenizer
    except Exception as error:  # tokenizers raises plain Exceptions
        if out_of_memory(error):
            raise
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"The tokenizer of {checkpoint.id} is code of its own, which is never run.",
                "Use a checkpoint whose tokenizer transformers supports.",
            ) from error
        raise ModelError(
            f"The tokenizer of {checkpoint.id} cannot be loaded: {reason(error)}.", "Download its files again."
        ) from error
