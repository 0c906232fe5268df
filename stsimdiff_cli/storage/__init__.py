"""Files: the two formats, tensors read and written by rows, writing in one step, and a cache on disk."""
