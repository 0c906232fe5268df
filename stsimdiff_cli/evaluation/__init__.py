"""The paper's benchmarks, from data on disk.

tasks/ (what is asked) -> run.py -> lines.py (every answer) -> report.py -> tables.py, published.py -> results.py
"""
