"""A question is text: every ordinary one has the ids that transformers gives it, and none steers the model."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from stsimdiff_cli.errors import ModelError, RequestError
from stsimdiff_cli.models import EMBEDDED
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.base import Family
from stsimdiff_cli.models.inference.prompts import Prompter
from stsimdiff_cli.models.inference.user_text import MARK, Passage, TextReader
from stsimdiff_cli.synthetic.benchmark_prompts import LAYOUTS, WITH_SUBTITLES
from tests.support.whole_models import grid_of

SPELLED = [
    "<s>",
    "<|im_end|>",
    "<|im_start|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<image>",
    "<video>",
    "<IMG_CONTEXT>",
    "</s>",
    "<|user|>",
    "<|assistant|>",
]
PIECES = [
    "what",
    "happens",
    "this video",
    "w3",
    "W7",
    "?",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\t",
    "é",
    "视频",
    "🎬",
    "12",
    "<",
    "|>",
]
PIECES += [
    "You are",
    "A",
    "\nB. ",
    "Frame from",
    "You",
    "user",
    "assistant",
    "<|",
    "im_end",
    "</",
    "s>",
    "-",
    "'",
    "ﬁ",
    "\u00a0",
    "x",
]


OPTIONS = ["A. red", "B. two", "C. up", "D. A", "E. nothing"]
PROMPTS = [layout.prompt("What colour does the square turn?", OPTIONS) for layout in LAYOUTS.values()]
PROMPTS.append(WITH_SUBTITLES.format(subtitles="A red\nB", question="\n".join(["What?", *OPTIONS])))


def ordinary(count: int, seed: int = 0) -> list[str]:
    """Questions of all kinds of pieces that spell no token, with space and line ends at both ends."""
    chance = random.Random(seed)
    made = ["", " ", "\n", "what happens in this video ?", " what ? ", "\n\n\nwhat\n\n", "  a  b  ", "</", "<|im_end|"]
    while len(made) < count:
        text = "".join(chance.choices(PIECES, k=chance.randint(1, 9)))
        made += [] if any(word in text for word in SPELLED) else [text]
    return made


def grid(family: Family) -> object:
    return grid_of(family, torch.zeros(3, 2, 2, 8))


def once(reader: TextReader):
    """The reader's `_copy`, which is slow, made once: no text here holds a character for private use."""
    copies: list[Tokenizer] = []

    def copy(names: dict[int, str]) -> Tokenizer:
        if not copies:
            copies.append(TextReader._copy(reader, names))
        return copies[0]

    return copy


def untouched(prompter: Prompter, family: Family, question: str) -> list[int]:
    """The prompt as transformers' processors read it: written with the question in it, then tokenized at once."""
    tokenizer, begin = prompter.tokenizer, prompter.tokenizer.bos_token
    parts = family.prompt_text(grid(family), question)
    if parts is not None:
        before, after = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in parts)
        return [*before, family.placeholder, *after]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": [family.video_part, {"type": "text", "text": question}]}],
        chat_template=prompter._template,
        add_generation_prompt=True,
        tokenize=False,
    )
    text = family.expand_placeholder(text, grid(family))
    return tokenizer(text, add_special_tokens=not (begin and text.startswith(begin)))["input_ids"]


def test_ordinary_questions_have_the_ids_of_the_untouched_path(family):
    prompter = Prompter(family)
    for question in (*PROMPTS, *ordinary(300)):
        assert prompter._rendered(grid(family), question) == untouched(prompter, family, question), question


def test_prompts_of_benchmarks_have_the_ids_of_the_untouched_path():
    """The letters of their options are added tokens of the model that answers them, and words all the same."""
    embedded = open_family(EMBEDDED)
    prompter = Prompter(embedded)
    for question in (*PROMPTS, *ordinary(300, seed=3)):
        assert prompter._rendered(grid(embedded), question) == untouched(prompter, embedded, question), question


def test_the_copy_of_the_tokenizer_reads_ordinary_questions_the_same(family, monkeypatch):
    """So a question that spells a token differs from what was only there."""
    prompter = Prompter(family)
    reader = prompter._reader
    monkeypatch.setattr(reader, "_copy", once(reader))
    monkeypatch.setattr(
        reader, "ids", lambda passage, begin=False, **named: reader._apart(passage, begin or any(named.values()))
    )
    for question in ordinary(300, seed=1):
        assert prompter._rendered(grid(family), question) == untouched(prompter, family, question), question


def test_no_question_makes_a_token_that_steers_the_model(family):
    prompter = Prompter(family)
    unknown = prompter.tokenizer.unk_token_id
    added = prompter._reader._added.keys() - {unknown}

    def steering(question: str) -> list[int]:
        return [token for token in prompter._rendered(grid(family), question) if token in added]

    usual = steering("what happens ?")
    words = [*prompter.tokenizer.get_added_vocab(), *SPELLED]
    for word in words:
        for question in (word, f"what is {word} ?", f"{word}{words[0]} w1\n{word}", f" {word.upper()} {word} "):
            assert steering(question) == usual, question
    ids, visual = prompter.ids(grid(family), "".join(words))
    assert visual[visual >= 0].tolist() == list(range(12)) and len(ids) > 12


def test_the_rest_of_a_prompt_is_that_of_any_question(family):
    """Up to the last visual token nothing depends on the question: the video is prefilled once for all of them."""
    prompter = Prompter(family)
    starts = []
    for question in ("", "what ?", "<|im_end|><video><image></s>"):
        ids, visual = prompter.ids(grid(family), question)
        starts.append(ids[: int((visual >= 0).nonzero()[-1]) + 1].tolist())
    assert starts[0] == starts[1] == starts[2]


# --- other tokenizers -----------------------------------------------------------------------------------------------

TEXTS = [
    "what happens in this video ? a dog runs </s> <s> end",
    "the video shows two dogs , one cat\n\n and a bird 12 !",
] * 20
#: Added tokens as published ones are: plain, taking in space on one side, found in normalised text, spelled by merges.
ADDED = [
    AddedToken("<s>", special=True, normalized=False),
    AddedToken("</s>", special=True, normalized=False),
    AddedToken("<image>", special=True, normalized=False, lstrip=True),
    AddedToken("<|end|>", special=True, normalized=False, rstrip=True),
    AddedToken("<turn>", special=True, normalized=True),
    AddedToken("<think>", special=False, normalized=False),
    AddedToken("    ", special=False, normalized=False),
    AddedToken("A", special=False, normalized=False, single_word=True),
]


def llama(scheme: str) -> Tokenizer:
    """Like Llama's and Vicuna's: pieces of SentencePiece, spaces as `▁`, bytes for unknown characters."""
    alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<unk>", "<s>", "</s>", *alphabet], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    state = json.loads(tokenizer.to_str())
    tokenizer = Tokenizer.from_str(json.dumps(state | {"added_tokens": []}))  # bytes are ordinary pieces
    if scheme == "legacy":  # each stretch of text between added tokens begins with a space
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.normalizer = None
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def bytes_bpe() -> Tokenizer:
    """Like Qwen2's and SmolLM's: pieces of bytes, words with the space before them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150, unk_token="<unk>", special_tokens=["<unk>", "<s>"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def words_only() -> Tokenizer:
    """Whole words in lower case, of which the added tokens are some."""
    names = ["<unk>", *(str(token.content) for token in ADDED), "what", "happens", "?", "w3"]
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


TOKENIZERS = {
    "llama, legacy": lambda: llama("legacy"),
    "llama, first": lambda: llama("first"),
    "llama, always": lambda: llama("always"),
    "bytes": bytes_bpe,
    "unigram": unigram,
    "words": words_only,
}


@pytest.fixture(scope="module", params=sorted(TOKENIZERS))
def reader(request) -> TextReader:
    inner = TOKENIZERS[request.param]()
    inner.add_tokens(ADDED)
    begin = inner.token_to_id("<s>")
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", begin)])
    return TextReader(
        PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>" if "<unk>" in inner.get_vocab() else None)
    )


FRAMES = [
    ("<s>USER: <image>\n", "<|end|>\nASSISTANT:"),
    ("USER:<image>", " ASSISTANT:"),
    ("<turn>user\n <image> ", " <|end|> <turn>"),
    ("", "</s>"),
    ("<|end|>", "<image>"),
    ("    <think>", ""),
]


@pytest.mark.parametrize("frame", FRAMES, ids=repr)
@pytest.mark.parametrize("begin", [True, False])
def test_every_kind_of_tokenizer_reads_ordinary_questions_as_before(reader, frame, begin):
    before, after = frame
    apart = TextReader(reader.tokenizer)
    apart._copy = once(reader)
    for question in ordinary(200, seed=2):
        passage = Passage(before, question, after)
        expected = reader.tokenizer(before + question + after, add_special_tokens=begin)["input_ids"]
        assert reader.ids(passage, begin) == expected, question
        assert apart._apart(passage, begin) == expected, question


@pytest.mark.parametrize("frame", FRAMES, ids=repr)
def test_no_kind_of_tokenizer_makes_steering_tokens_from_a_question(reader, frame):
    before, after = frame
    unknown = reader.tokenizer.unk_token_id
    added = reader._added.keys() - {unknown}
    usual = Counter(token for token in reader.ids(Passage(before, "what", after)) if token in added)
    for token in ADDED[:-2]:
        for word in (token.content, token.content.upper(), token.content.replace("<", "＜"), f"  {token.content}  "):
            for question in (word, f"what {word}{word} ?", f"{word}what"):
                ids = reader.ids(Passage(before, question, after))
                assert Counter(token for token in ids if token in added) == usual, question


def test_a_question_cannot_spell_a_secret_name(reader):
    number = next(iter(reader._added))
    for question in (f"\ue000{number}\ue001 </s>", f"</s>\ue000\ue000{number}\ue001", f"{MARK} </s>", "</s>\ue000"):
        ids = reader.ids(Passage("<s>", question, "</s>"))
        assert [token for token in ids if token in reader._added and token != reader.tokenizer.unk_token_id] == [
            reader.tokenizer.convert_tokens_to_ids(name) for name in ("<s>", "</s>")
        ]


def test_a_tokenizer_without_a_copy_refuses_spelled_tokens():
    class Slow:
        is_fast = False

        def get_added_vocab(self):
            return {"</s>": 2}

        def __call__(self, text, add_special_tokens):
            return {"input_ids": [len(text)]}

    assert TextReader(Slow()).ids(Passage("a", "what", "b</s>")) == [10]
    with pytest.raises(RequestError, match="cannot read </s> as text"):
        TextReader(Slow()).ids(Passage("a", "what </s>", "b"))


def test_a_template_that_loses_or_repeats_the_question_is_refused():
    assert Passage.find("a what b", f"a {MARK} b") == Passage("a ", "what", " b")
    assert Passage.find("a b", "a b") == Passage("a b")
    for text, marked in (("a", "b"), ("a what what", f"a {MARK} {MARK}"), ("other what b", f"a {MARK} b")):
        with pytest.raises(ModelError, match="template"):
            Passage.find(text, marked)
