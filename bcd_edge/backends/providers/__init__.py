"""Providers: a file of this package is a provider; see `bcd_edge.backends` for its interface."""
