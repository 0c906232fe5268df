"""stsimdiff: offline video token compression for multimodal LLMs (ST-SimDiff)."""

__version__ = "0.1.0"
