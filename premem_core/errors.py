"""The exceptions that Premem raises itself.

    PrememError
    ├── DataError          a data file, or a row of it, cannot be used
    ├── CheckpointError    a run's folder or one of its checkpoints cannot be used
    ├── StoreError         the store cannot be opened, read or changed as requested
    ├── EngineError        a loaded engine cannot take another checkpoint, which a new one can
    ├── JobError           a scoring job cannot start, or cannot resume with this specification
    ├── EndpointError      a model's endpoint does not answer, or refuses the request
    ├── PushError          a tracker or the hub does not answer, or refuses what is pushed
    ├── InstallationError  a package that is needed is not installed
    └── UsageError         an argument is unknown or out of range

Each message is one sentence that says what was given, what was expected and what to do.
"""


class PrememError(Exception):
    """Base of all errors whose message is shown to the user without a traceback."""


class DataError(PrememError):
    """A data file cannot be used; the message names file, line and reason."""


class CheckpointError(PrememError):
    """A run's folder or one of its checkpoints cannot be used."""


class StoreError(PrememError):
    """The store cannot do what the call requested; nothing in it was changed."""


class EngineError(PrememError):
    """A loaded engine cannot take the weights of another checkpoint, or broke while it did.

    It must not be used any more. A new engine can load the checkpoint.
    """


class JobError(PrememError):
    """A scoring job cannot start or resume."""


class EndpointError(PrememError):
    """A model's endpoint does not answer, or refuses the request; earlier answers are kept."""


class PushError(PrememError):
    """A tracker or the hub does not answer, or refuses what is pushed; the store is unchanged."""


class InstallationError(PrememError):
    """A package that is needed is not installed; the message gives the command to install it."""


class UsageError(PrememError):
    """An argument is unknown or out of range."""


class PrememWarning(UserWarning):
    """Something was left out, and the rest went on; commands print the message as one sentence."""
