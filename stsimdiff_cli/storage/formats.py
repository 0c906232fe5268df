"""The two file formats: what is in a tokens file and in a compressed file.

Both are safetensors files, so that the safetensors library alone can read the tensors.

    tokens file       features (T, H, W, D)   evidence: saliency (T, H, W), keys (T, H, W, heads, K)
                      deepstack (T, H, W, K, D) if the encoder passes features of several layers to the LLM
    compressed file   features (M, D)   index, kind, community (M,)   importance (M,) if pruning needed it
                      deepstack (M, K, D) likewise
                      traces for visualisation: change (T,), regions (T, H, W), whole_of (C,), centrality (M,)
    packed            features and deepstack as bytes (U8), in whose last side D numbers take fewer bytes, and
                      features.scale and deepstack.scale (F32) without that side: see packed.py

The metadata has two entries: `stsimdiff`, a JSON object (header.py) with a CRC-32 of every tensor, and
`stsimdiff.digest`, the SHA-256 of that text and of the tensors' types, shapes and places. Together they cover every
byte of a file. Files are written once, atomically, and never changed.
"""

from __future__ import annotations

TOKENS = "stsimdiff.tokens"
COMPRESSED = "stsimdiff.compressed"
#: Rises when a file can no longer be read by older versions. Keys added to the header do not count: readers ignore
#: the keys that they do not know.
VERSION = 1
#: The version of files with packed features, which older versions refuse.
PACKED_VERSION = 2
#: The metadata entries that hold the header and its digest. Files before 0.2 have no digest.
KEY = "stsimdiff"
DIGEST = "stsimdiff.digest"
#: The tensors that a file may hold: their types, and their sides by the letters of records.py. `...` stands for any
#: more sides, `*` for one of any length. A tokens file may hold evidence under other names, like the last line.
_FLOATS = ("F64", "F32", "F16", "BF16")
TENSORS: dict[str, dict[str, tuple[tuple[str, ...] | None, str]]] = {
    TOKENS: {
        "features": (_FLOATS, "T H W D"),
        "deepstack": (_FLOATS, "T H W * D"),
        "saliency": (_FLOATS, "T H W"),
        "keys": (_FLOATS, "T H W * *"),
        "": (None, "T H W ..."),
    },
    COMPRESSED: {
        "features": (_FLOATS, "M D"),
        "deepstack": (_FLOATS, "M * D"),
        "index": (("I64",), "M"),
        "kind": (("U8",), "M"),
        "community": (("I64", "I32"), "M"),
        "importance": (_FLOATS, "M"),
        "change": (_FLOATS, "T"),
        "regions": (("I32", "I64"), "T H W"),
        "whole_of": (("I32", "I64"), "*"),
        "centrality": (_FLOATS, "M"),
    },
}
REQUIRED = {TOKENS: ("features",), COMPRESSED: ("features", "index", "kind", "community")}
#: Least and most of the numbers in small tensors; all others must be finite. Kinds are two bits (records.Kind).
_MOST = (1 << 31) - 1
VALUES = {"kind": (0, 3), "community": (-1, _MOST), "regions": (-1, _MOST), "whole_of": (0, _MOST)}
#: A compressed file may claim this many tokens, or MOST_PER_KEPT for each that it keeps: what is made for all tokens
#: of a video (the prompt: 165 bytes a token, a page: 20) stays in proportion to what is in the file.
MOST_TOKENS, MOST_PER_KEPT = 1 << 22, 1000
#: The hint for files that cannot be used.
REMAKE = "Make it again with `stsimdiff encode` or `stsimdiff compress`."
