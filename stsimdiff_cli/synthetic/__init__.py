"""Rendered clips of coloured shapes whose events and answers are known. numpy only.

shapes.py (pictures) -> clips.py (short clips), long_clips.py (several events) -> questions.py, choices.py
"""
