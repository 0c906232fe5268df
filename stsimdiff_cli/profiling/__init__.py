"""What a method costs: time and memory of every stage, each measurement in a process of its own.

job.py      one measurement, and what its numbers are called                        <- read first
request.py  parses the lists of frames and methods
clip.py     writes a clip if the user names no video
cell.py     measures one cell of the table: a method at a number of frames          (memory.py)
report.py   runs the cells in order, computes medians and savings
plot.py     draws Figure 3 of the paper from a report
"""
