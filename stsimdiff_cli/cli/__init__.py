"""The command line. It imports torch, transformers and decoders only inside functions."""
