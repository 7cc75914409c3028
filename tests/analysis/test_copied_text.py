import pytest
from hypothesis import given
from hypothesis import strategies as st

from premem_core.analysis.copied_text import copied_share, mark_copied, mark_matches

WORDS = st.lists(st.sampled_from(["a", "b", "C", "$3*4=", "<<12>>", "\n", ". "])).map(" ".join)


@given(WORDS, WORDS)
def test_the_passages_are_the_text_itself(text, other):
    assert "".join(p.text for p in mark_matches(text, other)) == text
    assert all(p.text for p in mark_matches(text, other))


@given(WORDS)
def test_a_text_is_wholly_in_itself(text):
    assert copied_share(mark_matches(text, text)) == (1.0 if text.strip() else 0.0)


def test_few_words_in_common_are_no_copy():
    assert copied_share(mark_copied("She has 3 pens", "He has 3 books")) == 0
    half = mark_copied("one two three four five six seven eight", "x one two three four y")
    assert [p.text for p in half if p.marked] == ["one two three four"]
    assert copied_share(half) == pytest.approx(0.5)
