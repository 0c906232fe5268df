"""Methods compared by the answers they lead to: one engine for `stsimdiff bench` and `stsimdiff eval`.

plan.py (what is compared) + tasks/ (what is asked) -> run.py -> samples_log.py (every response) -> scores.py ->
report.py (JSON) -> tables.py, plot.py
"""
