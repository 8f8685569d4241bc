"""Whole slides: tiles of their tissue through the classifier, an answer for the slide, and files to look at."""
