"""The closed vocabulary as an ordinary Hugging Face tokenizer: that of training/tiny with the ladder's words."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from stsimdiff_cli.synthetic.choices import LETTERS, choice_words
from stsimdiff_cli.synthetic.ladder.questions import words
from stsimdiff_cli.synthetic.questions import question_words as plain_words
from training.tiny.tokenizer import CHAT_TEMPLATE, SPECIALS


@cache
def vocabulary() -> dict[str, int]:
    """Token to id: special tokens, newline, roles, letters of options, then every word in order of the alphabet."""
    known = sorted({*words(), *plain_words(), *choice_words()})
    tokens = [*SPECIALS, "\n", "user", "assistant", "system", *LETTERS, *known]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


def save_tokenizer(folder: Path) -> None:
    """Writes tokenizer.json, tokenizer_config.json and chat_template.jinja."""
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
    PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="<unk>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=32768,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        additional_special_tokens=list(SPECIALS[1:7]),
    ).save_pretrained(folder)
    path = folder / "tokenizer_config.json"  # the class name that older releases of transformers know too
    settings = json.loads(path.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
