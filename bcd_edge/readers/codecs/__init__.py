"""Decoders of file formats, a module each.

A module has `SUFFIXES`, in lower case, `matches(data)` by the first `bcd_edge.readers.raster.HEAD_BYTES`, and `decode(data)` to upright
uint8 RGB; where more than pixels is read of a format, also `metadata(data)`, which raises nothing. Modules import their libraries on
use: the suffixes of all are asked for before the first image is read.
"""
