"""The program on a second device (tests/support/second_device.py): the same results, and no tensor on the wrong one.

The last part plants mistakes, to show that they are caught.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

from stsimdiff_cli import pipeline
from stsimdiff_cli.errors import ModelError
from stsimdiff_cli.graph import centrality, communities, coverage, edges, merging, numerics
from stsimdiff_cli.graph.kernels import plain
from stsimdiff_cli.layer_pruning import Keep, LayerPruner
from stsimdiff_cli.methods import METHODS, visionzip
from stsimdiff_cli.methods.base import Method, plain_selection
from stsimdiff_cli.models import EMBEDDED
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.base import Family
from stsimdiff_cli.models.inference import attention_tap, conversation, language_model, layer_loop
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.inference.model_cache import ModelCache
from stsimdiff_cli.models.loading import random_weights, transfer
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.pipeline import Context
from stsimdiff_cli.records import CompressedVideo, Embeddings, Prompt, Selection, VideoTokens
from stsimdiff_cli.storage import file_features
from stsimdiff_cli.storage.reading import load
from stsimdiff_cli.storage.writing import save_tokens
from stsimdiff_cli.timing import Stopwatch
from stsimdiff_cli.token_features import DenseFeatures
from stsimdiff_cli.video import Sampling
from tests.support.checkpoints import CLOSED
from tests.support.clip_factory import SAMPLES, render
from tests.support.commands import run
from tests.support.made_up import timeless
from tests.support.profile_jobs import make_job, measure
from tests.support.second_device import DeviceTensor, inside, second_device

CLIP = SAMPLES / "flash.mp4"
QUESTIONS = ("What happens in this video?", "How many stars are there?")
EVIDENCE = ("saliency", "keys")
#: Not the device that "cuda" means, so that a tensor that is made there is on a wrong one, too.
DEVICE = "cuda:1"
#: Settings with steps of their own.
SWITCHES = (
    "st-simdiff:tau_diff=p90,split=space,ends=both",
    "st-simdiff:importance=saliency,communities=louvain",
    "st-simdiff:representatives=coverage,prune=share",
    "st-simdiff:quota=code,max_community=none",
    "framefusion:similarity=0.9",
)
INSIDE = tuple(name for name in METHODS if METHODS.load(name).inside and name != "st-simdiff+")


@pytest.fixture(scope="module")
def tokens() -> VideoTokens:
    """The tokens of eight frames, with all evidence."""
    return pipeline.encode_video(CLIP, sampling=Sampling(frames=8), runtime=Runtime("cpu"), evidence=EVIDENCE)


@pytest.fixture(scope="module")
def models() -> ModelCache:
    """Loads the embedded model once for the CPU and once for each device."""
    return ModelCache()


@pytest.fixture(scope="module")
def kept(tokens) -> CompressedVideo:
    return pipeline.compress_tokens(tokens, "0.3", runtime=Runtime("cpu"))


def on(device: str) -> Runtime:
    """The runtime in the same type on every device."""
    return Runtime(device, "float32")


def assert_same(here: Any, there: Any) -> None:
    """Equal bit for bit, and both on the CPU."""
    assert type(here) is type(there)
    if isinstance(here, torch.Tensor):
        assert torch.equal(here, there)
    elif isinstance(here, dict):
        assert here.keys() == there.keys()
        for name in here:
            assert_same(here[name], there[name])
    else:
        assert here == there


def assert_same_on_both(work: Callable[[str], Any], device: str = DEVICE) -> Any:
    """`work` gives the same on the CPU and on the device; returns it."""
    here = work("cpu")
    with second_device(torch.device(device).type):
        there = work(device)
    assert_same(here, there)
    return here


def numbers_of(video: CompressedVideo) -> dict[str, Any]:
    """All tensors of a compressed video."""
    deepstack = None if video.deepstack is None else video.deepstack.tensor()
    names = ("index", "kind", "community", "importance", "traces", "counts")
    return {"features": video.features.tensor(), "deepstack": deepstack} | {
        name: getattr(video, name) for name in names
    }


def tensors_of(tokens: VideoTokens) -> dict[str, torch.Tensor]:
    return {name: values.tensor() for name, values in tokens.tensors.items()}


def asked(talk: conversation.Conversation) -> list[conversation.Answer]:
    """Answers to two questions, greedy and drawn."""
    return [
        answer
        for temperature in (0.0, 2.0)
        for answer in talk.ask_all(QUESTIONS, max_new_tokens=6, temperature=temperature, seed=3)
    ]


# --- the rules of the device -----------------------------------------------------------------------------------------

#: What torch does with `x` (3, 3) on a GPU and `c` (3, 3) on the CPU: whether it is possible.
RULES: list[tuple[str, bool]] = [
    ("x + c", False),
    ("x @ c", False),
    ("x + 1", True),
    ("x + c.sum()", True),
    ("c.sum() - x", True),
    ("c.sum().add_(x.sum())", False),
    ("torch.where(x > 0, x, c)", False),
    ("torch.where(x > 0, x, c.sum())", True),
    ("x.masked_fill(x > 0, c.sum())", True),
    ("x.masked_fill(c > 0, 1)", False),
    ("torch.cat([x, c])", False),
    ("torch.stack([x.sum(), c.sum()])", False),
    ("x.gather(0, c.long())", False),
    ("x.index_select(0, torch.tensor([1]))", False),
    ("torch.nn.functional.embedding(torch.tensor([1]), x)", False),
    ("torch.isin(x, c)", False),
    ("torch.equal(x, c)", False),
    ("torch.searchsorted(x[0], c[0])", False),
    ("torch.bmm(x[None], x[None], out=c[None])", False),
    ("c[torch.tensor([1], device=x.device)]", False),
    ("c[x > 0]", False),
    ("x[x > 0]", True),
    ("x[[0, 2]]", True),
    ("x[torch.tensor(1)]", True),
    ("x.index_put_((torch.tensor([0], device=x.device),), c[0])", False),
    ("x.__setitem__(slice(2), c[:2])", True),
    ("x.__setitem__(x > 0, c.sum())", True),
    ("x.copy_(c)", True),
    ("c.copy_(x)", True),
    ("c.to(x) + x", True),
    ("x.numpy()", False),
    ("x.tolist()", True),
    ("x.normal_(generator=torch.Generator())", False),
    ("x.normal_(generator=torch.Generator(x.device))", True),
    ("torch.nn.functional.one_hot(x.long())", True),
    ("torch.tensor([x.sum(), 1]) + c[0, :2]", True),
    ("torch.nn.Linear(3, 3).to(x.device)(c)", False),
    ("torch.nn.Linear(3, 3).to(x.device)(x)", True),
]


def is_possible(expression: str, x: torch.Tensor) -> bool:
    try:
        eval(expression, {"torch": torch, "x": x, "c": torch.ones(3, 3)})
    except (RuntimeError, TypeError) as error:
        assert "device" in str(error), error
        return False
    return True


@pytest.mark.parametrize(("expression", "possible"), RULES)
def test_the_device_has_the_rules_of_a_gpu(expression, possible):
    with second_device():
        assert is_possible(expression, torch.ones(3, 3, device=DEVICE)) == possible


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_has_these_rules():
    differ = [rule for rule, possible in RULES if is_possible(rule, torch.ones(3, 3, device="cuda")) != possible]
    assert differ == []


def test_only_an_index_on_the_cpu_is_refused_though_a_gpu_would_copy_it():
    with second_device(), pytest.raises(RuntimeError, match="indices should be on the device"):
        torch.ones(3, device=DEVICE)[torch.tensor([0, 1])]


def test_two_gpus_do_not_mix_either():
    with second_device(), pytest.raises(RuntimeError, match="two devices, cuda:0 and cuda:1"):
        torch.ones(3, device="cuda") + torch.ones(3, device=DEVICE)


def test_memory_on_the_device_is_not_shared_with_the_cpu():
    with second_device():
        here = torch.zeros(3)
        there = here.to(DEVICE)
        back = there.cpu()
        there += 1
        assert here.tolist() == back.tolist() == [0, 0, 0] and there.tolist() == [1, 1, 1]
        assert there.to(DEVICE) is there and isinstance(there, DeviceTensor) and there.is_cuda
        assert there.device == torch.device(DEVICE) and there.view(1, 3).device == there.device


def test_after_the_block_there_is_no_device():
    real = torch.cuda.is_available()
    with second_device():
        left = torch.ones(1, device=DEVICE)
    assert torch.cuda.is_available() == real and type(torch.ones(1)) is torch.Tensor
    assert type(torch.Generator()) is torch.Generator and type(inside(left)) is torch.Tensor


# --- the program -----------------------------------------------------------------------------------------------------


def test_encoding_gives_the_same_tokens_and_evidence():
    def encode(device: str) -> dict[str, torch.Tensor]:
        sampling = Sampling(frames=3)
        return tensors_of(pipeline.encode_video(CLIP, sampling=sampling, runtime=on(device), evidence=EVIDENCE))

    assert set(assert_same_on_both(encode)) == {"features", *EVIDENCE}


@pytest.mark.parametrize("device", [DEVICE, "mps"])
@pytest.mark.parametrize("method", [*METHODS, *SWITCHES])
def test_every_method_keeps_the_same_tokens(method, device, tokens, models):
    def compress(device: str) -> dict[str, Any]:
        return numbers_of(pipeline.compress_tokens(tokens, "0.3", method, on(device), context=Context(models)))

    assert_same_on_both(compress, device)


def test_tokens_in_a_file_are_compressed_piece_by_piece_on_the_device(tokens, models, tmp_path, monkeypatch):
    """With parts so small that every loop over them turns more than once."""
    monkeypatch.setattr(file_features, "CHUNK", 3 * 36 * tokens.grid.width * 4)
    monkeypatch.setattr(centrality, "SUMS", 8 * tokens.grid.width)
    monkeypatch.setattr(merging, "_ROWS", 5)
    monkeypatch.setattr(merging, "_ROWS_CPU", 5)
    for module in (plain, coverage):
        monkeypatch.setattr(module, "ROWS", {"cpu": 7, "cuda": 7})
    monkeypatch.setattr(language_model, "PIECE", 50)
    path = tmp_path / "clip.tokens.safetensors"
    save_tokens(path, tokens)

    def compress(device: str) -> dict[str, Any]:
        context = Context(models)
        return {
            name: numbers_of(pipeline.compress_tokens(load(path), "0.3", name, on(device), context=context))
            for name in ("st-simdiff", "st-simdiff+", "framefusion")
        }

    assert_same_on_both(compress)


@pytest.mark.parametrize("device", [DEVICE, "mps"])
def test_answers_to_several_questions_are_the_same_greedy_and_drawn(device, kept, models):
    def ask(device: str) -> list[str]:
        return [answer.text for answer in asked(pipeline.converse(kept, on(device), context=Context(models)))]

    assert len(set(assert_same_on_both(ask, device))) > 2


@pytest.mark.parametrize("device", [DEVICE, "mps"])
@pytest.mark.parametrize("method", INSIDE)
def test_answers_are_the_same_if_a_method_prunes_inside_the_llm(method, device, tokens, models):
    def ask(device: str) -> list[tuple[str, Sequence[int]]]:
        talk = pipeline.converse_inside(tokens, "0.3", method, on(device), context=Context(models))
        return [(answer.text, answer.alive_per_layer) for answer in asked(talk)]

    assert_same_on_both(ask, device)


def test_every_family_encodes_compresses_and_answers_the_same(family: Family, tmp_path_factory):
    clip = render(tmp_path_factory.mktemp("clip") / "clip.mp4", range(6))
    model, models = str(family.checkpoint.path), ModelCache()

    def work(device: str) -> dict[str, Any]:
        runtime, context = on(device), Context(models)
        tokens = pipeline.encode_video(
            clip, model, Sampling(frames=6), runtime, evidence=sorted(family.evidence), context=context
        )
        video = pipeline.compress_tokens(tokens, "0.3", "st-simdiff", runtime, context=context)
        talks = [pipeline.converse(video, runtime, context=context)]
        if family.name not in CLOSED:  # where nothing can be pruned inside
            talks.append(pipeline.converse_inside(tokens, "0.3", "framefusion", runtime, context=context))
        answers = [
            talk.ask(QUESTIONS[0], max_new_tokens=3, temperature=temperature).text
            for talk in talks
            for temperature in (0.0, 1.0)
        ]
        return {**tensors_of(tokens), "video": numbers_of(video), "answers": answers}

    assert_same_on_both(work)


def test_the_commands_print_the_same_on_the_device(tmp_path, capsys):
    """From a video to answers, by files and at once; `--device cuda` is the first GPU."""

    def work(device: str) -> list[Any]:
        folder = tmp_path / device[:4]
        folder.mkdir(exist_ok=True)
        many, few = folder / "clip.tokens.safetensors", folder / "clip.safetensors"
        where = ("--device", device[:4], "--dtype", "float32")
        outcomes = [
            run(capsys, "encode", CLIP, "-o", many, "--frames", 8, "--force", *where),
            run(capsys, "compress", many, "-o", few, "--ratio", "0.3", "--force", *where),
            run(capsys, "ask", few, *QUESTIONS, *where),
            run(capsys, "ask", many, QUESTIONS[0], "--inside", "fastv", "--ratio", "0.3", "--temperature", 1, *where),
            run(capsys, "ask", CLIP, QUESTIONS[1], "--frames", 8, "--attn", "eager", *where),
        ]
        assert [code for code, _, _ in outcomes] == [0] * 5, outcomes
        return [out for _, out, _ in outcomes[2:]]

    assert_same_on_both(work)


def test_bench_reports_the_same_on_the_device(tmp_path, capsys):
    methods = "st-simdiff,st-simdiff@question,fastv@inside,random"

    def bench(device: str) -> dict[str, Any]:
        path = tmp_path / f"{device[:4]}.json"
        options = ("--frames", 6, "--methods", methods, "--ratios", "0.3", "--max-new-tokens", 4, "-o", path)
        asked = ("--question", QUESTIONS[0], "--question", QUESTIONS[1])
        code, _, err = run(capsys, "bench", CLIP, *asked, *options, "--device", device, "--dtype", "float32")
        assert code == 0, err
        report = timeless(json.loads(path.read_text()))
        return {name: report[name] for name in ("rows", "clips", "asked")}

    assert_same_on_both(bench)


def test_profile_measures_on_the_device_and_waits_for_it(tmp_path):
    clip = str(render(tmp_path / "clip.mp4", range(6)))
    with second_device() as seen:
        measured = measure(make_job(video=clip, method="st-simdiff", repeats=1, runtime=on(DEVICE)))
    assert measured["machine"]["device"] == "cuda" and measured["machine"]["gpu"] == "second device 1"
    assert set(seen.waited) == {torch.device(DEVICE)}


def test_a_dummy_has_the_same_weights_on_the_device(tmp_path):
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    folder = random_weights.write_dummy(tmp_path / "dummy", "qwen2.5-vl-3b", text_config=small)

    def weights(device: str) -> torch.Tensor:
        family = open_family(str(folder))
        model = LanguageModel(family, on(device).resolve(family.checkpoint), layers=0).model
        return model.get_input_embeddings().weight[:50].detach().cpu()

    assert_same_on_both(weights)


@pytest.mark.parametrize("device", ["cpu", "cuda:0", "cuda:1", "mps"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_leaves_the_random_numbers_of_all_devices_as_they_were(device, temperature, kept, models):
    everywhere = ("cpu", "mps") if device == "mps" else ("cpu", "cuda:0", "cuda:1")
    with second_device("mps" if device == "mps" else "cuda"):
        talk = pipeline.converse(kept, on(device), context=Context(models))
        states = [place.clone() for place in _random_states(everywhere)]
        talk.ask(QUESTIONS[0], max_new_tokens=2, temperature=temperature, seed=5)
        assert all(map(torch.equal, states, _random_states(everywhere)))


def _random_states(devices: tuple[str, ...]) -> list[torch.Tensor]:
    modules = {"cpu": torch, "mps": torch.mps}
    return [
        torch.cuda.get_rng_state(device) if device.startswith("cuda") else modules[device].get_rng_state()
        for device in devices
    ]


@pytest.mark.parametrize("named", [DEVICE, "mps", "auto"])
def test_a_stopwatch_waits_for_the_device_that_it_names(named):
    for kind in {"cuda", "mps"} if named == "auto" else {torch.device(named).type}:
        with second_device(kind) as seen:
            timer = Stopwatch(named)
            timer.step("encode")
            timer.stop()
        expected = torch.device(DEVICE if named == DEVICE else f"{kind}:0")
        assert seen.waited and set(seen.waited) == {expected}


def test_a_number_of_float64_does_not_exist_on_mps():
    with second_device("mps"), pytest.raises(TypeError, match="float64"):
        torch.ones(1, device="mps").double()


@dataclass(frozen=True)
class Careless(Method):
    """Leaves what it selects on the device."""

    name: ClassVar[str] = "careless"

    def select(self, tokens, ratio, llm, step) -> Selection:
        features = tokens.features.tensor().flatten(0, 2)
        index = torch.arange(ratio.budget(tokens.grid.tokens), device=features.device)
        chosen = plain_selection(tokens, index)
        return Selection(index, chosen.kind, index, features[:, 0][index], {}, features[index], {})


def test_a_method_may_leave_its_selection_on_the_device(tokens):
    assert_same_on_both(lambda device: numbers_of(pipeline.compress_tokens(tokens, "0.3", Careless(), on(device))))


def test_the_calls_around_the_triton_kernels_stay_on_the_device(monkeypatch):
    """The kernels run in Triton's interpreter, on what is inside the tensors."""
    pytest.importorskip("triton")
    from stsimdiff_cli.graph.kernels import fused

    launch = fused._launch

    def unwrapped(kernel: Any, grid: Any, *arguments: Any) -> None:
        places = {each.device for each in arguments if isinstance(each, torch.Tensor)}
        assert places == {torch.device(DEVICE)}
        launch(kernel, grid, *map(inside, arguments))

    monkeypatch.setattr(fused, "_launch", unwrapped)
    monkeypatch.setattr(fused, "RUN", 2)
    monkeypatch.setattr(fused, "GROUPS", 2)
    with second_device():
        x = torch.rand(2, 2, 3, 5, device=DEVICE)
        norm = fused.products(x, x[0])[..., 0].sqrt()
        rows, inverse = x.flatten(0, 2), 1 / norm.flatten()
        order, start = torch.arange(12, device=DEVICE), torch.tensor([0, 5, 6, 12], device=DEVICE)
        for name in ("sums", "affinities"):
            one, other = (getattr(form, name)(rows, inverse, order, start) for form in (fused, plain))
            assert one.device == torch.device(DEVICE) and torch.allclose(one, other, rtol=1e-12)


# --- mistakes --------------------------------------------------------------------------------------------------------


class _Forgetful:
    """The module torch, in which a function forgets `device=`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, name: str) -> Any:
        real = getattr(torch, name)
        return (lambda *args, device=None, **kwargs: real(*args, **kwargs)) if name == self.name else real


def _gather(self: DenseFeatures, index: torch.Tensor) -> DenseFeatures:
    """As it is, but for `index.to(...)`."""
    return DenseFeatures(self.tensor().flatten(0, 2)[index], token_dims=1)


def _drop_to(self: LayerPruner, keep: torch.Tensor) -> Keep:
    """As it is, but for `keep.cpu()`, and short."""
    self.index = self.index[keep]
    return Keep(keep)


def _position_ids(self: LanguageModel, prompt: Prompt) -> torch.Tensor:
    """As it is, but for `to(self.device)`."""
    return prompt.positions[:, None]


def _inputs(self: LanguageModel, prompt: Prompt, tokens: Embeddings, begin: int = 0) -> dict[str, torch.Tensor]:
    """As it is, but on the first GPU."""
    made = _real_inputs(self, prompt, tokens, begin)
    return {name: tensor.to(self.device.type) for name, tensor in made.items()}


_real_inputs = LanguageModel.inputs
#: What is planted, where, under which name, and a method that comes across it.
MISTAKES: dict[str, tuple[Any, str, Any, str]] = {
    "an index left on the CPU": (DenseFeatures, "gather", _gather, "random"),
    "an index left on the device": (LayerPruner, "drop_to", _drop_to, "fastv@inside"),
    "positions left on the CPU": (LanguageModel, "position_ids", _position_ids, "st-simdiff"),
    "the first GPU instead of the one asked for": (LanguageModel, "inputs", _inputs, "st-simdiff"),
    "numpy on a GPU": (communities, "components_tensor", communities.components_scipy, "st-simdiff"),
    **{
        f"{module.__name__.rpartition('.')[2]}: torch.{name} without device=": (
            module,
            "torch",
            _Forgetful(name),
            method,
        )
        for module, name, method in (
            (attention_tap, "zeros", "fitprune"),
            (layer_loop, "arange", "fitprune"),
            (centrality, "zeros", "st-simdiff"),
            (communities, "full", "st-simdiff"),
            (edges, "arange", "st-simdiff"),
            (merging, "zeros", "framefusion"),
            (numerics, "arange", "st-simdiff"),
            (plain, "empty", "st-simdiff"),
            (visionzip, "zeros", "visionzip"),
        )
    },
}


def test_tokens_that_nobody_waited_for_are_caught(models, monkeypatch):
    monkeypatch.setattr(transfer.ToHost, "wait", lambda self: self._tensors)
    work = (CLIP, EMBEDDED, Sampling(frames=8))
    pipeline.encode_video(*work, on("cpu"), context=Context(models))
    with second_device(), pytest.raises(ModelError, match="not numbers"):
        pipeline.encode_video(*work, on(DEVICE), context=Context(models))


@pytest.mark.parametrize(("place", "name", "mistake", "method"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_caught_on_the_device_and_not_on_the_cpu(
    place, name, mistake, method, tokens, models, monkeypatch
):
    bare, _, form = method.partition("@")

    def work(device: str) -> None:
        if form:
            talk = pipeline.converse_inside(tokens, "0.3", bare, on(device), context=Context(models))
            talk.ask(QUESTIONS[0], max_new_tokens=1)
        else:
            pipeline.compress_tokens(tokens, "0.3", bare, on(device), context=Context(models))

    monkeypatch.setattr(place, name, mistake)
    work("cpu")
    with second_device(), pytest.raises((RuntimeError, TypeError), match="device"):
        work(DEVICE)
