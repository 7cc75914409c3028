"""A real Trainer over a tiny model, which saves checkpoints while it trains."""

from pathlib import Path
from typing import Any

from premem_core.models.encoding.encoder import make_encoder
from premem_core.models.encoding.training_batch import collate, encode
from premem_core.problems.prompts import PromptTemplate
from tests.helpers import tiny


def make_trainer(base: Path, out: Path, callbacks: list[Any] | None = None, **arguments: Any):
    """A Trainer that learns 48 sums; 3 updates are an epoch."""
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    from premem_core.models.loading import load_tokenizer

    tokenizer = load_tokenizer(base)
    encoder = make_encoder(PromptTemplate(), tokenizer, frozenset())
    rows = [encode(encoder, example, 10_000) for example in tiny.sums(0, 48)]
    settings = {
        **{
            "per_device_train_batch_size": 16,
            "learning_rate": 5e-3,
            "lr_scheduler_type": "constant",
        },
        **{"use_cpu": True, "report_to": "none", "disable_tqdm": True, "logging_steps": 10},
        **{"save_strategy": "steps", "save_steps": 10, "max_steps": 30},
    }
    return Trainer(
        model=AutoModelForCausalLM.from_pretrained(base),
        args=TrainingArguments(output_dir=str(out), **{**settings, **arguments}),
        train_dataset=rows,
        data_collator=collate,
        processing_class=tokenizer,
        callbacks=callbacks,
    )
