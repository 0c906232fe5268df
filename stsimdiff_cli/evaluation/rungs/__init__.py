"""What `stsimdiff bench --rung` says of a run: a report for all rungs, its tables and its picture."""
