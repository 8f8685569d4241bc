"""The machine and its file system: what runs here, caches, locks, atomic writes."""
