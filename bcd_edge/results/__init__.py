"""One folder of results: a journal (SQLite), a JSON record per image, a CSV per day, overlays, a page.

Several processes may commit to it at the same time, a watcher and a server for instance: see `folder.Results`. This package
does not know who they are and never looks for work.

The order of writing, for up to 64 answers, keeps each content and bundle to exactly one answer through `kill -9` and power cuts:

1. each record is written to `tmp/` and flushed;
2. the journal's write lock is taken (`BEGIN IMMEDIATE`); an answer that another process has committed meanwhile becomes a
   further name of that one, and its record is dropped;
3. records are renamed into `records/` and the folders flushed; names consist of the hashes of content and bundle;
4. rows are added to the day's CSV and flushed; the journal still has the previous length;
5. the transaction is committed and flushed: answers, names, the CSV's new length, and whatever the caller adds to it.

Killed before 5, the transaction never happened: the image is classified again, its record replaced under the same name, and the
CSV cut back to the length in the journal by whoever writes next.

Paths of images are text here and not `pathlib.Path`; `bcd_edge.watch` says why.
"""
