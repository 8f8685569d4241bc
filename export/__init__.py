"""Checkpoint to bundle: `python -m export bundle`, `python -m export score`. Refuses what lost accuracy."""
