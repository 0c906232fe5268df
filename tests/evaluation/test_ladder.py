"""Questions about the ladder of clips: twins, pairs, choices, controls, and what a bundle is."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from stsimdiff_cli import pipeline
from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.evaluation.answering import Settings
from stsimdiff_cli.evaluation.controls import CONTROLS, NO_VIDEO, REVERSED, SHUFFLED, SINGLE, frame_order
from stsimdiff_cli.evaluation.tasks import ladder
from stsimdiff_cli.evaluation.tasks.ladder import LadderClips, parse_rungs
from stsimdiff_cli.models import EMBEDDED
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.synthetic.clips import make_clip
from stsimdiff_cli.synthetic.questions import NEVER, NOTHING
from stsimdiff_cli.synthetic.rungs import RUNGS
from stsimdiff_cli.synthetic.script import EVENTS

VIEWED = ("still", "pan", "shake", "noise", "background", "crowd")  # rungs with the same script
SETTINGS = Settings(EMBEDDED, 12, runtime=Runtime("cpu"))


def bundles_of(task: LadderClips, form: str) -> list:
    return [bundle for bundle in task.bundles(task.load_samples()) if bundle.groups["form"] == form]


@pytest.fixture(scope="module")
def everything() -> LadderClips:
    """Six clips of every rung, with pairs and choices."""
    return LadderClips(RUNGS, 6, 24, 0, pairs=True, choices="longvideobench")


def test_twins_have_the_same_questions_answers_and_options(everything):
    asked = defaultdict(list)
    for sample in everything.load_samples():
        name, _, rest = sample.video.partition(" ")
        asked[name].append((rest, sample.prompt, sample.answer, sample.options))
    assert set(asked) == set(RUNGS)
    for rung in VIEWED:
        assert asked[rung] == asked["still"], rung
    for rung in ("slow", "occluders"):
        assert {rest for rest, *_ in asked[rung]} == {rest for rest, *_ in asked["still"]}
    assert asked["several"] != asked["still"]


def test_clips_made_from_one_seed_are_one_cluster(everything):
    samples = everything.load_samples()
    clips = {sample.video for sample in samples}
    assert 2 * 6 * len(RUNGS) < len(clips) <= 3 * 6 * len(RUNGS)
    assert {sample.cluster for sample in samples} == {f"seed {1_000_000 + i}" for i in range(6)}
    assert all(str(everything._asked.keys[s.video].seed) == s.cluster.split()[1] for s in samples)


def test_seeds_are_apart_from_training_and_from_other_benches_and_events_take_turns():
    keys = [LadderClips(("still", "long"), 12, 24, seed)._asked.keys.values() for seed in (0, 1)]
    first, second = ({key.seed for key in some} for some in keys)
    assert min(first | second) > 100_000 and not first & second and len(first) == 12
    assert Counter(key.kind for key in keys[0] if key.rung == "still") == dict.fromkeys(EVENTS, 2)
    assert {key.kind for key in keys[0] if key.rung == "long"} == {"flash"}


def test_a_clip_is_rendered_from_its_name_in_the_heldout_split(everything):
    names = [name for name in everything._asked.keys if name.startswith("pan 1000001")]
    assert [name.partition(", ")[2] for name in names] == ["", "reversed", "without"]
    for name, order in zip(names, ("forward", "reversed", "without"), strict=True):
        expected = make_clip(1_000_001, "pan", "heldout", 24, "vanish", order)
        assert np.array_equal(everything.render(name).frames, expected.frames)
    plain = [sample for sample in everything.load_samples() if sample.video == names[0] and not sample.options]
    known = {q.text: q.answer for q in everything.render(names[0]).questions}
    assert {sample.prompt: sample.answer for sample in plain}.items() <= known.items()


def test_answers_that_something_did_not_happen_are_rare(everything):
    answers: dict[str, Counter] = defaultdict(Counter)
    for bundle in bundles_of(everything, "question"):
        (sample,) = bundle.samples
        answers[sample.video][sample.answer] += 1
    assert all(each[NOTHING] <= 1 and each[NEVER] <= 1 for each in answers.values())
    assert min(each.total() for each in answers.values()) >= 5


def test_a_pair_is_the_same_words_about_two_clips_with_other_answers(everything):
    pairs = bundles_of(everything, "pair")
    for bundle in pairs:
        one, other = bundle.samples
        assert one.prompt == other.prompt and one.answer != other.answer
        assert other.video == f"{one.video}, {bundle.groups['order']}"
        known = everything.render(other.video).facts if one.cluster == "seed 1000000" else []
        assert not known or other.answer in [f.answer for f in known if one.prompt in f.texts()]
        assert bundle.groups["kind"] != "nothing"
    assert {bundle.groups["order"] for bundle in pairs} == {"reversed", "without"}
    assert {bundle.groups["kind"] for bundle in pairs} >= {"move", "when", "what", "vanish", "recolour", "flash"}
    alone = {bundle.samples[0].id for bundle in bundles_of(everything, "question")}
    assert {bundle.samples[0].id for bundle in pairs} <= alone  # the forward clip is not asked twice


def test_a_choice_holds_every_rotation_and_the_right_letter_moves(everything):
    choices = bundles_of(everything, "choice")
    for bundle in choices:
        count = len(bundle.samples)
        assert 3 <= count <= 5 and len({sample.prompt for sample in bundle.samples}) == count
        assert {sample.answer for sample in bundle.samples} == set("ABCDE"[:count])
        assert len({sample.options[ord(sample.answer) - 65] for sample in bundle.samples}) == 1
        assert bundle.samples[0].prompt.endswith("the given choices directly.\n")
    assert len(choices) == len(bundles_of(everything, "question"))


def test_letters_are_read_as_the_benchmark_reads_them_and_words_as_they_are(everything):
    plain = bundles_of(everything, "question")[0].samples[0]
    choice = bundles_of(everything, "choice")[0].samples[0]
    assert everything.parse("The answer is B", choice) == "B"
    assert everything.parse("red", choice) == ""
    assert everything.parse("The answer is B", plain) == "The answer is B"


def test_needles_are_counted_by_depth_and_by_length(everything):
    found = [bundle.groups for bundle in bundles_of(everything, "question") if "depth" in bundle.groups]
    assert {groups["rung"] for groups in found} == {"long"}
    assert {groups["kind"] for groups in found} <= {"flash", "order", "when", "moment", "what"}
    assert {groups["depth"] for groups in found} == {"start", "middle", "end"}
    lengths = {groups["length"] for groups in found}
    assert lengths <= {"5 to 10 min", "10 to 20 min", "20 to 30 min"} and len(lengths) > 1


def test_only_bundles_whose_questions_are_all_given_count(everything):
    samples = everything.load_samples()
    lost = bundles_of(everything, "choice")[0].samples[1].id
    assert len(everything.bundles(s for s in samples if s.id != lost)) == len(everything.bundles(samples)) - 1


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_shows_what_its_name_says(control, monkeypatch):
    task = LadderClips(("still",), 1, 12, 0)
    (sample, *_), shown = task.load_samples(), []
    monkeypatch.setattr(pipeline, "encode_frames", lambda stream, *_, **__: shown.extend(stream.chunks))
    if control == NO_VIDEO:
        with pytest.raises(ValueError, match="no video"):
            frame_order(control, 12, "x")
        return
    task.encode_control(control, sample, SETTINGS, pipeline.Context())
    frames = task.render(sample.video).frames
    (chunk,) = shown
    pixels = chunk.pixels.numpy()
    assert chunk.seconds == tuple(i / 8 for i in range(len(pixels)))
    if control == SINGLE:
        assert np.array_equal(pixels, frames[6:7])
    elif control == REVERSED:
        assert np.array_equal(pixels, frames[::-1])
    else:
        assert control == SHUFFLED
        assert not np.array_equal(pixels, frames)
        assert sorted(map(hash, map(bytes, pixels))) == sorted(map(hash, map(bytes, frames)))


def test_clips_of_one_seed_are_shuffled_alike_and_those_of_others_otherwise():
    assert frame_order(SHUFFLED, 12, "seed 5") == frame_order(SHUFFLED, 12, "seed 5") != list(range(12))
    assert frame_order(SHUFFLED, 12, "seed 5") != frame_order(SHUFFLED, 12, "seed 6")
    assert sorted(frame_order(SHUFFLED, 12, "seed 6")) == list(range(12))


def test_tokens_of_a_long_clip_have_its_times():
    task = LadderClips(("long",), 2, 24, 0)
    sample = task.load_samples()[0]
    tokens = task.encode(sample, SETTINGS, (), pipeline.Context())
    clip = task.render(sample.video)
    assert tokens.grid.source.seconds == pytest.approx(24 / clip.fps) and tokens.grid.source.seconds >= 300
    assert tokens.grid.seconds[-1] > 0.9 * tokens.grid.source.seconds


def test_rungs_are_read_in_the_order_of_the_ladder():
    assert parse_rungs("pan, still,pan") == ("still", "pan")
    assert parse_rungs("all") == parse_rungs("pan,all") == RUNGS
    with pytest.raises(RequestError, match="no rung named 'pann'") as caught:
        parse_rungs("still,pann")
    assert caught.value.hint == "Did you mean 'pan'?"


@pytest.mark.parametrize(
    ("rungs", "frames", "choices", "message"),
    [
        (("still",), 11, None, "--frames 11"),
        (("still", "long"), 23, None, "rung long"),
        (("still",), 12, "mme", "no layout"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(rungs, frames, choices, message):
    with pytest.raises(RequestError, match=message):
        LadderClips(rungs, 2, frames, 0, choices=choices)


def test_the_parts_of_the_task_are_its_questions(everything):
    samples = everything.load_samples()
    bundles = everything.bundles(samples)
    parts = everything.parts()
    groups = [parts[group] for group in ("static", "event", "time")]

    def count(part) -> int:
        return sum(all(bundle.groups.get(group) in values for group, values in part.items()) for bundle in bundles)

    assert count(parts["all"]) == sum(map(count, groups)) == len(bundles_of(everything, "question"))
    assert count(parts["pairs"]) == count(parts["pairs reversed"]) + count(parts["pairs without"]) > 0
    assert count(parts["choices"]) == len(bundles_of(everything, "choice"))
    for label in parts:
        assert sum(count(everything.parts(rung)[label]) for rung in RUNGS) == count(parts[label])
    assert ladder.PAIRS not in {group["form"][0] for group in LadderClips(("pan",), 2, 12, 0).parts().values()}
