"""What compression costs: every method at every ratio on the same clips and questions, with intervals.

plan.py -> exams.py -> sitting.py (one clip; respondent.py answers) -> journal.py -> report.py -> tables.py, plot.py
"""
