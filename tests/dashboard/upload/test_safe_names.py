"""Which names an upload may have; the requests that carry them are in test_routes.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from premem_core.dashboard.upload.safe_names import MAX_NAME_BYTES, shown_name, why_unsafe


@pytest.mark.parametrize(
    "name", ["checkpoint-58", "llama 1e-5, seed 2", "é", "a.b.json", "console.txt", "x" * 200]
)
def test_a_usual_name_is_accepted(name):
    assert why_unsafe(name) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        (" \t", "empty"),
        ("é" * (MAX_NAME_BYTES // 2 + 1), "longer than 200 bytes"),
        (".hidden", "start with a dot"),
        ("..", "start with a dot"),
        (" a", "space"),
        ("a.", "end with a dot"),
        ("a/b", "not allowed"),
        ("a\\b", "not allowed"),
        ("a:b", "not allowed"),
        ("a\u202eb", "not allowed"),  # text after it is written from right to left
        ("con", "not allowed"),
        ("LPT1.txt", "not allowed"),
        ("\ud800", "not valid text"),
    ],
)
def test_a_name_that_a_file_system_or_a_reader_could_mistake_is_refused(name, reason):
    assert reason in why_unsafe(name)


@given(st.text())
def test_a_name_in_a_message_is_ascii_and_short(name):
    assert shown_name(name).isascii()
    assert len(shown_name(name)) < 900


def test_a_long_name_is_cut_in_a_message():
    assert shown_name("x" * 81) == ascii("x" * 77 + "…")
    assert shown_name("x" * 80) == ascii("x" * 80)
