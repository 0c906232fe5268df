"""Accuracies that the ST-SimDiff paper (Luo et al., ICLR 2026) publishes: its Tables 1, 2 and 4, in percent.

Methods have our names: the paper's upper bound is vanilla at ratio 1. What a table leaves open is absent. Figures are
as printed, also the one that cannot be right: FastV at 0.5 on NVILA has 58.9 on Video-MME, but its columns have the
mean 59.8.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..models.families.base import Family

#: Columns of all three tables, in their order: benchmark and column as its Task names it.
COLUMNS = (
    *(("videomme", column) for column in ("Short", "Medium", "Long", "Overall")),
    *(("longvideobench", column) for column in ("Relation", "Perception", "Overall")),
    ("egoschema", "Overall"),
)
#: Model, table, frames: then method, ratio and the columns; "-" where the paper has none.
_TABLES = {
    ("LLaVA-Video-7B", 1, 64): """
        vanilla      1      -     -     -  63.3     -     -  58.2  57.3
        fastv        0.3  68.2  58.6  51.2  59.3  48.0  59.9  53.5  51.3
        prumerge     0.3  70.2  57.3  52.2  59.9  49.6  60.5  54.7  50.9
        fastervlm    0.3  71.3  57.6  51.4  60.1  51.0  61.3  55.8  52.6
        visionzip    0.3  68.4  55.9  50.4  58.3  46.9  60.3  53.2  53.0
        framefusion  0.3  74.0  59.8  50.0  61.3  49.7  63.3  56.0  53.0
        st-simdiff   0.3  74.7  61.9  53.0  63.2  52.5  63.2  57.5  56.0
        fastv        0.5  73.9  61.4  51.3  62.2  50.1  62.2  55.7  54.7
        prumerge     0.5  72.3  58.7  52.8  61.3  51.4  63.2  56.9  54.6
        fastervlm    0.5  74.0  59.2  51.8  61.7  51.3  62.2  56.4  56.2
        visionzip    0.5  72.6  57.7  51.6  60.6  51.3  63.2  56.8  54.2
        framefusion  0.5  74.6  61.2  52.0  62.6  51.7  64.2  57.6  55.8
        st-simdiff   0.5  76.2  62.4  52.7  63.8  52.3  64.3  57.9  57.3
    """,
    ("NVILA-8B-Video", 2, 64): """
        vanilla      1      -     -     -  61.5     -     -  56.3  52.9
        fastv        0.3  69.4  55.3  48.8  57.9  50.8  55.6  53.0  49.7
        prumerge     0.3  71.0  53.7  49.9  58.2  49.3  58.1  53.4  47.5
        fastervlm    0.3  72.6  56.9  51.0  60.1  48.7  57.8  53.0  49.3
        visionzip    0.3  71.4  56.2  49.7  59.1  46.3  56.2  50.9  48.9
        framefusion  0.3  72.1  55.7  48.7  58.8  51.3  59.3  54.9  51.3
        st-simdiff   0.3  73.3  57.7  49.7  60.2  51.7  59.2  55.2  51.7
        fastv        0.5  71.9  58.3  49.3  58.9  49.5  58.8  53.9  50.2
        prumerge     0.5  71.2  54.8  46.8  57.6  49.7  58.7  53.9  48.9
        fastervlm    0.5  74.6  57.8  50.1  60.8  48.5  58.1  53.0  50.5
        visionzip    0.5  72.8  58.1  50.6  60.5  50.4  58.9  54.4  50.3
        framefusion  0.5  72.7  57.2  48.3  59.4  51.0  59.2  54.8  52.6
        st-simdiff   0.5  73.9  59.7  51.4  61.7  52.3  61.3  56.5  52.5
    """,
    ("Qwen2.5-VL-7B", 4, 64): """
        vanilla      1    74.2  62.7  51.8  62.9  54.2  64.8  59.2  63.0
        st-simdiff   0.3  73.8  61.7  51.8  62.4  52.2  62.1  56.8  62.7
        st-simdiff   0.5  74.2  62.1  52.2  62.9  54.2  63.2  58.4  62.7
    """,
    ("Qwen2.5-VL-7B", 4, 128): """
        vanilla      1    77.4  65.8  56.1  66.4  56.2  65.1  60.4  63.9
        st-simdiff   0.3  75.4  64.7  55.2  65.1  53.1  65.0  58.6  64.4
        st-simdiff   0.5  76.8  66.3  55.8  66.3  54.9  65.3  59.8  64.5
    """,
}
#: The paper's models by family, with the sizes of their LLM: width and layers.
_MODELS = {
    ("llava_video", 3584, 28): "LLaVA-Video-7B",
    ("nvila", 3584, 28): "NVILA-8B-Video",
    ("qwen2_5_vl", 3584, 28): "Qwen2.5-VL-7B",
}


@dataclass(frozen=True)
class Published:
    """One row of a table."""

    model: str
    table: int
    frames: int  # sampled from each video
    method: str
    ratio: str  # of tokens kept, as users write it
    scores: dict[str, dict[str, float]]  # percent by benchmark and column


def rows(model: str, frames: int) -> list[Published]:
    """The paper's rows for one of its models at that many frames, in its order; [] if it has none."""
    return [
        _row(name, table, count, line.split())
        for (name, table, count), block in _TABLES.items()
        if (name, count) == (model, frames)
        for line in block.strip().splitlines()
    ]


def which(family: Family) -> str | None:
    """Which of the paper's models a checkpoint is, by its family and the sizes of its LLM; None for any other.

    Fine-tunings of one size cannot be told apart, but NVILA-Lite-8B can: it merges 3 x 3 patches into a token. A
    dummy is not one of the paper's models.
    """
    if family.checkpoint.dummy or "3x3" in getattr(family.config, "projector_type", ""):
        return None
    text = family.config.get_text_config()
    return _MODELS.get((family.checkpoint.family, text.hidden_size, text.num_hidden_layers))


def _row(model: str, table: int, frames: int, cells: list[str]) -> Published:
    method, ratio, *values = cells
    scores: dict[str, dict[str, float]] = {}
    for (benchmark, column), value in zip(COLUMNS, values, strict=True):
        if value != "-":
            scores.setdefault(benchmark, {})[column] = float(value)
    return Published(model, table, frames, method, ratio, scores)
