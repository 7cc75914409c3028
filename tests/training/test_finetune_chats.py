"""`premem finetune` of conversations: trained with the chat template, scored without any option."""

import json
from pathlib import Path

import pytest

from premem_core.models.checkpoints import read_run
from premem_core.models.encoding.chat_template_files import read_chat_template
from premem_core.models.encoding.encoder import make_encoder
from premem_core.models.encoding.training_batch import IGNORED, encode
from premem_core.problems.examples import read_examples
from premem_core.problems.prompts import ChatTemplate
from premem_core.store.database import Store
from premem_core.store.scores import read_scores
from tests.helpers import tiny
from tests.helpers.chat_templates import CHATML, MARKED, chat_tokenizer
from tests.helpers.commands import premem

SETTINGS = (
    *("--epochs", 30, "--batch-size", 4, "--gradient-accumulation", 1, "--warmup-steps", 2),
    *("--learning-rate", 5e-3, "--checkpoint-every", 15),
)
SHORT = ("--epochs", 2, "--batch-size", 4, "--gradient-accumulation", 1, "--warmup-steps", 2)


def talk(a: int, b: int) -> list[dict[str, str]]:
    """A system prompt, an earlier turn, and a solution with a thinking trace."""
    said = f"<think>{a} by {b} is {a * b}.</think>{a}*{b} = {a * b}\n#### {a * b}"
    return [
        {"role": "system", "content": "Multiply."},
        {"role": "user", "content": "Ready?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": f"{a} times {b}?"},
        {"role": "assistant", "content": said},
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"), CHATML)


def save_base(folder: Path, template: str | None) -> Path:
    tokenizer = chat_tokenizer(template)
    tiny.save_base(folder, vocab_size=len(tokenizer), max_position_embeddings=512)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def train(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("chats") / "train.jsonl"
    rows = [{"messages": talk(a, b)} for a in (2, 3) for b in (4, 5)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def run(base, train, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "chat"
    done = premem("finetune", base, "--train", train, "--out", out, *SETTINGS)
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith(f"checkpoints are in {out}\n")
    return out


def test_a_run_of_conversations_is_scored_without_an_option_and_its_nll_falls(run, train, tmp_path):
    asked = ("--samples", 1, "--max-new-tokens", 4, "--backend", "hf")
    done = premem("score", run, "--train", train, "--store", tmp_path / "store", *asked)
    assert done.returncode == 0, done.stderr
    assert "chat template of the checkpoint" in done.stderr
    assert "warning" not in done.stderr
    scores = read_scores(Store(tmp_path / "store"), train.parent.name)
    nll = scores[scores["split"] == "train"].groupby("step")["nll"].mean()
    assert nll.index.tolist() == [15, 30]
    assert nll[30] < nll[15] - 0.5


def test_the_loss_is_on_the_target_only_of_all_turns(train):
    tokenizer = chat_tokenizer()
    encoder = make_encoder(ChatTemplate(), tokenizer, frozenset())
    row = encode(encoder, read_examples(train).examples[0])
    text = tokenizer.decode(row["input_ids"])
    assert text == tokenizer.apply_chat_template(talk(2, 4), tokenize=False)
    trained = tokenizer.decode([label for label in row["labels"] if label != IGNORED])
    assert trained == f"{talk(2, 4)[-1]['content']}<|im_end|>\n"


def test_a_chat_template_that_is_given_goes_into_the_checkpoints(train, tmp_path):
    base = save_base(tmp_path / "base", None)
    out, file = tmp_path / "run", tmp_path / "marked.jinja"
    file.write_text(MARKED)
    command = ("finetune", base, "--train", train, "--out", out, "--turns", "all")
    refused = premem(*command, *SHORT)
    assert refused.returncode == 2
    assert "base has no chat template (chat_template.jinja)" in refused.stderr
    done = premem(*command, *SHORT, "--chat-template", file, "--answer", "solution")
    assert done.returncode == 0, done.stderr
    assert "score them with the same options of fields and prompts" in done.stderr
    checkpoint = read_run(out).checkpoints[-1]
    assert read_chat_template(checkpoint) == MARKED
    assert checkpoint.step == 4  # 2 epochs of 8 targets, 4 in an update


def test_an_adapter_of_a_chat_carries_the_template_too(base, train, tmp_path):
    out = tmp_path / "lora"
    done = premem(
        *("finetune", base, "--train", train, "--out", out, "--lora-rank", 2, *SHORT, "--epochs", 4)
    )
    assert done.returncode == 0, done.stderr
    for checkpoint in read_run(out).checkpoints:
        assert (checkpoint.path / "chat_template.jinja").read_text() == CHATML


def test_questions_and_solutions_are_trained_as_chosen(base, tmp_path):
    rows = [{"ask": f"{n}+1?", "reply": f"#### {n + 1}"} for n in range(4)]
    train = tmp_path / "train.jsonl"
    train.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = (
        *("finetune", base, "--train", train, "--out", tmp_path / "run", *SHORT, "--epochs", 4),
        *("--question", "ask", "--solution", "reply"),
    )
    refused = premem(*command)
    assert refused.returncode == 2
    assert "choose --chat or --plain" in refused.stderr
    both = premem(*command, "--chat", "--prompt-template", "{question}")
    assert both.returncode == 2
    assert "both a plain and a chat prompt" in both.stderr
    assert premem(*command, "--chat", "--max-length", 60).returncode == 0
