"""Watching a folder: every image that arrives gets one answer, through power cuts, half copies and full disks.

`scanner` finds files, `queue` keeps them, `reader` reads what is due, `watcher` has it classified, `batch` commits answers through
`bcd_edge.results`, `disposal` moves or deletes answered inputs, `housekeeping` writes heartbeat and page.

A file goes `seen` -> `taken` -> `done`, or to `failed` (tried again later) and in the end `quarantined` (needs attention), or it
is `gone` before it was read. An answer belongs to the bytes of a file and to a bundle, not to a name.

The order of writing is that of `bcd_edge.results`; the transaction that commits answers also marks their files `done` and notes
the inputs that are to be moved or deleted. That follows, and is noted in turn. Killed at any moment, the next start finds either
no answer, and classifies the image again, or the answer, and only the moving is left to do.

Paths of images are text here and not `pathlib.Path`, which interns the parts of every path: in a watcher that runs for months
the interpreter's table of them would be copied again and again, and grow for ever before Python 3.12.6 (python/cpython#113993).
"""
