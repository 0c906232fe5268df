"""Pictures of what was kept, and why.

facts.py      a compressed file as one plain record, without torch
geometry.py   which pixels a cell of the token grid stands for
frames.py     finds the video and reads the frames of slots
paint.py      draws the grid over a frame
sheet.py, clip.py, page.py   the three kinds of picture; blocks.py a glance in the terminal
"""
