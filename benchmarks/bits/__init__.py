"""What fewer bits cost: answers on rendered clips, logits of every family, bytes, and seconds to write and read."""
