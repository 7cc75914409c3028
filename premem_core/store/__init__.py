"""The store: one folder that holds all results, and the only SQL.

    premem.duckdb          runs, checkpoints, examples, scores, baselines, perturbed examples,
                           grades set by hand, shard ledger, schema and version
    premem.lock            reader/writer lock around every open, query and close of the database
    inbox/*.parquet        finished shards that wait to be committed
    completions/run=…/     committed shards, completions included, read in place
    checkpoints/, jobs/    uploaded checkpoints; what each scoring job was asked and where it stands

Any number of processes may read. A worker never opens the database: it writes *shards*, one
Parquet file per finished piece of work, into the inbox, and the next process that writes commits
them exactly once, by the *ledger* of shard names. The *version* is a counter that each commit
raises.

Begin with `database.py` (how it is opened and locked); the other files are functions by subject
whose first argument is the store.
"""
