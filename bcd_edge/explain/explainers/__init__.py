"""Explainers: a file of this package is an explainer; see `bcd_edge.explain` for its interface."""
