"""The plain encoder: which tokens belong to a target, and which end a text."""

import pytest

from premem_core.errors import DataError
from premem_core.models.encoding.plain import PlainEncoder
from premem_core.models.encoding.stops import check_length
from premem_core.problems.prompts import PROMPT_COMPLETION, PromptTemplate
from premem_core.problems.thinking import ThinkingMarks
from premem_core.records import Example
from tests.helpers import tiny

BOS, EOS = 0, 1
TYPED = PromptTemplate("{question}", "{solution}", ())
THINK = ThinkingMarks("<think>", "</think>")


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


def with_blank_lines_merged():
    """A tokenizer with a token for two line ends, which a text that goes on never holds."""
    from tokenizers import pre_tokenizers
    from tokenizers.models import BPE

    tokenizer = tiny.byte_tokenizer(bos=False)
    vocabulary = {**tokenizer.get_vocab(), "ĊĊ": len(tokenizer)}
    backend = tokenizer.backend_tokenizer
    backend.model = BPE(vocab=vocabulary, merges=[("Ċ", "Ċ")])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return tokenizer


def example(question: str, solution: str = "") -> Example:
    return Example("e", question, solution, "")


def encoder(tokenizer, template=TYPED, **options) -> PlainEncoder:
    return PlainEncoder(template, tokenizer, frozenset({EOS}), **options)


def scored(target) -> list[int]:
    return [target.ids[i] for i in target.scored]


@pytest.mark.parametrize(("prompt", "target"), [("1+1?", " 2"), ("é?", "ü"), ("a", "b")])
def test_a_target_begins_after_the_prompt_and_ends_the_text(tokenizer, prompt, target):
    found = encoder(tokenizer).target(example(prompt, target))
    first = found.scored[0]
    assert tokenizer.decode(scored(found)) == target
    assert found.scored == tuple(range(first, len(found.ids)))
    assert tokenizer.decode(found.ids[:first], skip_special_tokens=True) == prompt
    assert (found.ids[0] == BOS) == (tokenizer("")["input_ids"] == [BOS])


def test_an_eos_that_a_tokenizer_appends_is_in_no_target():
    tokenizer = with_eos_appended()
    assert tokenizer("1+1? 2")["input_ids"][-1] == EOS
    assert tokenizer.decode(scored(encoder(tokenizer).target(example("1+1?", " 2")))) == " 2"


def test_without_a_prompt_the_target_begins_after_the_first_token_that_has_a_likelihood():
    for bos, expected in ((True, "abc"), (False, "bc")):  # nothing comes before the "a"
        tokenizer = tiny.byte_tokenizer(bos=bos)
        found = encoder(tokenizer).unconditional_target(example("not in it", "abc"))
        assert tokenizer.decode(scored(found)) == expected
        assert found.scored[0] == 1


@pytest.mark.parametrize(("prompt", "target"), [("1+1?", ""), ("", "")])
def test_a_pair_without_a_target_token_that_follows_another_is_refused(prompt, target):
    with pytest.raises(DataError, match="has no token that follows a prompt token"):
        encoder(tiny.byte_tokenizer(bos=False)).target(example(prompt, target))


def test_a_prompt_does_not_end_with_the_eos_that_a_tokenizer_appends():
    tokenizer = with_eos_appended()
    assert tokenizer.decode(encoder(tokenizer).prompt(example("1+1?"))) == "1+1?"
    # One that stands in the text is the user's, and stays.
    assert encoder(tokenizer).prompt(example("1+1?</s>"))[-1] == EOS
    with pytest.raises(DataError, match="a prompt has no token"):
        encoder(tokenizer).prompt(example(""))


def test_a_bos_typed_at_the_beginning_of_a_template_is_not_doubled():
    tokenizer = tiny.byte_tokenizer(bos=True)
    plain = encoder(tokenizer).target(example("1+1?", " 2"))
    for template in (PromptTemplate("<s>{question}", "{solution}", ()),
                     PromptTemplate("{bos}{question}", "{solution}", ())):  # fmt: skip
        assert encoder(tokenizer, template).target(example("1+1?", " 2")) == plain
        assert encoder(tokenizer, template).prompt(example("1+1?"))[:2] != (BOS, BOS)


def test_the_columns_prompt_and_completion_are_scored_with_an_eos_as_trl_trains_them(tokenizer):
    found = encoder(tokenizer, PROMPT_COMPLETION).target(example("1+1?", " 2"))
    assert scored(found)[-1] == EOS
    assert tokenizer.decode(scored(found)) == " 2</s>"


def test_the_eos_of_a_completion_that_has_one_is_not_doubled(tokenizer):
    found = encoder(tokenizer, PROMPT_COMPLETION).target(example("1+1?", " 2</s>"))
    assert tokenizer.decode(scored(found)) == " 2</s>"


def test_a_completion_begins_where_its_tokens_differ_from_those_of_the_prompt_alone():
    tokenizer = with_blank_lines_merged()
    given = example("1+1?\n\n", "2")
    found = encoder(tokenizer, PROMPT_COMPLETION).target(given)
    alone, whole = tokenizer("1+1?\n\n")["input_ids"], tokenizer("1+1?\n\n2</s>")["input_ids"]
    assert [alone[-1], *whole[-4:-2]] == tokenizer.convert_tokens_to_ids(["ĊĊ", "Ċ", "Ċ"])
    assert (scored(found), found.trace) == (whole[-4:], 0)
    # Any other template is divided where its texts are.
    assert tokenizer.decode(scored(encoder(tokenizer).target(given))) == "2"


def test_a_text_is_cut_as_a_trainer_cuts_it_or_refused_if_no_target_is_left(tokenizer):
    whole = encoder(tokenizer).target(example("1+1?", " 234"))
    n = len(whole.ids)
    cut = encoder(tokenizer, longest=n - 2).target(example("1+1?", " 234"))
    assert (cut.ids, cut.scored) == (whole.ids[:-2], whole.scored[:-2])
    with pytest.raises(DataError, match="before its target begins"):
        encoder(tokenizer, longest=3).target(example("1+1?", " 234"))


def test_the_trace_of_a_target_is_counted_apart(tokenizer):
    found = encoder(tokenizer, marks=THINK).target(example("1+1?", " <think>ab</think> 2"))
    assert found.trace == len(" <think>ab</think>")
    assert len(found.scored) == len(" <think>ab</think> 2")
    assert encoder(tokenizer, marks=THINK).target(example("1+1?", " 2")).trace == 0
    opened = PromptTemplate("{question}<think>", "{solution}", ())
    begun = encoder(tokenizer, opened, marks=THINK)
    assert begun.opens_trace
    assert begun.target(example("1+1?", "ab</think> 2")).trace == len("ab</think>")
    asked = example("1+1?", "ab</think> 2")
    assert [begun.leaves_open(asked, b) for b in ("", " First", "</think> First")] == [
        True, True, False,
    ]  # fmt: skip
    assert not encoder(tokenizer, marks=THINK).leaves_open(asked, " First")
    assert not encoder(tokenizer, opened).leaves_open(asked, " First")


def test_a_stop_string_that_is_an_added_token_is_found_by_its_id():
    tokenizer = tiny.byte_tokenizer(bos=True)
    stopped = PromptTemplate("{question}", "{solution}", ("\nDone.", "<s>"))
    assert encoder(tokenizer, stopped).ending.tokens == {BOS, EOS}
    assert encoder(tokenizer).ending.tokens == {EOS}


def test_a_text_longer_than_the_models_positions_is_named():
    tokenizer = tiny.byte_tokenizer(bos=False)
    ids = tokenizer("1+1?")["input_ids"]
    check_length(256, 256, ids, tokenizer)
    check_length(10**6, None, ids, tokenizer)
    with pytest.raises(DataError, match=r"the prompt '1\+1\?' .* 257 tokens, .* takes 256"):
        check_length(257, 256, ids, tokenizer)
