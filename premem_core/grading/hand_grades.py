"""Grades set by hand: each replaces the grader's grade until it is undone.

The store keeps who set a grade, when and why.
"""

import getpass

from premem_core.errors import UsageError
from premem_core.grading import run_graders
from premem_core.records import Grade, SampleKey
from premem_core.store.database import Store
from premem_core.store.grades import override_grade, undo_override
from premem_core.store.scores import commit_inbox
from premem_core.store.shards.committed_shards import withdraw_broken

GRADES = (Grade.CORRECT, Grade.INCORRECT)  # the grades that a person may set


def set_grade(
    store: Store, run: str, key: SampleKey, grade: Grade, reason: str, who: str | None = None
) -> None:
    """Count a completion as `grade` until that is undone, whichever grader grades the run.

    Args:
        who: the person; by default the user of this process.

    Raises:
        UsageError: no reason is given, the grade is not one of GRADES, or there is no such run.
        StoreError: the run has no such completion.
        JobError: the run is being scored.
    """
    if grade not in GRADES:
        raise UsageError(
            f"a grade set by hand must be correct or incorrect, not {grade.name.lower()}"
        )
    if not reason.strip():
        raise UsageError("a grade set by hand needs a reason; say why the grader's grade is wrong")
    graders = run_graders.read_graders(store, run)
    with run_graders.not_being_scored(store, run):
        commit_inbox(store)
        withdraw_broken(store, run)
        shards = run_graders.shards_in_force(store, graders)
        override_grade(
            store, run, key, grade, reason.strip(), who or _user(), graders.in_force, shards
        )


def undo_grade(store: Store, run: str, number: int) -> None:
    """Let the grader's grade count again; the store keeps the grade that was set by hand.

    Args:
        number: the number of the grade that was set by hand, as `read_overrides` gives it.

    Raises:
        UsageError: there is no such run.
        StoreError: there is no such grade, or it is undone already.
        JobError: the run is being scored.
    """
    graders = run_graders.read_graders(store, run)
    with run_graders.not_being_scored(store, run):
        commit_inbox(store)
        withdraw_broken(store, run)
        undo_override(store, run, number, run_graders.shards_in_force(store, graders))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # in a container, the user may have no name
        return "unknown"
