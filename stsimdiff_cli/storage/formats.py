"""The two file formats: what is in a tokens file and in a compressed file.

Both are safetensors files, so that the safetensors library alone can read the tensors.

    tokens file       features (T, H, W, D)   evidence: saliency (T, H, W), keys (T, H, W, heads, K)
                      deepstack (T, H, W, K, D) if the encoder passes features of several layers to the LLM
    compressed file   features (M, D)   index, kind, community (M,)   importance (M,) if pruning needed it
                      deepstack (M, K, D) likewise
                      traces for visualisation: change (T,), regions (T, H, W), centrality (M,)

The metadata has one entry, `stsimdiff`: a JSON object (header.py). It is one entry because safetensors writes several
in random order, and the same input must give the same bytes. Files are written once, atomically, and never changed.
"""

from __future__ import annotations

TOKENS = "stsimdiff.tokens"
COMPRESSED = "stsimdiff.compressed"
#: Rises when a file can no longer be read by older versions. Keys added to the header do not count: readers ignore
#: the keys that they do not know.
VERSION = 1
#: The metadata entry that holds the header.
KEY = "stsimdiff"
#: The hint for files that cannot be used.
REMAKE = "Make it again with `stsimdiff encode` or `stsimdiff compress`."
