"""Output formats: a file of this package is a format; see `bcd_edge.outputs` for its interface."""
