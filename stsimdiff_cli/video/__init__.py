"""Reads videos: scans a file, chooses frames, and delivers exactly those.

scan = scan(path)                     every packet read once, nothing decoded but one frame
indices = choose_frames(scan, 32)     uniform, or at a rate, or of a part
for frames in read_frames(path, scan, indices): ...
"""

from .choosing import choose_frames
from .reading import READERS, decoder_for, read_frames
from .scanning import Scan, scan
from .source import source_of

__all__ = ["READERS", "Scan", "choose_frames", "decoder_for", "read_frames", "scan", "source_of"]
