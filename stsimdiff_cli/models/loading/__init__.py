"""From the name of a model to loaded weights: find the checkpoint, choose device and types, load the part needed."""
