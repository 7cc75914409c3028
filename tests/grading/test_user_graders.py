"""Graders of users and of packages: what they give, who may choose them, what a change means."""

import os
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from premem_core.errors import UsageError
from premem_core.grading import graders, permissions
from premem_core.grading.built_in.exact_grader import ExactGrader
from premem_core.grading.graders import canonical_grader, describe_graders, make_grader
from premem_core.grading.regrade import grade_again, grade_in_process, regrade_run
from premem_core.grading.run_graders import read_graders
from premem_core.records import Example, Grade
from premem_core.store.database import Store
from premem_core.store.grades import grades_folder, other_graders
from premem_core.store.scores import commit_inbox
from tests.helpers.commands import premem
from tests.helpers.stores import register, write_samples

CORRECT, INCORRECT, UNPARSED = Grade.CORRECT, Grade.INCORRECT, Grade.UNPARSED
ARROW = """
def grade(completion, reference):
    answer = completion.rpartition("=>")[2].strip() if "=>" in completion else None
    return None if answer is None else answer == reference

def broken(completion, reference):
    return completion.count("=") / 0

def odd(completion, reference):
    return "yes"

def lonely(completion):
    return True

def long(completion, reference, *, example=None):
    return reference == "5" and (example is None or example.metadata["level"] == 3)
"""


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def file(tmp_path) -> Path:
    (tmp_path / "mine.py").write_text(ARROW)
    return tmp_path / "mine.py"


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path / "store")
    write_samples(store.path / "inbox", "r", register(store)[0], [0, 1])
    commit_inbox(store)
    return store


def test_a_function_grades_without_the_trace(file):
    with make_grader(f"{file}:grade", allow_code=True) as grader:
        texts = ["=> 5", "=> 6", "5", "<think>=> 6</think>=> 5", "<think>=> 5"]
        graded = grader.grade(texts, ["5"] * 5)
    assert [g.grade for g in graded] == [CORRECT, INCORRECT, UNPARSED, CORRECT, UNPARSED]


def test_a_function_can_see_the_whole_example(file):
    example, other = (Example("1", "q", "s", "5", {"level": level}) for level in (3, 4))
    with make_grader(f"{file}:long", allow_code=True) as grader:
        references = [grader.reference(example), grader.reference(other), "5"]
        graded = grader.grade(["x"] * 3, references)
    assert [g.grade for g in graded] == [CORRECT, INCORRECT, CORRECT]


@pytest.mark.parametrize(
    ("function", "what"), [("broken", "raises ZeroDivisionError"), ("odd", "returns 'yes'")]
)
def test_what_a_function_does_wrong_is_reported_once_and_unparsed(file, function, what):
    grader = make_grader(f"{file}:{function}", allow_code=True)
    with pytest.warns(UserWarning, match=rf"{what}.*for the completion 'first'") as warned:
        graded = grader.grade(["first", "second"], ["5", "5"])
    assert [g.grade for g in graded] == [UNPARSED, UNPARSED]
    assert len(warned) == 1


@pytest.mark.parametrize(
    ("text", "content", "message"),
    [
        ("none.py:grade", None, "cannot be read"),
        ("mine.py:nosuch", ARROW, "no function 'nosuch'"),
        ("mine.py:lonely", ARROW, "must take two texts, completion and reference"),
        ("mine.py:grade", "import nosuchmodule", "cannot be run.*nosuchmodule"),
        ("mine.py:grade", "def grade(", "cannot be run.*SyntaxError"),
        ("mine.py:grade", "raise ValueError", "cannot be run.*ValueError"),
        ("mine.py:grade", "raise SystemExit", "cannot be run.*SystemExit"),
    ],
)
def test_a_file_that_cannot_grade_is_refused_in_words(file, text, content, message):
    if content:
        file.write_text(content)
    with pytest.raises(UsageError, match=message):
        make_grader(str(file.parent / text), allow_code=True)


def test_only_a_command_line_may_choose_a_function_or_a_judge(file, store):
    (file.parent / "loud.py").write_text("raise SystemExit('it ran')")
    for text in (
        f"{file}:grade",
        canonical_grader(f"{file}:grade"),
        canonical_grader(f"{file.parent}/loud.py:grade"),
        "judge?endpoint=http://127.0.0.1:1/v1&model=m",
    ):
        with pytest.raises(UsageError, match="only the command line may choose it"):
            make_grader(text)
        with pytest.raises(UsageError, match="only the command line may choose it"):
            grade_again(store, "r", text)
        with pytest.raises(UsageError, match="only the command line may choose it"):
            grade_in_process(store, "r", text, lambda done, total: None)
    assert other_graders(store, "r") == []


def test_a_job_makes_the_grader_that_its_user_gave_and_no_changed_file(file):
    pinned = canonical_grader(f"{file}:grade")
    make_grader(f"{file}:grade", allow_code=True).close()
    with make_grader(pinned) as grader:
        assert grader.grade(["=> 5"], ["5"])[0].grade is CORRECT
    file.write_text(ARROW + "\n# changed")
    for allow_code in (True, False):
        with pytest.raises(UsageError, match=r"has changed since.*restore it, or grade again"):
            make_grader(pinned, allow_code=allow_code)
    with pytest.raises(UsageError, match="only the command line"):
        make_grader(canonical_grader(f"{file}:grade"))


def test_a_folder_that_cannot_be_written_only_means_that_nothing_is_remembered(file, state):
    state.write_text("not a folder")
    make_grader(f"{file}:grade", allow_code=True).close()
    assert not permissions.is_allowed(canonical_grader(f"{file}:grade"))


def test_a_run_is_graded_by_a_function_and_compared_on_the_command_line(file, store):
    place = ("--store", store.path, "--run", "r")
    done = premem("regrade", *place, "--grader", f"{file}:grade")
    assert done.returncode == 0, done.stderr
    pinned = canonical_grader(f"{file}:grade")
    assert read_graders(store, "r").in_force == pinned
    file.unlink()  # its grades are still there to be compared
    done = premem("disagreements", *place, "--grader", pinned, "--against", "as scored")
    assert done.returncode == 0, done.stderr
    assert "disagree on 2 of 2 completions" in done.stdout


def test_a_grader_with_settings_is_regraded_compared_and_counted(store):
    text = "number?tolerance=0.1&units=km"
    assert regrade_run(store, "r", text).newly_graded == 2
    assert read_graders(store, "r").in_force == text
    assert other_graders(store, "r") == [text]
    assert grade_again(store, "r", text) == 0
    long = "gsm8k?rule=regex:" + "Answer: (.*)|" * 40 + "x"
    assert regrade_run(store, "r", long).change.grader_b == long
    assert sorted(other_graders(store, "r")) == sorted([text, long])
    assert len(os.fsencode(grades_folder(store, "r", long).name)) < 200
    assert grades_folder(store, "r", "gsm8k").name == "grader=gsm8k"
    assert {text, long} <= set(read_graders(store, "r").names)


class Installed:
    """Stands for the entry points of installed packages."""

    def __init__(self, monkeypatch, **values: str) -> None:
        points = [EntryPoint(name, value, graders.GROUP) for name, value in values.items()]
        monkeypatch.setattr(graders, "entry_points", lambda group: points)


def whole_words(*, least: int = 1, case: str = "kept") -> ExactGrader:
    """A package's grader, whose settings are arguments of a function."""
    grader = ExactGrader()
    grader.name = f"words {least + 1} {case}"
    return grader


def test_a_package_can_offer_a_grader(monkeypatch):
    monkeypatch.setitem(sys.modules, "their_package", sys.modules[__name__])
    Installed(
        monkeypatch,
        words="their_package:whole_words",
        missing="their_package:nothing",
        gsm8k="their_package:whole_words",
    )
    with make_grader("words?least=2&rule=hash") as grader:
        assert grader.name == "words 3 kept"
        assert grader.grade(["#### a\nb"], ["A"])[0].grade is CORRECT
    assert make_grader("gsm8k").name == "gsm8k"  # Premem's own come first
    assert describe_graders()["words"] == "From their_package:whole_words."
    with pytest.raises(UsageError, match="'words' has no setting 'most'; it has least, case"):
        make_grader("words?most=2")
    with pytest.raises(UsageError, match="'missing' of their_package:nothing cannot be loaded"):
        make_grader("missing")
    with pytest.raises(UsageError, match="file, words, missing, or FILE"):
        make_grader("magic")
