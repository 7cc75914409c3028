"""The demo: a small but real study that fits two CPU cores.

A tiny Llama is pretrained on arithmetic and on the language of word problems, then fine-tuned on
them in settings that differ in learning rate, length and data size. All of it is made from seeds.
"""

import itertools
import json
import random
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from premem_core import wordproblems
from premem_core.training import finetune
from premem_core.types import Example

Progress = Callable[[str], None]

TEST_PROBLEMS = 300
PRETRAINING_STEPS = 3_500
PRETRAINING_BATCH = 48
TRAIN_SEED, TEST_SEED = 101, 202


@dataclass(frozen=True, slots=True)
class Setting:
    """One fine-tuning of the study; `checkpoint_every` counts epochs."""

    learning_rate: float
    epochs: int
    problems: int
    checkpoint_every: int
    batch_size: int = 16

    @property
    def name(self) -> str:
        """Such as lr3e-3_ep24_n500."""
        rate = f"{self.learning_rate:.0e}".replace("e-0", "e-")
        return f"lr{rate}_ep{self.epochs}_n{self.problems}"


# Rate, length and data size all vary, so that no other quantity lines the runs up by accident.
SETTINGS = (
    Setting(learning_rate=3e-3, epochs=24, problems=500, checkpoint_every=3),
    Setting(learning_rate=1e-3, epochs=12, problems=500, checkpoint_every=3),
    Setting(learning_rate=3e-4, epochs=9, problems=500, checkpoint_every=3),
    Setting(learning_rate=3e-3, epochs=8, problems=1000, checkpoint_every=2),
    Setting(learning_rate=3e-3, epochs=5, problems=1500, checkpoint_every=1),
)


def problems() -> tuple[list[Example], list[Example]]:
    """The largest training set, whose beginnings are the smaller ones, and the test set."""
    train = wordproblems.generate(
        max(setting.problems for setting in SETTINGS), TRAIN_SEED, prefix="train-"
    )
    seen = {example.question for example in train}
    return train, wordproblems.generate(TEST_PROBLEMS, TEST_SEED, exclude=seen, prefix="test-")


def make_runs(work: Path, progress: Progress = print) -> list[Path]:
    """Make the study's checkpoints in `work`; what an earlier call finished is kept.

    Writes `train_<n>.jsonl` and `test.jsonl` (id, question, and answer: the solution, ending in
    `#### <number>`, as in GSM8K's files), the base model in `base`, and one folder per setting in
    `runs`.

    Returns the runs' folders, in the order of SETTINGS.
    """
    work.mkdir(parents=True, exist_ok=True)
    train, test = problems()
    for size in sorted({setting.problems for setting in SETTINGS}):
        write_jsonl(work / f"train_{size}.jsonl", train[:size])
    write_jsonl(work / "test.jsonl", test)
    base = _made_once(work / "base", lambda out: pretrain(out, progress=progress))
    return [
        _made_once(work / "runs" / setting.name, _finetuning(base, train, setting, progress))
        for setting in SETTINGS
    ]


def write_jsonl(path: Path, examples: Iterable[Example]) -> None:
    """One example per line, with the fields id, question and answer of GSM8K's own files."""
    rows = ({"id": e.id, "question": e.question, "answer": e.solution} for e in examples)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _finetuning(
    base: Path, train: Sequence[Example], setting: Setting, progress: Progress
) -> Callable[[Path], Path]:
    return lambda out: finetune(
        base,
        train[: setting.problems],
        out,
        learning_rate=setting.learning_rate,
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        checkpoint_every=setting.checkpoint_every,
        progress=lambda message: progress(f"{setting.name}: {message}"),
    )


def _made_once(folder: Path, make: Callable[[Path], Path]) -> Path:
    """`folder`, made under another name and renamed at the end: it is there whole or not at all."""
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        make(unfinished).rename(folder)
    return folder


def build_tokenizer(texts: Iterable[str]) -> Any:
    """A fast tokenizer whose tokens are the words of `texts`, single digits and signs.

    A leading space belongs to its word, as in GPT-2. What is not in `texts` falls apart into
    bytes, so that every text survives encoding and decoding. No special token is ever added;
    `<|end|>` pads.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(r" ?\p{L}+| ?[0-9]| ?[^\s\p{L}0-9]+|\s"), behavior="isolated"
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    words = {piece for text in texts for piece, _ in pieces.pre_tokenize_str(text)}
    digits = {f"{space}{digit}" for space in ("", "Ġ") for digit in range(10)}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = ["<|end|>", *alphabet, *sorted((words | digits) - set(alphabet))]
    tokenizer = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(vocabulary)}, [], ignore_merges=True)
    )
    tokenizer.pre_tokenizer = pieces
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|end|>",
        clean_up_tokenization_spaces=False,
    )


def pretrain(
    out: Path,
    *,
    seed: int = 0,
    steps: int = PRETRAINING_STEPS,
    batch_size: int = PRETRAINING_BATCH,
    learning_rate: float = 3e-3,
    progress: Progress = print,
) -> Path:
    """Train the base model on `wordproblems.pretraining_texts` and save it in `out`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    tokenizer = build_tokenizer(itertools.islice(wordproblems.pretraining_texts(seed), 20_000))
    end = tokenizer.eos_token_id
    model: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=end,
            pad_token_id=end,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=steps, pct_start=0.03
    )
    texts = wordproblems.pretraining_texts(seed + 1)
    rng = random.Random(seed)
    model.train()
    pending: list[list[list[int]]] = []
    for step in range(steps):
        if not pending:
            pending = _batches_by_length(tokenizer, texts, end, batch_size, rng)
        batch = pending.pop()
        width = max(map(len, batch))
        ids = torch.tensor([row + [end] * (width - len(row)) for row in batch])
        lengths = torch.tensor([len(row) for row in batch])
        labels = ids.masked_fill(torch.arange(width) >= lengths[:, None], -100)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if (step + 1) % 200 == 0:
            progress(f"pretraining step {step + 1} of {steps}, loss {loss.item():.3f}")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def _batches_by_length(
    tokenizer: Any, texts: Iterable[str], end: int, batch_size: int, rng: random.Random
) -> list[list[list[int]]]:
    """Forty batches of documents of like length, in random order: little padding."""
    drawn = list(itertools.islice(texts, 40 * batch_size))
    rows = sorted(([*ids, end] for ids in tokenizer(drawn)["input_ids"]), key=len)
    batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    rng.shuffle(batches)
    return batches
