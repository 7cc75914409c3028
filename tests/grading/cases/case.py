"""One pair of a table of difficult cases, and the grades in short."""

from typing import NamedTuple

from premem_core.records import Grade

CORRECT, INCORRECT, UNPARSED = Grade.CORRECT, Grade.INCORRECT, Grade.UNPARSED
TIMEOUT = Grade.TIMEOUT


class Case(NamedTuple):
    """One pair, its expected grade, and why it is in the table."""

    grader: str
    completion: str
    reference: str
    expected: Grade
    trap: str
