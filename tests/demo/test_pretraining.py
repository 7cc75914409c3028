"""The demo's tokenizer."""

import itertools

import pytest

from premem_core.demo.pretraining import build_tokenizer
from premem_core.demo.word_problems import make_problems, pretraining_texts
from premem_core.problems.prompts import PromptTemplate

EXAMPLES = make_problems(48, seed=1)
TEMPLATE = PromptTemplate()


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(itertools.islice(pretraining_texts(0), 2000))


def test_the_tokenizer_gives_back_every_text(tokenizer):
    texts = ["".join(TEMPLATE.fill(e)) for e in EXAMPLES]
    texts += ["a  b\n\n$x^2$ – naïve 😀 12.5%", "Perturbed?\nAnswer: We know that", "#### -3"]
    for text in texts:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_token_of_the_tokenizer_is_a_word_or_one_digit_and_none_crosses_into_the_target(
    tokenizer,
):
    for example in EXAMPLES:
        prompt, target = TEMPLATE.fill(example)
        encoded = tokenizer(prompt + target, return_offsets_mapping=True)
        assert len(prompt) in {start for start, _ in encoded["offset_mapping"]}
        tokens = [tokenizer.decode([i]) for i in encoded["input_ids"]]
        assert not [t for t in tokens if sum(c.isdigit() for c in t) > 1]
        assert len(tokens) < 1.3 * len((prompt + target).split()) + 60
