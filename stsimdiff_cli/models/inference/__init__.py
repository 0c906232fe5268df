"""Loaded models at work: the vision encoder, the LLM, prompts, conversations, and attention read on the way."""
