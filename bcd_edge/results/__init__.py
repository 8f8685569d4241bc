"""One folder of results: files written atomically, patients, reports. Knows nothing of who writes into it.

Paths of images are text here and not `pathlib.Path`; `bcd_edge.watch` says why.
"""
