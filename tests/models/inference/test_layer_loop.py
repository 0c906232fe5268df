"""Pruning tokens between the LLM's layers: the loop over layers against the model's own forward, and the methods."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from stsimdiff_cli import pipeline
from stsimdiff_cli.cli.app import main
from stsimdiff_cli.errors import ModelError, RequestError
from stsimdiff_cli.layer_pruning import Keep, LayerAttention, LayerPruner, LayerState
from stsimdiff_cli.methods import METHODS
from stsimdiff_cli.methods.fitprune import IMAGE, SCHEMES, alive_after
from stsimdiff_cli.methods.spec import parse_method
from stsimdiff_cli.models.inference.conversation import Conversation, PrunedConversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.records import VideoTokens
from stsimdiff_cli.token_features import DenseFeatures
from tests.support.checkpoints.parts import QUESTIONS
from tests.support.clip_factory import SAMPLES
from tests.support.fake_llm import FakeLlm
from tests.support.runtimes import FP32
from tests.support.tokens import make_tokens
from tests.support.whole_models import tokens_of

INSIDE = [name for name in METHODS if METHODS.load(name).inside]
CASES = list(itertools.product(range(8), ("0.1", "0.37", "0.8")))


@pytest.fixture(scope="module")
def language(attentive) -> LanguageModel:
    return LanguageModel(attentive, FP32, attention_rows=True)


@pytest.fixture
def tokens(attentive, frames) -> VideoTokens:
    return tokens_of(attentive, frames)


class Nothing(LayerPruner):
    """Prunes nothing, and never says that it is finished."""

    finished = False

    def after(self, view: LayerState, rows: LayerAttention) -> Keep | None:
        return None


class Given(LayerPruner):
    """Prunes to given tokens after given layers, and before layer 0."""

    finished = False

    def __init__(self, tokens: int, plan: dict[int, Tensor]) -> None:
        super().__init__(tokens, tokens)
        self.plan = plan

    def before(self, view: LayerState) -> Keep | None:
        return self._cut(-1) if view.layer == 0 else None

    def after(self, view: LayerState, rows: LayerAttention) -> Keep | None:
        return self._cut(view.layer)

    def _cut(self, layer: int) -> Keep | None:
        if layer not in self.plan:
            return None
        return self.drop_to(torch.isin(self.index, self.plan[layer]).nonzero().squeeze(1))


# --- the loop over layers -------------------------------------------------------------------------------------------


def test_without_a_cut_the_loop_is_the_models_own_forward(language, tokens):
    text = language.model.get_decoder()
    prompt = language.prompter.prompt(language.model, tokens.grid, QUESTIONS[0], torch.arange(tokens.grid.tokens))
    inputs = language.decoder_inputs(prompt, tokens.embeddings)
    ours, theirs = DynamicCache(config=text.config), DynamicCache(config=text.config)
    nothing = Nothing(tokens.grid.tokens, tokens.grid.tokens)
    language.prune(tokens.grid, tokens.embeddings, QUESTIONS[0], nothing, ours)
    with torch.inference_mode():
        text(past_key_values=theirs, use_cache=True, **inputs)
    assert len(ours.layers) == len(theirs.layers) == 3
    for mine, its in zip(ours.layers, theirs.layers, strict=True):
        torch.testing.assert_close(mine.keys, its.keys, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(mine.values, its.values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", INSIDE)
def test_at_ratio_one_answers_equal_those_without_a_method(name, language, tokens):
    plain = Conversation(language, tokens.grid, tokens.embeddings, torch.arange(tokens.grid.tokens))
    method = parse_method(name)
    pruned = PrunedConversation(language, tokens, lambda: method.layer_pruner(tokens, parse_ratio(1)))
    for question in QUESTIONS:
        expected, got = plain.ask(question, max_new_tokens=10), pruned.ask(question, max_new_tokens=10)
        assert (got.text, got.tokens, got.prompt_tokens) == (expected.text, expected.tokens, expected.prompt_tokens)
        assert set(got.alive_per_layer) == {tokens.grid.tokens}


def masked_next_token(language: LanguageModel, tokens: VideoTokens, question: str, plan: dict[int, Tensor]) -> Tensor:
    """Logits of the first answer token when pruned tokens stay but are masked out: a slow reference."""
    text = language.model.get_decoder()
    prompt = language.prompter.prompt(language.model, tokens.grid, question, torch.arange(tokens.grid.tokens))
    inputs = language.inputs(prompt, tokens.embeddings)
    hidden = inputs["inputs_embeds"]
    rotary = text.rotary_emb(hidden, language.family.rotary_positions(inputs["position_ids"]))
    length = hidden.shape[1]
    visible = torch.ones(length, dtype=torch.bool)
    for number, layer in enumerate(text.layers):
        for earlier in range(-1, number):
            if earlier in plan:
                visible &= (prompt.visual < 0) | torch.isin(prompt.visual, plan[earlier])
        mask = torch.full((length, length), -torch.inf).triu(1).masked_fill(~visible, -torch.inf)
        mask.fill_diagonal_(0)  # a masked token must attend to something
        hidden = layer(hidden, attention_mask=mask[None, None], position_embeddings=rotary)
        if tokens.deepstack is not None and number < tokens.deepstack.shape[3]:
            hidden[0, prompt.visual >= 0] += tokens.deepstack.tensor().flatten(0, 2)[:, number]
    return language.model.lm_head(text.norm(hidden))[0, -1]


@pytest.mark.parametrize("layers", [(-1,), (0,), (1,), (-1, 0, 1)])
@torch.inference_mode()
def test_pruned_tokens_are_as_good_as_masked(layers, language, tokens):
    chance = torch.Generator().manual_seed(5)
    alive, plan = torch.arange(tokens.grid.tokens), {}
    for layer in layers:
        alive = alive[torch.randperm(len(alive), generator=chance)[: len(alive) * 2 // 3]].sort().values
        plan[layer] = alive
    pruner = Given(tokens.grid.tokens, plan)
    expected = masked_next_token(language, tokens, QUESTIONS[1], plan)
    conversation = PrunedConversation(language, tokens, lambda: pruner)
    prompt, cache, alive = conversation._prefilled(QUESTIONS[1])
    sizes = [len(plan[max(k for k in plan if k < layer)]) if min(plan) < layer else tokens.grid.tokens
             for layer in range(3)]  # fmt: skip
    text = int((prompt.visual < 0).sum())
    assert [layer.keys.shape[2] for layer in cache.layers] == [size + text - 1 for size in sizes]
    last = {"input_ids": prompt.ids[None, -1:], "position_ids": language.position_ids(prompt)[..., -1:]}
    hidden = language.model.get_decoder()(past_key_values=cache, use_cache=True, **last).last_hidden_state
    torch.testing.assert_close(language.model.lm_head(hidden)[0, -1], expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_attention_rows_are_those_of_eager_attention(language, tokens):
    seen = {}

    class Look(Nothing):
        def after(self, view: LayerState, rows: LayerAttention) -> None:
            seen[view.layer] = (rows.last_query(), *rows.cross_and_self())

    prompt = language.prune(tokens.grid, tokens.embeddings, QUESTIONS[1], Look(tokens.grid.tokens, 1), None)
    eager = LanguageModel(language.family, FP32)
    eager.model.set_attn_implementation("eager")
    inputs = eager.decoder_inputs(prompt, tokens.embeddings)
    weights = eager.model.get_decoder()(**inputs, output_attentions=True).attentions  # a layer: (1, heads, L, L)
    visual = (prompt.visual >= 0).nonzero().squeeze(1)
    question = torch.arange(int(visual[-1]) + 1, len(prompt.ids))
    for layer, weight in enumerate(weights):
        last, cross, own = seen[layer]
        torch.testing.assert_close(last, weight[0].mean(0)[-1, visual], rtol=1e-4, atol=1e-6)
        most = weight[0].amax(0)
        torch.testing.assert_close(cross, most[question].mean(0)[visual], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(own, most[visual].mean(0)[visual], rtol=1e-4, atol=1e-6)


def test_an_llm_with_sliding_windows_is_refused(language, tokens, monkeypatch):
    text = language.model.get_decoder()
    kinds = ["full_attention", "sliding_attention", "full_attention"]
    monkeypatch.setattr(text.config, "layer_types", kinds, raising=False)
    with pytest.raises(ModelError, match="sliding_attention"):
        language.prune(tokens.grid, tokens.embeddings, "what ?", Nothing(tokens.grid.tokens, 1))


def test_an_llm_whose_layers_have_unknown_parts_is_refused(language, tokens, monkeypatch):
    monkeypatch.setattr(language.model.get_decoder().layers[1], "gate", torch.nn.Identity(), raising=False)
    with pytest.raises(ModelError, match=r"not known here \(gate\)"):
        language.prune(tokens.grid, tokens.embeddings, "what ?", Nothing(tokens.grid.tokens, 1))


# --- the methods ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", ["0.1", "0.5"])
@pytest.mark.parametrize("name", INSIDE)
def test_both_forms_keep_the_same_tokens_for_the_same_prompt(name, ratio, language, tokens):
    method, kept = parse_method(name), []
    count = parse_ratio(ratio).budget(tokens.grid.tokens)
    pruner = method.layer_pruner(tokens, parse_ratio(ratio))
    language.prune(tokens.grid, tokens.embeddings, QUESTIONS[0], pruner)
    kept.append(pruner.index.tolist())
    conversation = PrunedConversation(language, tokens, lambda: method.layer_pruner(tokens, parse_ratio(ratio)))
    first, second = (conversation.ask(QUESTIONS[0], max_new_tokens=6) for _ in range(2))
    assert first.text == second.text
    assert first.alive_per_layer[-1] == len(kept[0]) == count
    assert list(first.alive_per_layer) == sorted(first.alive_per_layer, reverse=True)
    compressed = pipeline.compress_tokens(
        tokens,
        ratio,
        method,
        runtime=Runtime(device="cpu"),
        prompt=QUESTIONS[0],
        model=str(language.family.checkpoint.path),
    )
    assert compressed.index.tolist() == kept[0]
    assert compressed.method["prompt"] == QUESTIONS[0]
    assert compressed.features.shape == (count, tokens.grid.width)


@pytest.mark.parametrize(
    ("name", "attentions", "networks"),
    [("fastv", 2, 1), ("fastv:k=1", 1, 0), ("fitprune", 3, 2), ("framefusion:similarity=-1", 0, 0)],
)
def test_the_form_for_files_ends_at_what_it_reads_last(name, attentions, networks, language, tokens, monkeypatch):
    """The queries and keys of that layer are computed, its attention and its feed-forward network are not."""
    ran = {"attention": 0, "network": 0}
    for layer in language.model.get_decoder().layers:
        for part, module in (("attention", layer.self_attn.q_proj), ("network", layer.mlp)):
            call = module.forward

            def counted(*arguments, part=part, call=call, **more):
                ran[part] += 1
                return call(*arguments, **more)

            monkeypatch.setattr(module, "forward", counted)
    pruner = parse_method(name).layer_pruner(tokens, parse_ratio("0.5"))
    language.prune(tokens.grid, tokens.embeddings, QUESTIONS[0], pruner)
    assert pruner.finished
    assert (ran["attention"], ran["network"]) == (attentions, networks)


def test_fastv_keeps_what_a_plain_transcription_keeps():
    for seed, ratio in CASES:
        tokens = make_tokens((4, 3, 5), seed=seed)
        scores = torch.rand((5, 60), generator=torch.Generator().manual_seed(seed)).mul(20).round() / 20  # with ties
        k = 1 + seed % 4
        llm = FakeLlm(lambda index, layer, scores=scores: scores[layer][index])
        got = parse_method(f"fastv:k={k}").select(tokens, parse_ratio(ratio), llm, lambda _: None)
        wanted = math.ceil(Fraction(ratio) * 60)
        ranked = sorted(range(60), key=lambda i: (-float(scores[k - 1][i]), i))
        assert got.index.tolist() == sorted(ranked[:wanted])
        assert llm.seen == [60] * (k - 1) + [wanted]


def plain_framefusion(
    states: list[Tensor], scores: Tensor, cells: int, budget: int, similarity: float, least: float
) -> tuple[list[int], dict[int, list[int]]]:
    """The published algorithm on lists: states (N, D) before attention of each layer, scores (layers, N).

    Returns the kept tokens and the members of each. Hidden states of merged tokens last until the next layer's table.
    """
    alive, members = list(range(len(states[0]))), {i: [i] for i in range(len(states[0]))}
    merged: dict[int, Tensor] = {}
    merging = True
    for layer, table in enumerate(states):
        sites = ["before", "after"] if layer == 0 else ["after"]
        for site in sites:
            surplus = len(alive) - budget
            if not surplus:
                return alive, members
            if site == "after" and (not merging or layer == len(states) - 1):
                ranked = sorted(alive, key=lambda i: (-float(scores[layer][i]), i))
                return sorted(ranked[:budget]), members
            if not merging:
                continue
            state = {i: merged.get(i, table[i]) for i in alive}
            pairs = []  # (similarity, token) with the token before it in the same cell
            for i in alive:
                earlier = [j for j in alive if j < i and j % cells == i % cells]
                if earlier:
                    cosine = torch.cosine_similarity(state[earlier[-1]].double(), state[i].double(), dim=0)
                    pairs.append((float(cosine), i))
            alike = [i for cosine, i in pairs if cosine >= similarity]
            if len(alike) >= surplus:
                alike = [i for _, i in sorted(pairs, key=lambda pair: (-pair[0], pair[1]))[:surplus]]
            merging = len(alike) >= least * len(alive)
            for cell in range(cells):
                run: list[int] = []
                for i in [i for i in alive if i % cells == cell] + [-1]:
                    if i in alike:
                        run.append(i)
                        continue
                    if len(run) > 1:
                        merged[run[0]] = torch.stack([state[j] for j in run]).mean(0)
                        for j in run[1:]:
                            members[run[0]] += members.pop(j)
                    run = [i]
            alive = [i for i in alive if i not in alike]
    return alive, members


def test_framefusion_keeps_what_a_plain_transcription_keeps():
    stages = set()
    for seed, ratio in CASES:
        chance = torch.Generator().manual_seed(100 + seed)
        tokens = make_tokens((6, 2, 3), seed=seed)
        base = torch.randn((1, 6, 8), generator=chance)
        noise = torch.rand((6, 6, 1), generator=chance) * 1.5
        walk = (base + noise * torch.randn((6, 6, 8), generator=chance)).flatten(0, 1)
        states = [walk + 0.3 * layer * torch.randn((36, 8), generator=chance) for layer in range(4)]
        scores = torch.rand((4, 36), generator=chance)
        llm = FakeLlm(lambda index, layer, s=scores: s[layer][index], 4, lambda layer, states=states: states[layer])
        count = math.ceil(Fraction(ratio) * 36)
        similarity, least = ("0.6", "0.1") if seed % 2 else ("0.8", "0.3")
        method = parse_method(f"framefusion:similarity={similarity},least={least}")
        got = method.select(tokens, parse_ratio(ratio), llm, lambda _: None)
        kept, members = plain_framefusion(states, scores, 6, count, float(similarity), float(least))
        assert got.index.tolist() == kept
        flat = tokens.features.tensor().flatten(0, 2)
        expected = torch.stack([flat[members[i]].mean(0) for i in kept])
        torch.testing.assert_close(flat[got.index] if got.features is None else got.features, expected)
        stages.add((len(llm.seen), any(len(members[i]) > 1 for i in kept)))
    assert len(stages) > 3, "the cases should end at different sites"


def test_framefusion_by_hand():
    # One cell, five slots on a circle at 0, 10, 90, 100 and 110 degrees: neighbours' cosines .98, .17, .98, .98.
    # 3 of 5 stay: the surplus of 2 goes to the most similar pairs, all three equal at the resolution: the lowest, 1
    # and 3. Token 1 joins 0, token 3 joins 2; token 4 stays, for 3 joined 2 and 4 did not join.
    angle = torch.tensor([0.0, 10.0, 90.0, 100.0, 110.0]).deg2rad()
    features = torch.stack([angle.cos(), angle.sin()], -1)
    tokens = make_tokens((5, 1, 1), width=2)
    tokens = VideoTokens(tokens.grid, DenseFeatures(features.view(5, 1, 1, 2)))
    llm = FakeLlm(lambda index, layer: index.float(), 4, lambda layer: features)
    got = parse_method("framefusion").select(tokens, parse_ratio("0.6"), llm, lambda _: None)
    assert got.index.tolist() == [0, 2, 4]
    assert torch.equal(got.features, torch.stack([features[:2].mean(0), features[2:4].mean(0), features[4]]))
    # 2 of 5: all alike pairs merge into 0 and 2, which is the budget. 1 of 5: after them 2 joins 0 as nearest of all.
    got = parse_method("framefusion").select(tokens, parse_ratio("0.4"), llm, lambda _: None)
    assert got.index.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("family", "threshold"),
    [("qwen2_vl", 0.5), ("internvl", 0.5), ("nvila", 0.7), ("llava_video", 0.6), ("qwen2_5_vl", 0.6)],
)
def test_framefusions_threshold_is_that_of_the_authors_script_for_the_family(family, threshold):
    tokens = make_tokens((4, 1, 1))
    model = replace(tokens.grid.model, family=family)
    tokens = replace(tokens, grid=replace(tokens.grid, model=model))
    pruner = parse_method("framefusion").layer_pruner(tokens, parse_ratio("0.5"))
    assert pruner.similarity == threshold
    assert parse_method("framefusion:similarity=0.8").layer_pruner(tokens, parse_ratio("0.5")).similarity == 0.8
    for wrong in ("1.5", "automatic", "nan"):
        with pytest.raises(RequestError, match="between -1 and 1, or auto"):
            parse_method(f"framefusion:similarity={wrong}")


def test_fitprune_by_hand():
    # Half of 576 tokens, 288, lie between the schemes for 30 % (264 deletions, 160 of them in the first half of the
    # depth) and for 40 % (336 and 228): a third of the way, 160 + 68 / 3 = 182.7. So of 10 tokens in two layers
    # floor(10 * 182.7 / 576) = 3 go after layer 0, and 2 after layer 1. The score is cross times self.
    assert [(sum(SCHEMES[percent][:16]), sum(SCHEMES[percent])) for percent in (30, 40)] == [(160, 264), (228, 336)]
    assert [alive_after(layer, 2, 10, 5) for layer in (0, 1)] == [7, 5]
    cross = torch.tensor([9.0, 1, 5, 2, 8, 3, 7, 4, 6, 1])
    own = torch.tensor([1.0, 9, 1, 9, 1, 1, 1, 1, 1, 1])  # products 9 9 5 18 8 3 7 4 6 1: 9, 5 and 7 go first

    class LayerAttention:
        def __init__(self, index: Tensor) -> None:
            self.index = index

        def cross_and_self(self) -> tuple[Tensor, Tensor]:
            return cross[self.index], own[self.index]

    tokens = make_tokens((10, 1, 1))
    pruner = parse_method("fitprune").layer_pruner(tokens, parse_ratio("0.5"))
    pruner.after(LayerState(0, 2, tokens.features.tensor().flatten(0, 2)), LayerAttention(pruner.index))
    assert pruner.index.tolist() == [0, 1, 2, 3, 4, 6, 8]
    pruner.after(LayerState(1, 2, tokens.features.tensor().flatten(0, 2)), LayerAttention(pruner.index))
    assert pruner.index.tolist() == [0, 1, 3, 4, 6]


@pytest.mark.parametrize("budget", [1, 77, 300, 641, 999, 1000])
@pytest.mark.parametrize("layers", [1, 2, 3, 4, 24, 28, 32, 40, 80])
def test_fitprunes_schedule_ends_in_the_budget_at_any_depth(layers, budget):
    alive = [alive_after(layer, layers, 1000, budget) for layer in range(layers)]
    assert alive[-1] == budget
    assert alive == sorted(alive, reverse=True)


@pytest.mark.parametrize("percent", SCHEMES)
def test_fitprune_deletes_what_a_published_scheme_says_where_it_leaves_as_many(percent):
    scheme, left = SCHEMES[percent], IMAGE
    for layer, gone in enumerate(scheme):
        left -= gone
        assert alive_after(layer, 32, IMAGE, IMAGE - sum(scheme)) == left


def test_between_two_schemes_every_layer_is_between_them():
    for fewer, more in itertools.pairwise(SCHEMES.values()):
        budget = IMAGE - (sum(fewer) + sum(more)) // 2
        for layer in range(32):
            upper, lower = (IMAGE - sum(scheme[: layer + 1]) for scheme in (fewer, more))
            assert min(lower, upper) <= alive_after(layer, 32, IMAGE, budget) <= max(lower, upper) + 1


def test_st_simdiffs_final_prune_inside_needs_attention():
    with pytest.raises(RequestError, match="does not look into the LLM"):
        parse_method("st-simdiff:importance=centrality").layer_pruner(make_tokens(), parse_ratio("0.5"))


# --- the command ----------------------------------------------------------------------------------------------------


def test_ask_inside_answers_from_a_tokens_file(tmp_path, capsys):
    file, small = tmp_path / "t.safetensors", tmp_path / "c.safetensors"
    assert main(["encode", str(SAMPLES / "move.mp4"), "-o", str(file)]) == 0
    assert main(["compress", str(file), "-o", str(small), "--ratio", "0.3", "--method", "uniform"]) == 0
    capsys.readouterr()
    question = "Which way does the cross move?"
    assert main(["ask", str(file), question, "--inside", "framefusion", "--ratio", "0.5"]) == 0
    assert capsys.readouterr().out == "up\n"
    for arguments, message in [
        ([str(file), question, "--inside", "fastv"], "--inside and --ratio must be given together."),
        ([str(file), question, "--ratio", "0.3"], "--inside and --ratio must be given together."),
        ([str(small), question, "--inside", "fastv", "--ratio", "0.3"], "is already compressed."),
        ([str(file), question, "--inside", "uniform", "--ratio", "0.3"], "uniform does not work inside the LLM."),
        ([str(file), question, "--inside", "fastvv", "--ratio", "0.3"], "Did you mean 'fastv'?"),
        ([str(file), question, "--inside", "fastv:k=9", "--ratio", "0.3"], "has 6 layers"),
    ]:
        assert main(["ask", *arguments]) == 2, arguments
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.out == ""
