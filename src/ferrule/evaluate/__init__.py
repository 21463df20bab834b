"""Evaluation: suites of tasks, measures with intervals, and paired comparisons."""
