"""What a method costs: time and memory of every stage, each measurement in a process of its own.

job.py      what is measured, and what the numbers are called                   <- read first
request.py  reads what a user asks to have measured
clip.py     makes a clip where the user names no video
cell.py     measures one cell of the table: a method at a number of frames      (memory.py, machine.py)
report.py   runs the cells, computes medians and savings
plot.py     draws Figure 3 of the paper from a report
"""
