"""The recipe of the embedded model `tiny`, whose weights are in stsimdiff_cli/models/tiny.

train.py           the command line                                    <- read first
model.py           the network, its start values, and the export of a checkpoint
tokenizer.py       the vocabulary
labels.py          what lies under every token of a clip
clips.py           which clips a step reads, and their encoding
vision.py          first stage: what the vision tower learns; vision_stage.py runs it
language.py        second stage: the language model; language_stage.py runs it
optimizer.py       Muon for matrices, AdamW for the rest
state.py           states on disk, the log
evaluate.py        accuracy on held-out clips, by rung and kind of question
"""
