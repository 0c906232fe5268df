"""The recipe of the embedded models `tiny` and `tiny-choice`, whose weights are in stsimdiff_cli/models/tiny.

train.py        the command line and the loops over steps                <- read first
tokenizer.py    the vocabulary
model.py        the network, its start values, and the export of a checkpoint
vision_tower.py the vision tower's forward pass
vision.py       first stage: labels and losses of the vision tower
examples.py     encoded clips and their questions
batches.py      packing of questions after the visual tokens
language.py     second stage: the language model's forward pass and loss
hints.py        auxiliary losses of the second stage
curriculum.py   what the second stage learns when
evaluate.py     accuracy on held-out clips, by kind of question
"""
