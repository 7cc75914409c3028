"""Grades set by hand: they count in place of any grader's, with who, when and why, until undone."""

import getpass

from premem_core.errors import UsageError
from premem_core.grading import run_graders
from premem_core.records import Grade, SampleKey
from premem_core.store.database import Store
from premem_core.store.grades import override_grade, undo_override
from premem_core.store.scores import commit_inbox

GRADES = (Grade.CORRECT, Grade.INCORRECT)  # what a person may say of a completion


def set_grade(
    store: Store, run: str, key: SampleKey, grade: Grade, reason: str, who: str | None = None
) -> None:
    """Count a completion as `grade`, whoever grades the run, until it is undone.

    Args:
        who: by default the user that this process runs as.

    Raises:
        UsageError: no reason is given, the grade is not of GRADES, or there is no such run.
        StoreError: the run has no such completion.
        JobError: the run is being scored.
    """
    if grade not in GRADES:
        raise UsageError(f"a grade set by hand is correct or incorrect, not {grade.name.lower()}")
    if not reason.strip():
        raise UsageError("a grade set by hand needs a reason; say why the grader's is wrong")
    about = run_graders.read_graders(store, run)
    with run_graders.not_being_scored(store, run):
        commit_inbox(store)
        shards = run_graders.shards_in_force(store, about)
        override_grade(
            store, run, key, grade, reason.strip(), who or _user(), about.in_force, shards
        )


def undo_grade(store: Store, run: str, number: int) -> None:
    """Let the grader's grade count again; the override stays on record.

    Raises:
        UsageError: there is no such run.
        StoreError: no override of that number is in force.
        JobError: the run is being scored.
    """
    about = run_graders.read_graders(store, run)
    with run_graders.not_being_scored(store, run):
        commit_inbox(store)
        undo_override(store, run, number, run_graders.shards_in_force(store, about))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "unknown"
