"""Readers of image files: a file of this package is a reader, or what several share."""
