"""Everything that Premem raises on purpose.

    PrememError
    ├── DataError          a data file, or a row of it, cannot be used
    ├── CheckpointError    a run's folder or one of its checkpoints cannot be used
    ├── StoreError         the store refuses: another schema, a conflict with what it holds
    ├── JobError           a scoring job cannot start, or cannot resume with this specification
    ├── EndpointError      a model's endpoint does not answer, or refuses
    └── UsageError         an argument is unknown or out of range

A message is one sentence for a person: what was given, what was expected, what to do.
"""


class PrememError(Exception):
    """Base of all errors that are shown to a person without a traceback."""


class DataError(PrememError):
    """A data file cannot be used; the message names file, line and reason."""


class CheckpointError(PrememError):
    """A run's folder or one of its checkpoints cannot be used."""


class StoreError(PrememError):
    """The store refuses what was asked; nothing was changed."""


class JobError(PrememError):
    """A scoring job cannot start or resume."""


class EndpointError(PrememError):
    """A model's endpoint does not answer, or refuses; what it answered before is kept."""


class UsageError(PrememError):
    """An argument is unknown or out of range."""
