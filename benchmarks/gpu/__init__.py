"""A card, in one command: what it answers, how fast, how many, and how it trains.

A module of this package with `steps` is a part. It runs in processes of its own, step by step, so that a step that fails costs its own figures only.
"""
