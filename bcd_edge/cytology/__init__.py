"""Cytology: a table of graded cells to records, with a bundle of kind `tabular`."""
