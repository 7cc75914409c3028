"""Training batches: labels are the target, padding is masked."""

import copy
import itertools

import pytest
from tokenizers.processors import TemplateProcessing

from premem_core.demo.pretraining import build_tokenizer
from premem_core.demo.word_problems import make_problems, pretraining_texts
from premem_core.errors import DataError
from premem_core.models.encoding.encoder import make_encoder
from premem_core.models.encoding.training_batch import IGNORED, collate, encode
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Example

EXAMPLES = make_problems(48, seed=1)
TEMPLATE = PromptTemplate()


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(itertools.islice(pretraining_texts(0), 2000))


@pytest.mark.parametrize("special", ["$A", "<|end|> $A", "$A <|end|>", "<|end|> $A <|end|>"])
def test_labels_are_exactly_the_target_whatever_the_tokenizer_adds(tokenizer, special):
    changed = copy.deepcopy(tokenizer)
    changed.backend_tokenizer.post_processor = TemplateProcessing(
        single=special, special_tokens=[("<|end|>", 0)]
    )
    for example in EXAMPLES[:10]:
        row = encode(make_encoder(TEMPLATE, changed, frozenset()), example)
        assert len(row["input_ids"]) == len(row["labels"])
        trained = [label for label in row["labels"] if label != IGNORED]
        assert changed.decode(trained) == TEMPLATE.fill(example)[1]
        assert trained == [
            i for i, label in zip(row["input_ids"], row["labels"], strict=True) if label != IGNORED
        ]


def test_padding_is_neither_attended_to_nor_trained_on(tokenizer):
    encoder = make_encoder(TEMPLATE, tokenizer, frozenset())
    rows = [encode(encoder, e) for e in EXAMPLES[:2]]
    short, long = sorted(rows, key=lambda row: len(row["input_ids"]))
    batch = collate([short, long])
    n = len(short["input_ids"])
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape
    assert batch["attention_mask"].sum(1).tolist() == [n, len(long["input_ids"])]
    assert set(batch["labels"][0, n:].tolist()) <= {IGNORED}


def test_a_text_longer_than_the_model_takes_is_named(tokenizer):
    encoder = make_encoder(TEMPLATE, tokenizer, frozenset())
    row = encode(encoder, EXAMPLES[0])
    n = len(row["input_ids"])
    assert encode(encoder, EXAMPLES[0], longest=n) == row
    with pytest.raises(DataError, match=f"has {n} tokens and the model takes {n - 1}"):
        encode(encoder, EXAMPLES[0], longest=n - 1)


def test_an_example_without_a_target_is_named(tokenizer):
    nothing = Example("e7", "1+1?", "", "2")
    encoder = make_encoder(PromptTemplate(target="{solution}"), tokenizer, frozenset())
    with pytest.raises(DataError, match="example 'e7' cannot be trained on: the target"):
        encode(encoder, nothing)


def test_rows_are_padded_on_the_right_and_keep_their_tokens():
    rows = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8], "labels": [8]}]
    batch = collate(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [8, -100, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert {str(tensor.dtype) for tensor in batch.values()} == {"torch.int64"}
