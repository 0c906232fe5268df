"""Numbers of parameters of published checkpoints."""

#: As counted in the published weights; of the LLaVA models only 8.03 and 0.9 billion are known, from their cards, and
#: of NVILA nothing.
PARAMETERS = {
    "llava-video-7b": 8_030_348_832,
    "nvila-8b-video": 8_040_815_520,
    "llava-onevision-0.5b": 893_675_552,
    "qwen2.5-vl-7b": 8_292_166_656,
    "qwen2.5-vl-3b": 3_754_622_976,
    "internvl3-8b": 7_944_373_760,
    "smolvlm2-2.2b": 2_246_784_880,
    "smolvlm2-256m": 256_484_928,
    "qwen3-vl-8b": 8_767_123_696,
}
