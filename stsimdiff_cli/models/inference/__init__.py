"""Loaded models at work: the vision encoder, the LLM, prompts, conversations, and reading attention weights."""
