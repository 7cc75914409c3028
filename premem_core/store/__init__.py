"""The store: one folder that holds all results, and the only SQL.

    premem.duckdb          runs, checkpoints, examples, scores, baselines, perturbed examples, NLLs
                           without the question, grades set by hand, imported files, ledger of
                           shards, schema and version
    premem.lock            the lock for readers and writers, held while the database is open
    inbox/*.parquet        finished shards that are not committed yet
    broken/                shards that cannot be read, whose work counts as not done
    completions/run=…/     committed shards with the completions, which are read from these files
    grades/run=…/          grades that other graders gave to these completions
    checkpoints/, data/    uploaded checkpoints and data files
    jobs/                  scoring jobs: what each measures, and its state

Any number of processes may read the store. A worker never opens the database. It writes *shards*,
one Parquet file per finished piece of work, into the inbox. The next process that writes to the
database commits them: it adds their counts, and their names to the *ledger*, so that none is
counted twice. The *version* is a counter that rises by one with each commit.

Begin with `database.py` (how the database is opened and locked). The other files hold functions by
subject, whose first argument is the store.
"""
