"""The training recipe of the embedded model that sees the ladder."""
