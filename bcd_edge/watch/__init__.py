"""Watching a folder: every image that arrives gets one answer, through power cuts, half copies and full disks.

A file goes `seen` -> `taken` -> `done`, or to `failed` (tried again later) and in the end `quarantined` (a person should
look), or it is `gone` before it was read. An answer belongs to the bytes of a file and to a bundle, not to a name.

The order that nothing is lost or doubled by, for a batch of answers:

1. results are written under temporary names, flushed to the disk, and renamed; their names are made of the hashes;
2. rows are added to the day's CSV and flushed; the journal still has the length from before;
3. one transaction of the journal, flushed: answers, names, the CSV's new length, where inputs will be moved;
4. inputs are moved or deleted, and the journal told.

Ended at any moment, the next start finds either no row (the image is classified again, and the result with the same name
replaced; what the CSV has beyond its length is cut off) or the row, and only the moving is left to do.

Paths of images are text here and not `pathlib.Path`, which interns the parts of every path: in a watcher that runs for months
the interpreter's table of them would be copied again and again, and grow for ever before Python 3.12.6 (python/cpython#113993).
"""
