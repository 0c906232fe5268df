"""Shows which tokens were kept, and why.

token_map.py                  what became of every token: a compressed file as one plain record, without torch
geometry.py                   which pixels a cell of the token grid stands for
frames.py                     finds the video and reads the frames of slots
paint.py, timeline.py         draw the grid over a frame, and the time line under it
sheet.py, clip.py, page.py    the three kinds of output: a picture, a video clip, an HTML page
blocks.py                     one slot as coloured blocks in the terminal
"""
