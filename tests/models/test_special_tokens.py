"""Special tokens that no attribute names, and the tokens that end an answer."""

import pytest
from tokenizers import AddedToken

from premem_core.models.special_tokens import end_ids, special_tokens
from tests.helpers import tiny

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


@pytest.fixture
def tokenizer():
    tokenizer = tiny.byte_tokenizer(bos=True)  # <s> 0, </s> 1, 256 bytes
    names = ("<|im_start|>", "<|im_end|>", "<think>", "<turn>")
    tokenizer.backend_tokenizer.add_special_tokens(list(names[:3]))
    tokenizer.backend_tokenizer.add_tokens([AddedToken(names[3], special=False)])
    return tokenizer


def test_special_tokens_are_also_those_that_only_the_file_calls_special(tokenizer):
    assert "<|im_end|>" not in tokenizer.all_special_tokens
    assert special_tokens(tokenizer) == {
        "<s>": 0,
        "</s>": 1,
        "<|im_start|>": 258,
        "<|im_end|>": 259,
        "<think>": 260,
    }


def test_a_text_ends_at_the_configured_tokens_at_eos_and_at_known_ends_of_turns(tokenizer):
    assert end_ids(tokenizer) == {1, 259}
    assert end_ids(tokenizer, 7) == {1, 7, 259}
    assert end_ids(tokenizer, [7, 8]) == {1, 7, 8, 259}


@pytest.mark.parametrize("configured", [-7, 10**30, "x", [-1, None, 2.5]])
def test_what_can_be_no_tokens_id_ends_nothing(tokenizer, configured):
    assert end_ids(tokenizer, configured) == {1, 259}


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHATML, 259),
        (CHATML.replace("<|im_end|>", " <turn>"), 261),
        (CHATML.replace("<|im_end|>", ""), None),
        ("{{ raise_exception('no') }}", None),
        ("", None),
    ],
)
def test_the_token_after_an_answer_in_the_chat_template_ends_a_turn(tokenizer, template, end):
    tokenizer.chat_template = template
    assert end_ids(tokenizer) == {1, 259} | ({end} - {None})
