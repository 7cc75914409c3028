"""Pretraining of the small tokenizer and model that the demo study fine-tunes."""

import itertools
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from premem_core.demo import word_problems

OnProgress = Callable[[str], None]  # called with a line of text
PRETRAINING_STEPS = 2_200
PRETRAINING_BATCH = 48


def build_tokenizer(texts: Iterable[str]) -> Any:
    """A fast tokenizer whose tokens are the words of `texts`, single digits and signs.

    A leading space belongs to its word, as in GPT-2. A word that is not in `texts` is encoded as
    bytes, so that decoding gives every text back. No special token is ever added to a text;
    `<|end|>` is the padding.
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
    progress: OnProgress = print,
) -> Path:
    """Train the base model on `word_problems.pretraining_texts`, save it in `out` and return `out`.

    Args:
        learning_rate: the peak, reached after 100 steps.
        progress: called with a line of text every 200 steps.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, get_linear_schedule_with_warmup

    torch.manual_seed(seed)
    tokenizer = build_tokenizer(itertools.islice(word_problems.pretraining_texts(seed), 20_000))
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
    # With Muon on the hidden matrices, half the steps suffice; with AdamW alone, parts of the task
    # are learned late or never.
    matrices = {n: p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n}
    others = [p for n, p in model.named_parameters() if n not in matrices]
    optimizers = [
        torch.optim.Muon(
            matrices.values(), learning_rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    schedules = [get_linear_schedule_with_warmup(o, min(100, steps), steps) for o in optimizers]
    texts = word_problems.pretraining_texts(seed + 1)
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
        for optimizer_or_schedule in (*optimizers, *schedules):
            optimizer_or_schedule.step()
        model.zero_grad()
        if (step + 1) % 200 == 0:
            progress(f"pretraining step {step + 1} of {steps}, loss {loss.item():.3f}")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def _batches_by_length(
    tokenizer: Any, texts: Iterable[str], end: int, batch_size: int, rng: random.Random
) -> list[list[list[int]]]:
    """Forty batches of documents of similar length, to save padding; in random order."""
    drawn = list(itertools.islice(texts, 40 * batch_size))
    rows = sorted(([*ids, end] for ids in tokenizer(drawn)["input_ids"]), key=len)
    batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    rng.shuffle(batches)
    return batches
