"""Shards: the Parquet files in which workers hand over results, and what becomes of them.

A shard waits in the *inbox* until whoever writes to the store next *commits* it. One that cannot be
used is *broken* and moved aside; its work counts as not done.
"""
