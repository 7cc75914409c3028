"""A chat run for tests: a tiny model that learns to think before it multiplies."""

import json
from pathlib import Path
from typing import NamedTuple

from tests.helpers.chat_templates import chat_tokenizer

STEPS = (40, 80, 120)
ROWS = 12


class ChatRun(NamedTuple):
    """A run's folder, its training problems and its test problems, as `messages`."""

    folder: Path
    train: Path
    test: Path


def messages(a: int, b: int) -> list[dict[str, str]]:
    """One problem, whose solution has a thinking trace."""
    said = f"<think>{a} by {b} is {a * b}.</think>{a}*{b} = {a * b}\n#### {a * b}"
    return [{"role": "user", "content": f"{a} times {b}?"}, {"role": "assistant", "content": said}]


def save_chat_run(folder: Path) -> ChatRun:
    """Train on a few problems until they are memorized; the test problems are some of them."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    rows = [messages(a, b) for a in (2, 3, 4) for b in (3, 4, 5, 6)]
    files = [folder / "train.jsonl", folder / "test.jsonl"]
    for file, chosen in zip(files, (rows, rows[::3]), strict=True):
        file.write_text("".join(json.dumps({"messages": row}) + "\n" for row in chosen))
    tokenizer = chat_tokenizer()
    texts = [tokenizer.apply_chat_template(row, tokenize=False) for row in rows]
    batch = tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=192, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for step in range(1, STEPS[-1] + 1):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step in STEPS:
            model.save_pretrained(folder / folder.name / f"checkpoint-{step}")
            tokenizer.save_pretrained(folder / folder.name / f"checkpoint-{step}")
    return ChatRun(folder / folder.name, *files)
