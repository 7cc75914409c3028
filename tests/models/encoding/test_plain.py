"""Tokens: which belong to a target, which end a text, and texts that have too many."""

from types import SimpleNamespace

import pytest

from premem_core.errors import DataError
from premem_core.models.tokens import (
    check_length,
    encode_pair,
    encode_prompt,
    end_tokens,
    special_stops,
)
from tests.helpers import tiny

BOS, EOS = 0, 1


@pytest.fixture(params=[True, False], ids=["with BOS", "without BOS"])
def tokenizer(request):
    return tiny.byte_tokenizer(bos=request.param)


def with_eos_appended():
    """A tokenizer that puts an EOS behind every text."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny.byte_tokenizer(bos=False)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", EOS)]
    )
    return tokenizer


@pytest.mark.parametrize(("prompt", "target"), [("1+1?", " 2"), ("é?", "ü"), ("a", "b")])
def test_a_pair_ends_with_the_target_and_begins_it_behind_the_prompt(tokenizer, prompt, target):
    ids, first = encode_pair(tokenizer, prompt, target)
    assert tokenizer.decode(ids[first:]) == target
    assert tokenizer.decode(ids[:first], skip_special_tokens=True) == prompt
    assert (ids[0] == BOS) == (tokenizer("")["input_ids"] == [BOS])


def test_an_eos_that_a_tokenizer_appends_is_in_no_target():
    tokenizer = with_eos_appended()
    assert tokenizer("1+1? 2")["input_ids"][-1] == EOS
    ids, first = encode_pair(tokenizer, "1+1?", " 2")
    assert tokenizer.decode(ids[first:]) == " 2"


def test_without_a_prompt_the_target_begins_behind_the_first_token_that_has_a_likelihood():
    with_bos, without = tiny.byte_tokenizer(bos=True), tiny.byte_tokenizer(bos=False)
    ids, first = encode_pair(with_bos, "", "abc")
    assert (first, with_bos.decode(ids[first:])) == (1, "abc")
    ids, first = encode_pair(without, "", "abc")
    assert (first, without.decode(ids[first:])) == (1, "bc")  # nothing comes before the "a"


@pytest.mark.parametrize(("prompt", "target"), [("1+1?", ""), ("", "a"), ("", "")])
def test_a_pair_without_a_target_token_that_follows_another_is_refused(prompt, target):
    with pytest.raises(DataError, match="has no token that follows a prompt token"):
        encode_pair(tiny.byte_tokenizer(bos=False), prompt, target)


def test_a_prompt_does_not_end_with_the_eos_that_a_tokenizer_appends():
    tokenizer = with_eos_appended()
    ids = encode_prompt(tokenizer, "1+1?", frozenset({EOS}))
    assert tokenizer.decode(ids) == "1+1?"
    # One that stands in the text is the user's, and stays.
    assert encode_prompt(tokenizer, "1+1?</s>", frozenset({EOS}))[-1] == EOS
    with pytest.raises(DataError, match="a prompt has no token"):
        encode_prompt(tokenizer, "", frozenset({EOS}))


def test_a_text_ends_at_the_tokenizers_eos_and_at_those_of_the_generation_config():
    tokenizer = SimpleNamespace(eos_token_id=1)
    assert end_tokens(None, tokenizer) == {1}
    assert end_tokens(7, tokenizer) == {1, 7}
    assert end_tokens([7, 8], tokenizer) == {1, 7, 8}
    assert end_tokens(None, SimpleNamespace(eos_token_id=None)) == frozenset()


def test_a_stop_string_that_is_a_special_token_is_found_by_its_id():
    tokenizer = tiny.byte_tokenizer(bos=True)
    assert special_stops(tokenizer, ["\nDone.", "<s>"]) == {BOS}
    assert special_stops(tokenizer, ["\nDone."]) == frozenset()


def test_a_text_longer_than_the_models_positions_is_named():
    check_length(256, 256, "1+1?")
    check_length(10**6, None, "1+1?")
    with pytest.raises(DataError, match=r"the prompt '1\+1\?' .* 257 tokens, .* takes 256"):
        check_length(257, 256, "1+1?")
