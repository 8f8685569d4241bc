"""A large collection to a Parquet data set, with exactly one row per input.

Inputs are cut into shards in the order of the listing. A shard is listed into a file before it is worked on, and its rows are one file that is
renamed into place, so whatever dies, what is missing is known and is done again.
"""
