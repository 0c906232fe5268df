"""The vocabulary as an ordinary Hugging Face tokenizer: words in lowercase, separate punctuation, no subwords.

The single capital letters A to E are tokens of their own: they name the options of multiple choice. A word that the
model does not know becomes `<unk>`, so that a caller can notice it. The newline is a token because Qwen's chat template
has one after each turn.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from stsimdiff_cli.synthetic.choices import LETTERS, choice_words
from stsimdiff_cli.synthetic.questions import words

SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<unk>",
)
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{%- if message['content'] is string -%}{{ message['content'] }}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'video' -%}{{ '<|vision_start|><|video_pad|><|vision_end|>' }}"
    "{%- elif part['type'] == 'image' -%}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- else -%}{{ part['text'] }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{{ '<|im_end|>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)


@cache
def vocabulary() -> dict[str, int]:
    """Token to id: special tokens, newline, roles, letters of options, then every word in order of the alphabet."""
    known = sorted({*words(), *choice_words()})
    tokens = [*SPECIALS, "\n", "user", "assistant", "system", *LETTERS, *known]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


def make_tokenizer() -> Any:
    """A transformers PreTrainedTokenizerFast of the vocabulary."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel(vocabulary(), unk_token="<unk>"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[ \t\r]+"), "removed"),
            pre_tokenizers.Split(Regex(r"\n"), "isolated"),
            pre_tokenizers.Punctuation("isolated"),
        ]
    )
    inner.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIALS])
    inner.add_tokens([AddedToken(s, single_word=True, normalized=False) for s in LETTERS])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="<unk>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=32768,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        additional_special_tokens=list(SPECIALS[1:7]),
    )


def save_tokenizer(folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja."""
    make_tokenizer().save_pretrained(folder)
    path = folder / "tokenizer_config.json"  # the class name that older releases of transformers know as well
    settings = json.loads(path.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
