"""Encoding as stages that work at the same time.

encoding.py  decode, prepare, encode, write: each on another chunk of frames
overlap.py   an iterator that is made ahead of its use, and work that is done after
"""
