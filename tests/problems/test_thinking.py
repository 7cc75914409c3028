"""Thinking traces: what is the trace, what the answer, and what never became one."""

import pytest

from premem_core.errors import UsageError
from premem_core.problems.thinking import (
    KNOWN_MARKS,
    ThinkingMarks,
    find_marks,
    is_opened,
    split_thinking,
)

OTHER = ThinkingMarks("[THINK]", "[/THINK]")


@pytest.mark.parametrize(
    ("text", "opened", "answer", "finished"),
    [
        pytest.param("It is 8.", False, "It is 8.", True, id="no trace"),
        pytest.param("<think>7?</think>8", False, "8", True, id="finished"),
        pytest.param("<think></think>8", False, "8", True, id="empty"),
        pytest.param("<think>The answer is 7.", False, "", False, id="unfinished"),
        pytest.param("<think>a<think>b</think>c</think>8", False, "8", True, id="nested"),
        pytest.param("<think>a<think>b</think>7", False, "", False, id="nested, outer open"),
        pytest.param("<think>a</think>7<think>b</think>8", False, "8", True, id="two traces"),
        pytest.param("<think>a</think>7<think>b", False, "", False, id="second open"),
        pytest.param("7?</think>8", False, "8", True, id="opened by a prompt not told of"),
        pytest.param("7?</think>8", True, "8", True, id="opened by the prompt"),
        pytest.param("The answer is 7.", True, "", False, id="opened by the prompt, unfinished"),
        pytest.param("\n<think>\n7?</think>8", True, "8", True, id="opened twice"),
        pytest.param("[THINK]7?[/THINK]8", False, "8", True, id="another family"),
        pytest.param("a < b </thinking>8", False, "8", True, id="a known closing mark alone"),
    ],
)
def test_the_answer_is_what_follows_the_trace(text, opened, answer, finished):
    found = split_thinking(text, opened=opened)
    assert (found.answer, found.finished) == (answer, finished)
    assert found.trace + found.answer == text


def test_declared_marks_are_the_only_ones():
    text = "<think>a</think> x [THINK]b[/THINK]8"
    assert split_thinking(text, OTHER).answer == "8"
    assert split_thinking("<think>7", OTHER).answer == "<think>7"


@pytest.mark.parametrize("marks", KNOWN_MARKS, ids=str)
def test_every_known_family_is_found_in_solutions_and_split(marks):
    text = f"{marks.opening}\n3 or 4?\n{marks.closing}\nIt is 4."
    assert find_marks(["plain", text]) == marks
    assert split_thinking(text).answer == "\nIt is 4."


def test_marks_are_written_with_an_ellipsis():
    assert ThinkingMarks.parse("[THINK]...[/THINK]") == OTHER == ThinkingMarks.parse(str(OTHER))
    for wrong in ("", "<think>", "…</think>", "a…a"):
        with pytest.raises(UsageError, match="write them as <think>…</think>"):
            ThinkingMarks.parse(wrong)


def test_the_prompt_opened_a_trace_that_has_no_opening_mark():
    assert is_opened(["2 or 3? 3.</think>3"], [7]) == [True]
    assert is_opened(["<think>a</think>b", "still thinking"], [4, 3]) == [True, True]
    assert is_opened(["<think>a</think>b", "no trace"], [4, 0]) == [False, False]
    assert is_opened(["scored by an earlier version"], [None]) == [False]
    # A perturbation may begin the trace of one problem, and the answer of another one.
    assert is_opened(["3.</think>3", "the answer is 3"], [3, 0]) == [True, False]
    marks = ThinkingMarks("[THINK]", "[/THINK]")
    assert is_opened(["<think> is no mark here [/THINK] 3"], [6], marks) == [True]
