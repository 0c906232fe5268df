"""The model for lmms-eval: with a stand-in for it, and in lmms-eval itself if STSIMDIFF_LMMS names a Python with it."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import av
import pytest
import torch
from av.video.reformatter import VideoReformatter
from PIL import Image

from stsimdiff_cli import pipeline
from stsimdiff_cli.cli.app import main
from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.integrations import lmms_manifest
from stsimdiff_cli.integrations.video_cache import Recipe
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.records import FrameSize
from stsimdiff_cli.video import Sampling, scan
from stsimdiff_cli.video.pyav_reader import to_rgb
from tests.support.benchmark_layouts import Asked, environment, write_egoschema, write_longvideobench, write_videomme
from tests.support.clip_factory import SAMPLES

QUESTIONS = ("What happens in this video?", "How many stars are there?", "What colour is the square?")
FRAMES = 8
MODEL = "tiny"


class StandIn:
    """The parts of lmms-eval's base class that the model uses."""

    def __init__(self):
        self._rank, self._world_size, self.task_dict = 0, 1, {}
        self.cache_hook = SimpleNamespace(add_partial=lambda *_: None)

    @classmethod
    def create_from_arg_string(cls, arg_string, additional_config=None):
        given = dict(pair.split("=", 1) for pair in filter(None, arg_string.split(",")))
        return cls(**given, **{name: value for name, value in (additional_config or {}).items() if value is not None})

    def clean(self):
        pass


@pytest.fixture
def lmms(monkeypatch, tmp_path):
    """The module, imported with the stand-in; its warnings are in `lmms.warnings`."""
    for name in ("lmms_eval", "lmms_eval.api", "lmms_eval.api.model"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["lmms_eval.api.model"], "lmms", StandIn, raising=False)
    monkeypatch.delitem(sys.modules, "stsimdiff_cli.integrations.lmms", raising=False)
    module = importlib.import_module("stsimdiff_cli.integrations.lmms")
    monkeypatch.setattr(module, "warnings", [], raising=False)
    monkeypatch.setattr(module, "_warn", module.warnings.append)
    monkeypatch.setenv("STSIMDIFF_CACHE", str(tmp_path / "cache"))
    yield module
    del sys.modules["stsimdiff_cli.integrations.lmms"]


@pytest.fixture
def encoded(monkeypatch) -> list[str]:
    """The names of the videos that are encoded."""
    names: list[str] = []
    encode = Recipe.encode

    def noted(recipe, path, *more):
        names.append(path.name)
        return encode(recipe, path, *more)

    monkeypatch.setattr(Recipe, "encode", noted)
    return names


def model_of(lmms, **arguments):
    model = lmms.StSimDiffModel(**{"model": "tiny", "frames": FRAMES, "device": "cpu"} | arguments)
    model.task_dict = {"task": {"test": [{"video": str(SAMPLES / f"{name}.mp4")} for name in ("flash", "move")]}}
    return model


def request(video: int, text: str, **generation):
    return SimpleNamespace(args=(text, generation, lambda doc: [doc["video"]], video, "task", "test"))


def answers_of(video: str, questions, method: str = "st-simdiff", ratio: str = "0.3", frames: int = FRAMES, **asking):
    """The answers of the pipeline, without cache and grouping."""
    tokens = pipeline.encode_video(SAMPLES / video, sampling=Sampling(frames=frames), runtime=Runtime(device="cpu"))
    conversation = pipeline.converse(
        pipeline.compress_tokens(tokens, ratio, method, runtime=Runtime(device="cpu")), runtime=Runtime(device="cpu")
    )
    return [conversation.ask(question, **asking).text for question in questions]


#: Requests about two videos in turn, as a benchmark may order them.
IN_TURN = [(video, text) for text in QUESTIONS for video in (1, 0)]


def requests_in_turn():
    return [request(video, text, max_new_tokens=16) for video, text in IN_TURN]


@pytest.mark.parametrize("size", [1, 2, 64])
def test_answers_are_in_the_order_of_requests(lmms, size):
    given = model_of(lmms, batch_size=size).generate_until(requests_in_turn())
    expected = {
        (number, text): answer
        for number, name in enumerate(("flash.mp4", "move.mp4"))
        for text, answer in zip(QUESTIONS, answers_of(name, QUESTIONS, max_new_tokens=16), strict=True)
    }
    assert given == [expected[each] for each in IN_TURN]
    assert len(set(given)) > 2  # else the order would not show


def test_each_video_is_encoded_once(lmms, encoded):
    model_of(lmms).generate_until(requests_in_turn())
    assert encoded == ["move.mp4", "flash.mp4"]


def test_a_second_run_takes_videos_from_the_cache(lmms, encoded):
    given = model_of(lmms).generate_until(requests_in_turn())
    del encoded[:]
    assert model_of(lmms).generate_until(requests_in_turn()) == given
    assert encoded == []


def test_without_a_cache_videos_are_encoded_again(lmms, encoded):
    for _ in range(2):
        assert len(model_of(lmms, cache_gb=0).generate_until([request(0, QUESTIONS[0])])) == 1
    assert encoded == ["flash.mp4"] * 2


def test_forms_of_a_method_work_as_in_a_bench(lmms, encoded):
    tokens = pipeline.encode_video(
        SAMPLES / "flash.mp4", sampling=Sampling(frames=FRAMES), runtime=Runtime(device="cpu")
    )
    own = [
        pipeline.converse(
            pipeline.compress_tokens(tokens, "0.1", "fastv", runtime=Runtime(device="cpu"), prompt=text),
            runtime=Runtime(device="cpu"),
        )
        for text in QUESTIONS
    ]
    inside = pipeline.converse_inside(tokens, "0.1", "fastv:k=1", runtime=Runtime(device="cpu"))
    requests = [request(0, text) for text in QUESTIONS]
    given = model_of(lmms, method="fastv@question", ratio=0.1).generate_until(requests)
    assert given == [conversation.ask(text).text for conversation, text in zip(own, QUESTIONS, strict=True)]
    given = model_of(lmms, method="fastv:k=1@inside", ratio=0.1).generate_until(requests)
    assert given == [inside.ask(text).text for text in QUESTIONS]
    assert encoded == ["flash.mp4"]  # both need all tokens, which are the same


def test_arguments_are_converted_from_what_lmms_eval_parsed(lmms):
    given = lmms.Arguments.parse({"ratio": 0.07, "frames": 32.0, "fps": None, "batch_size": "1"})
    assert (given.ratio, given.frames, given.fps) == ("0.07", 32, None)


def test_arguments_have_the_names_of_other_models_too(lmms):
    assert lmms.Arguments.parse({"pretrained": "owner/name"}).model == "owner/name"


def test_arguments_have_defaults(lmms):
    given = lmms.Arguments.parse({})
    assert (given.model, given.ratio, given.frames) == ("tiny", "0.3", 64)


@pytest.mark.parametrize(
    "spec",
    ["st-simdiff:tau_sim=0.7+layer=2", "st-simdiff:tau_sim=0.7;layer=2", '"st-simdiff:tau_sim=0.7,layer=2"'],
)
def test_parameters_of_a_method_are_separated_without_commas(lmms, spec):
    given = lmms.Arguments.parse({"method": spec})
    assert given.variant().name == "st-simdiff:tau_sim=0.7,layer=2"


@pytest.mark.parametrize("spelled", ["pool=average+times=off", "pool=average;times=off", "times=off,pool=average"])
def test_options_of_a_model_are_separated_without_commas(lmms, spelled, tmp_path):
    from tests.support.checkpoints.llava_video import llava_video_checkpoint

    folder = llava_video_checkpoint(tmp_path / "a+b=c")  # a name that is left alone
    for model, ending in ((f"{folder}:{spelled}", ":pool=average,times=off"), (str(folder), "")):
        given = lmms.Arguments.parse({"model": model})
        assert given.recipe(given.variant(), torch.device("cpu")).model == f"{folder}{ending}"


def test_bounds_of_frames_are_those_of_the_command_line(lmms):
    for bounds, size in (
        ({}, FrameSize()),
        ({"min_pixels": 1024, "max_pixels": 4096}, FrameSize(1024, 4096)),
        ({"max_pixels": "processor"}, FrameSize(processor=True)),
    ):
        given = lmms.Arguments.parse({"model": "tiny"} | bounds)
        assert given.recipe(given.variant(), torch.device("cpu")).sampling.size == size


def test_a_method_may_have_a_form(lmms):
    assert lmms.Arguments.parse({"method": "fastv:k=1@inside"}).variant().form == "inside"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("modle=tiny", r"no argument named 'modle'.*The arguments are: attn, .*model"),
        ("model=tiny,pretrained=tiny", "mean the same"),
        ("method=st-simdif", "Did you mean 'st-simdiff'"),
        ("method=uniform@inside", "does not work inside"),
        ("ratio=1.5", "outside"),
        ("frames=0", "too few"),
        ("frames=many", "not a whole number"),
        ("frames=8,fps=1", "cannot be used together"),
        ("cache_gb=nan", "not a number"),
        ("cache_gb=-1", "not possible"),
        ("batch_size=0", "too few"),
        ("model=nowhere", "no model named"),
        ("dtype=int4", "no dtype"),
        ("attn=fast", "no attention kernel"),
        ("decoder=vlc", "named 'vlc'"),
        ("decode_workers=0", "too few"),
        ("model=tiny,max_pixels=many", "many is not a number of pixels"),
        ("quantize=2bit", "no quantisation"),
        ("device=abacus", "not available"),
    ],
)
def test_wrong_arguments_end_the_command_with_a_sentence(lmms, arguments, sentence):
    with pytest.raises(SystemExit, match=sentence) as left:
        lmms.StSimDiffModel.create_from_arg_string(arguments, {"batch_size": None})
    assert left.value.__suppress_context__  # no traceback of ours


@pytest.mark.parametrize(
    ("visuals", "sentence"),
    [
        ([], "lvb_i shows no video"),
        (None, "lvb_i shows no video"),
        (["a.mp4", "b.mp4"], "2 files at once"),
        ([SimpleNamespace()] * 16, "16 objects of type SimpleNamespace"),
    ],
)
def test_a_task_without_one_video_is_refused(lmms, visuals, sentence):
    with pytest.raises(RequestError, match=rf"{sentence}.*longvideobench_val_v"):
        lmms.one_video("lvb_i", visuals)


@pytest.mark.parametrize("content", [None, b"", b"no video" * 100])
def test_a_video_that_cannot_be_read_has_empty_answers_and_is_counted(lmms, tmp_path, content):
    model = model_of(lmms)
    if content is not None:
        (tmp_path / "broken.mp4").write_bytes(content)
    model.task_dict["task"]["test"][0]["video"] = str(tmp_path / "broken.mp4")
    given = model.generate_until(requests_in_turn())
    assert [text == "" for text in given] == [video == 0 for video, _ in IN_TURN]
    said = [text for text in lmms.warnings if "empty" in text]
    assert "broken.mp4" in said[0]
    assert said[1:] == ["1 of 2 videos could not be read: 3 of 6 answers are empty."]


def test_another_error_ends_the_run_with_its_hint(lmms, monkeypatch):
    model = model_of(lmms)

    def refuse(_):
        raise RequestError("It cannot be.", "Try this.")

    monkeypatch.setattr(model, "_conversations", refuse)
    with pytest.raises(RequestError, match=r"It cannot be. Try this."):
        model.generate_until(requests_in_turn())


def test_a_run_that_was_killed_asks_only_what_it_has_no_answer_to(lmms, monkeypatch):
    whole = model_of(lmms, cache_gb=0).generate_until(requests_in_turn())
    asked: list[str] = []
    ask_all = Conversation.ask_all

    def noted(conversation, texts, **options):
        if len(asked) == 4:
            raise KeyboardInterrupt
        asked.extend(texts)
        return ask_all(conversation, texts, **options)

    monkeypatch.setattr(Conversation, "ask_all", noted)
    with pytest.raises(KeyboardInterrupt):
        model_of(lmms).generate_until(requests_in_turn())
    (kept,) = Path(os.environ["STSIMDIFF_CACHE"]).glob("answers/*.jsonl")
    with kept.open("ab") as file:
        file.write(b'["torn", "')
    del asked[:]
    assert model_of(lmms).generate_until(requests_in_turn()) == whole
    assert len(asked) == 2
    del asked[:]
    assert model_of(lmms, ratio=0.5).generate_until([requests_in_turn()[0]])
    assert model_of(lmms).generate_until([request(0, QUESTIONS[0], max_new_tokens=3)])
    assert len(asked) == 2  # other settings, other answers


def test_a_folder_of_frames_is_a_video(lmms, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    with av.open(str(SAMPLES / "flash.mp4")) as video:
        for number, frame in enumerate(video.decode(video=0)):
            Image.fromarray(to_rgb(frame, frame.width, frame.height, VideoReformatter())).save(folder / f"{number}.png")
    rate = scan(SAMPLES / "flash.mp4").fps
    model = model_of(lmms, image_fps=rate)
    model.task_dict["task"]["test"][0]["video"] = str(folder)
    asked = [request(0, text, max_new_tokens=16) for text in QUESTIONS]
    assert model.generate_until(asked) == answers_of("flash.mp4", QUESTIONS, max_new_tokens=16)


def test_any_size_of_a_batch_is_accepted(lmms):
    for given, used in (("auto", 16), ("auto:4", 16), ("8", 8), (1, 1)):
        assert model_of(lmms, batch_size=given).batch_size == used


@pytest.mark.parametrize(
    ("asked", "settings", "ignored"),
    [
        ({}, (128, 0.0), set()),
        ({"max_new_tokens": 16, "temperature": 0, "top_p": 1.0, "num_beams": 1, "do_sample": False}, (16, 0.0), set()),
        ({"temperature": 0.7, "do_sample": False, "top_p": 0.9}, (128, 0.0), set()),
        ({"temperature": 0.7, "top_p": 0.9, "until": ["\n\n"]}, (128, 0.7), {"top_p"}),
        ({"do_sample": True, "num_beams": 4, "top_k": 5}, (128, 1.0), {"num_beams", "top_k"}),
    ],
)
def test_what_a_task_asks_of_generation(lmms, asked, settings, ignored):
    given, left = lmms.generation_settings(asked)
    assert (given["max_new_tokens"], given["temperature"]) == settings
    assert set(left) == ignored


def test_wishes_that_are_not_fulfilled_are_told_once(lmms):
    model = model_of(lmms, method="uniform")
    del lmms.warnings[:]
    model.generate_until([request(0, text, num_beams=4) for text in QUESTIONS])
    assert [text.split(",")[0] for text in lmms.warnings] == ["The task asks for num_beams=4"]


def test_answers_end_where_a_task_says(lmms):
    assert lmms.cut("B. It\nflashes", "\n") == "B. It"
    assert lmms.cut("B. It\nflashes", ["flash", "It"]) == "B. "
    assert lmms.cut("\n\nB", ["\n\n"]) == "\n\nB"
    assert lmms.cut("B", None) == "B"


def test_repeats_of_a_sampled_question_differ(lmms):
    wild = {"temperature": 50.0, "do_sample": True, "max_new_tokens": 8}
    requests = [request(0, QUESTIONS[0], **wild)] * 3
    given = model_of(lmms, method="uniform").generate_until(requests)
    assert len(set(given)) > 1
    assert given == model_of(lmms, method="uniform").generate_until(requests)


def test_processes_begin_with_other_videos(lmms):
    groups = list(range(7))
    turns = [lmms.in_turn(groups, rank, 3) for rank in range(3)]
    assert [sorted(turn) for turn in turns] == [groups] * 3
    assert len({turn[0] for turn in turns}) == 3
    assert lmms.in_turn([], 1, 2) == []


def test_nothing_but_the_base_class_is_imported():
    root = str(Path(pipeline.__file__).parent.parent)
    code = (
        "import sys; from types import ModuleType as M\n"
        "for name in ('lmms_eval', 'lmms_eval.api', 'lmms_eval.api.model'): sys.modules[name] = M(name)\n"
        "sys.modules['lmms_eval.api.model'].lmms = object\n"
        "import stsimdiff_cli.integrations.lmms\n"
        "assert not {'torch', 'transformers', 'av', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": root}, check=True, timeout=60)


PYTHON = os.environ.get("STSIMDIFF_LMMS")
needs_lmms = pytest.mark.skipif(not PYTHON, reason="needs lmms-eval: STSIMDIFF_LMMS must name a Python that has it")


def run_lmms_eval(folder: Path, tasks: list[str], arguments: str) -> None:
    """lmms-eval's own runner on the data sets in a folder; what it writes is in out."""
    root = str(Path(pipeline.__file__).parent.parent)
    subprocess.run(
        [
            *(str(PYTHON), "-m", "lmms_eval", "--model", "stsimdiff", "--tasks", ",".join(tasks)),
            *("--model_args", arguments, "--batch_size", "1", "--device", "cpu"),
            *("--log_samples", "--output_path", str(folder / "out")),
        ],
        cwd=folder,
        env={**environment(folder), "PYTHONPATH": root, "STSIMDIFF_CACHE": str(folder / "cache")},
        check=True,
        timeout=300,
        capture_output=True,
    )


@pytest.mark.lmms
@needs_lmms
def test_in_lmms_eval_itself(tmp_path):
    clips = [SAMPLES / "flash.mp4", SAMPLES / "move.mp4"]
    items = [
        Asked(clip, text, ("red", "green", "blue", "yellow"), number)
        for number, (clip, text) in enumerate(zip(clips, QUESTIONS, strict=False))
    ]
    five = [item._replace(options=(*item.options, "black")) for item in items]
    tasks = [
        write_videomme(tmp_path, items),
        write_longvideobench(tmp_path, items),
        write_egoschema(tmp_path, five),
    ]
    run_lmms_eval(tmp_path, tasks, f"model=tiny,method=st-simdiff:tau_sim=0.7+layer=2,ratio=0.3,frames={FRAMES}")
    answers: set[str] = set()
    for task in tasks:
        (log,) = (tmp_path / "out").rglob(f"*_samples_{task}.jsonl")
        samples = sorted(map(json.loads, log.read_text().splitlines()), key=lambda sample: sample["doc_id"])
        assert [sample["doc_id"] for sample in samples] == [0, 1]
        for sample, item in zip(samples, items, strict=True):
            assert item.question in sample["input"]
            tokens = 32 if task.startswith("long") else 16
            method = "st-simdiff:tau_sim=0.7,layer=2"
            expected = answers_of(item.video.name, [sample["input"]], method, max_new_tokens=tokens)
            assert [sample["filtered_resps"]] == expected
            answers |= set(expected)
    assert len(answers) > 1  # else equality would say little
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 6  # each task has files of its own


@pytest.mark.lmms
@needs_lmms
def test_lmms_eval_and_our_own_evaluation_agree_item_by_item(tmp_path):
    clips = [SAMPLES / f"{name}.mp4" for name in ("flash", "move", "vanish")]
    items = [
        Asked(clip, "How many stars are there?", ("two", "three", "four", "five"), number)
        for number, clip in enumerate(clips)
    ]
    five = [item._replace(options=(*item.options, "one")) for item in items]
    tasks = {
        "videomme": write_videomme(tmp_path, items),
        "longvideobench": write_longvideobench(tmp_path, items),
        "egoschema": write_egoschema(tmp_path, five),
    }
    hf = tmp_path / "hf"
    data = {
        "videomme": hf / "videomme",
        "longvideobench": hf / "datasets/longvideobench",
        "egoschema": hf / "egoschema",
    }
    published = {"videomme": "lmms-eval/Video-MME", "longvideobench": "longvideobench/LongVideoBench"}
    run_lmms_eval(tmp_path, list(tasks.values()), f"model={MODEL},ratio=0.3,frames={FRAMES}")
    (file,) = (tmp_path / "out").rglob("*_results.json")
    scores = json.loads(file.read_text())["results"]
    extracted = 0
    for name, task in tasks.items():
        shutil.copytree(tmp_path / published.get(name, "lmms-eval/egoschema"), data[name], dirs_exist_ok=True)
        folder = tmp_path / "ours" / name
        how = ["--model", MODEL, "--frames", str(FRAMES), "--ratios", "0.3", "--device", "cpu", "-o", str(folder)]
        assert main(["eval", name, "--data", str(data[name]), *how]) == 0
        lines = [json.loads(row) for row in (folder / "items.jsonl").read_text().splitlines()]
        (log,) = (tmp_path / "out").rglob(f"*_samples_{task}.jsonl")
        samples = [json.loads(row) for row in log.read_text().splitlines()]
        theirs = sorted((sample["doc_id"], sample["input"], sample["filtered_resps"]) for sample in samples)
        mine = [line for line in lines if line["method"] == "st-simdiff"]
        assert [(prompt, raw) for _, prompt, raw in theirs] == [(line["prompt"], line["raw"]) for line in mine]
        assert len(mine) == len(clips)
        extracted += sum(line["extracted"] for line in mine)
        if all(line["extracted"] for line in mine) or name == "videomme":
            metric = {"videomme": "videomme_perception_score", "longvideobench": "lvb_acc", "egoschema": "score"}[name]
            score = scores[task][f"{metric},none"] * (1 if name == "videomme" else 100)
            report = json.loads((folder / "report.json").read_text())
            assert report["rows"][1]["accuracy"]["Overall"]["percent"] == pytest.approx(score, abs=1e-2)
    assert extracted >= 6  # else the scores were not compared


@pytest.mark.lmms
@needs_lmms
def test_lmms_eval_takes_the_entry_point():
    code = (
        "from stsimdiff_cli.integrations import lmms_manifest\n"
        "import stsimdiff_cli.integrations.lmms as ours\n"  # first: lmms-eval then reads entry points half imported
        "from lmms_eval.models import get_model\n"
        "assert get_model('stsimdiff') is ours.StSimDiffModel and not ours.StSimDiffModel.__abstractmethods__"
    )
    root = str(Path(pipeline.__file__).parent.parent)
    subprocess.run([str(PYTHON), "-c", code], env={**os.environ, "PYTHONPATH": root}, check=True, timeout=120)
    assert callable(lmms_manifest)
