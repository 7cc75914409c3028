"""A grader in one text: reading, writing, making it, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from premem_core.errors import UsageError
from premem_core.grading.grader_texts import (
    grader_label,
    parse_grader,
    with_settings,
    write_grader,
)
from premem_core.grading.graders import canonical_grader, check_grader, make_grader
from premem_core.problems.fields import AnswerRule
from premem_core.problems.thinking import ThinkingMarks
from premem_core.records import Grade


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("gsm8k", {}),
        ("gsm8k?", {}),
        ("number?tolerance=0.01&units=km", {"tolerance": "0.01", "units": "km"}),
        ("gsm8k?rule=regex:Answer: (.*)", {"rule": "regex:Answer: (.*)"}),
        (r"gsm8k?rule=regex:(\d+)$", {"rule": r"regex:(\d+)$"}),  # a plus is no space
        ("math?marks=[THINK]…[/THINK]", {"marks": "[THINK]…[/THINK]"}),
        ("math?marks=%5BTHINK%5D…", {"marks": "[THINK]…"}),
        ("gsm8k?rule=regex:a=b", {"rule": "regex:a=b"}),
        ("gsm8k?rule=regex:a%26b", {"rule": "regex:a&b"}),
        ("judge?endpoint=http://localhost:8000/v1", {"endpoint": "http://localhost:8000/v1"}),
    ],
)
def test_settings_are_read_as_in_a_url(text, settings):
    assert parse_grader(text)[1] == settings


@given(
    st.dictionaries(
        st.sampled_from(["rule", "marks", "units"]), st.text(st.characters(codec="utf-8"))
    )
)
def test_what_is_written_is_read_again(settings):
    assert parse_grader(write_grader("exact", settings)) == ("exact", settings)


def test_a_function_of_a_file_is_short_for_settings():
    assert parse_grader("a/b.py:f?rule=hash") == (
        "file",
        {"path": "a/b.py", "function": "f", "rule": "hash"},
    )
    assert grader_label("a/b.py:f") == "b.py:f"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("number?tolerance", "must be a number from 0, not ''"),
        ("number?tolerance=1&tolerance=2", "each once"),
        ("number?0.1", "cannot be read"),
        ("number?=1", "cannot be read"),
        ("magic", r"no grader 'magic'; choose one of gsm8k, math, .*file, or FILE.py:function"),
        (
            "number?tolarence=1",
            "no setting 'tolarence'; it has tolerance, relative, units, percent",
        ),
        ("number?tolerance=-1", "must be a number from 0, not '-1'"),
        ("number?percent=share", "setting 'percent' of the grader 'number' cannot be 'share'"),
        ("math?timeout=soon", "setting 'timeout' of the grader 'math' cannot be 'soon'"),
        ("exact?normalise=colour", "no normalisation 'colour'; choose some of unicode, case"),
        ("judge?model=m", r"needs the setting 'endpoint'; write it as judge\?endpoint=…"),
        ("gsm8k?rule=field:gold", "is about a column"),
        ("gsm8k?rule=last", "not a rule for finding the final answer"),
        ("gsm8k?rule=regex:(", "not a regular expression"),
        ("gsm8k?marks=think", "does not give the two marks"),
    ],
)
def test_what_is_no_grader_is_refused_in_one_sentence(text, message):
    with pytest.raises(UsageError, match=message) as refused:
        make_grader(text, allow_code=True)
    assert "\n" not in str(refused.value)


def test_the_same_settings_make_the_same_text():
    text = "number?tolerance=0.1&units=km"
    assert canonical_grader("number?units=km&tolerance=0.1") == text
    assert canonical_grader(text) == text
    assert canonical_grader("gsm8k") == "gsm8k"
    check_grader(text)


def test_callers_add_a_rule_and_marks():
    rule, marks = AnswerRule.parse("regex:Answer: (.*)"), ThinkingMarks("[THINK]", "[/THINK]")
    text = with_settings("gsm8k", rule=rule, marks=marks)
    with make_grader(text) as grader:
        assert (grader.rule, grader.marks) == (rule, marks)
    assert with_settings(text, rule=None) == text
    label = grader_label(with_settings("number", tolerance=0.01, rule="boxed"))
    assert label == "number (rule boxed, tolerance 0.01)"


CORRECT, INCORRECT, UNPARSED = Grade.CORRECT, Grade.INCORRECT, Grade.UNPARSED


@pytest.mark.parametrize(
    ("text", "completion", "reference", "grade"),
    [
        ("gsm8k?rule=regex:=> (.*)", "=> 5\n#### 6", "5", CORRECT),
        ("gsm8k?rule=regex:=> (.*)", "=> 4\n=> 5", "5", CORRECT),  # the last match
        ("gsm8k?rule=regex:=> (.*)", "#### 5", "5", CORRECT),  # the grader's own way
        ("gsm8k?rule=regex:=> (.*)", "=> five\n#### 5", "5", CORRECT),
        ("gsm8k?rule=regex:=> (.*)", "=> 5", "So\n=> 5", CORRECT),  # in a reference, too
        ("gsm8k?rule=boxed", r"#### 4 \boxed{5}", "5", CORRECT),
        ("math?rule=hash", r"\boxed{4} #### 5", "5", CORRECT),
        ("math?rule=regex:=> (.*)", "=> 5.0", "5", CORRECT),
        ("choice?rule=regex:=> (.*)", "The answer is A.\n=> B", "B", CORRECT),
        ("exact?rule=regex:=> (.*)", "one\ntwo\n=> Paris", "paris", CORRECT),
        ("number?rule=regex:=> (.*)", "=> 5 km", "5", CORRECT),
        ("json?rule=regex:=> (.*)", '=> {"a": 1}\n[]', '{"a": 1}', CORRECT),
        ("paper?rule=regex:=> (.*)", "=> 5", "6\n=> 5", CORRECT),
        ("paper?rule=regex:=> (.*)", "=> 5", "#### 5", CORRECT),
        ("exact?normalise=none", "Paris.", "Paris", CORRECT),  # unwrapped of its period
        ("exact?normalise=none", "paris", "Paris", INCORRECT),
        ("exact?normalise=case,punctuation,space", "e-mail!", "E mail", CORRECT),
        ("exact?normalise=articles,case,space", "The Louvre", "louvre", CORRECT),
        ("gsm8k?marks=<a>…</a>", "<a>#### 4</a>#### 5", "5", CORRECT),
        ("gsm8k?marks=<a>…</a>", "<a>#### 5", "5", UNPARSED),
        ("gsm8k?marks=<a>…</a>", "<think>#### 5", "5", CORRECT),  # no mark of this model
    ],
)
def test_a_rule_and_settings_do_what_they_say(text, completion, reference, grade):
    with make_grader(text) as grader:
        assert [g.grade for g in grader.grade([completion], [reference])] == [grade]


def test_a_prompt_may_have_opened_the_trace():
    with make_grader("gsm8k") as grader:
        texts = ["#### 5", "#### 4</think>#### 5"]
        grades = [
            [g.grade for g in grader.grade(texts, ["5", "5"], opened=o)] for o in (False, True)
        ]
        [one, other] = grader.grade(["#### 5"] * 2, ["5"] * 2, opened=[True, False])
    assert grades == [[CORRECT, CORRECT], [UNPARSED, CORRECT]]
    assert (one.grade, other.grade) == (UNPARSED, CORRECT)
