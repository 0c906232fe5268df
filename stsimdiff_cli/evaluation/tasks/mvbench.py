"""MVBench (Li et al., CVPR 2024): 20 subtasks of 200 questions about short videos, two to five options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

from .base import Part, Sample, letters
from .files import Row, find, read_rows, unique
from .mvbench_rules import FRAME_RATE, MOST_OPTIONS, AskedAsMVBench, part, prompt

_PATTERNS = (
    "json/*.json",
    "*.json",
    "mvbench_video/json/*.json",
    "hub/datasets--*--MVBench/snapshots/*/json/*.json",
    "*/MVBench/json/*.json",
)
#: Where the videos of each subtask are in the data set's revision `video`, which lmms-eval reads.
SUBTASKS = {
    "action_sequence": "star/Charades_segment",
    "action_prediction": "star/Charades_segment",
    "action_antonym": "ssv2_video_mp4",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "unexpected_action": "FunQA_test/test",
    "object_existence": "clevrer/video_validation",
    "object_interaction": "star/Charades_segment",
    "object_shuffle": "perception/videos",
    "moving_direction": "clevrer/video_validation",
    "action_localization": "sta/sta_video_segment",
    "scene_transition": "scene_qa/video",
    "action_count": "perception/videos",
    "moving_count": "clevrer/video_validation",
    "moving_attribute": "clevrer/video_validation",
    "state_change": "perception/videos",
    "fine_grained_pose": "nturgbd_convert",
    "character_order": "perception/videos",
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/video_fps3_hq_segment",
    "counterfactual_inference": "clevrer/video_validation",
}
#: Folders of videos that were cut, and those of revision `main`, whose videos (TVQA's: folders of frames) are whole.
_CUT = {
    "star/Charades_segment": "star/Charades_v1_480",
    "sta/sta_video_segment": "sta/sta_video",
    "tvqa/video_fps3_hq_segment": "tvqa/frames_fps3_hq",
}
#: Folders of videos that were only written in another format.
_CONVERTED = {"ssv2_video_mp4": "ssv2_video", "nturgbd_convert": "nturgbd"}
_MORE = "data0613"  # an archive of videos that the others lack
#: What follows a video's name where it is cut (_11.1_19.6) or a file.
_ENDING = re.compile(r"(_[\d.]+_[\d.]+)?(\.[A-Za-z]\w*)?$")


class _Shown(NamedTuple):
    """What a question shows: a path, and the seconds of it (None for all)."""

    path: Path
    part: tuple[float, float] | None


class MVBench(AskedAsMVBench):
    """Questions of OpenGVLab/MVBench, of all subtasks whose file is there."""

    name: ClassVar[str] = "mvbench"
    title: ClassVar[str] = "MVBench"
    citation: ClassVar[str] = "Li et al., CVPR 2024"
    lmms_task: ClassVar[str] = "mvbench"
    columns: ClassVar[dict[str, Part]] = {"Overall": {}}
    no_subtitles: ClassVar[str] = "MVBench has no subtitles."

    def load_samples(self, data: Path) -> list[Sample]:
        """All questions, from json/SUBTASK.json.

        `data` is a snapshot of the data set (revision main or video), its folder json, the folder that lmms-eval has as
        HF_HOME (the snapshot is in hub/, the videos in mvbench_video/), or one that holds OWNER/MVBench. Videos are
        looked for as revision `video` has them, where those of five subtasks are cut to the part that is asked about,
        and then as `main` has them: there the part is shown that `start` and `end` name. A folder of frames has 3 a
        second.
        """
        published = find(data, _PATTERNS, self.title, "OpenGVLab/MVBench", SUBTASKS)
        bases = dict.fromkeys((data, data / "mvbench_video", published.home, published.home.parent))
        roots = [root for base in bases for root in (base, base / "video")]
        roots = [place for root in roots for place in (root, root / _MORE) if place.is_dir()]
        return unique([_sample(row, roots) for row in read_rows(published.files)], published)


def _sample(row: Row, roots: list[Path]) -> Sample:
    subtask = row.file.stem
    options = row.texts("candidates", 2, MOST_OPTIONS)
    answer = row.text("answer")
    if answer not in options:
        raise row.wrong(f"has {answer!r} in the column 'answer', which is none of its options")
    folder, name = SUBTASKS[subtask], row.text("video")
    shown = _find(row, folder, name, roots)
    start, end = shown.part or (None, None)
    source = f"{folder.partition('/')[0]}/{_bare(name) if folder in _CUT else name}"
    return Sample(
        id=f"{subtask}-{row.number - 1}",
        video=f"{folder}/{name}" + ("" if shown.part is None else f" from {start} to {end} s"),
        path=shown.path,
        prompt=prompt(row.text("question"), options),
        options=tuple(options),
        answer=letters(MOST_OPTIONS)[options.index(answer)],
        groups={"subtask": subtask},
        source=source,
        start=start,
        end=end,
        image_fps=FRAME_RATE if shown.path.is_dir() else None,
    )


def _find(row: Row, folder: str, name: str, roots: list[Path]) -> _Shown:
    """The video of a row; where revision `video` has it, if it is not there."""
    asked = part(row.seconds("start"), row.seconds("end")) if folder in _CUT else None
    places = [_Shown(root / folder / each, None) for each in _names(row, folder, name) for root in roots]
    whole = _CUT.get(folder) or _CONVERTED.get(folder)
    if whole:
        places += [_Shown(root / whole / name, asked) for root in roots]
    return next((place for place in places if place.path.exists()), places[0])


def _names(row: Row, folder: str, name: str) -> Iterator[str]:
    """What the video of a row may be called in the folder of revision `video`: rows of `main` name other files."""
    yield name
    start, end = row.values.get("start"), row.values.get("end")
    if folder in _CUT and start is not None and end is not None:
        yield f"{_bare(name)}_{start}_{end}.mp4"
    if folder in _CONVERTED:
        yield f"{_bare(name)}.mp4"


def _bare(name: str) -> str:
    return _ENDING.sub("", name, count=1)


TASK = MVBench()
