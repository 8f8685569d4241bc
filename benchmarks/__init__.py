"""Comparisons that back a claim of the documentation: `python -m benchmarks`."""
