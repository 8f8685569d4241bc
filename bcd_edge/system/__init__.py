"""The machine and its file system: hardware, doctor, caches, locks, atomic writes."""
