"""The recipe of the embedded models `tiny` and `tiny-choice`; stsimdiff_cli/models/tiny holds their weights."""
