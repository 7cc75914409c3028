"""Fine-tuning that saves the checkpoints from which pre-memorization accuracy is computed.

The recipe is that of the paper (arXiv 2411.07681): AdamW, linear decay after 20 warm-up steps,
gradients clipped at 2, loss only on the target, a checkpoint per epoch.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from premem_core.errors import DataError, UsageError
from premem_core.models import loading
from premem_core.models.encoding.encoder import make_encoder
from premem_core.models.encoding.training_batch import collate, encode
from premem_core.problems.prompts import ChatTemplate, PromptTemplate, Template
from premem_core.records import Example

LOG_EVERY = 10  # updates


def finetune_model(
    base: Path,
    examples: Sequence[Example],
    out: Path,
    *,
    learning_rate: float,
    epochs: int,
    batch_size: int,
    gradient_accumulation: int = 1,
    checkpoint_every: int = 1,
    lora_rank: int | None = None,
    template: Template | None = None,
    longest: int | None = None,
    seed: int = 0,
    warmup_steps: int = 20,
    max_grad_norm: float = 2.0,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Fine-tune `base` on `examples`; write `out/checkpoint-<step>` and return `out`.

    A checkpoint holds safetensors, the tokenizer with its chat template, and `trainer_state.json`,
    whose log history shows the peak learning rate. It holds no optimizer state and no pickle. The
    header of `out/README.md` names the base model, as that of other trainers' model cards does.
    Training uses bfloat16 on CUDA and float32 elsewhere.

    Args:
        base: folder of a causal language model in safetensors with a fast tokenizer.
        learning_rate: the peak, reached after `warmup_steps` updates.
        batch_size: examples in one forward pass; an update takes `gradient_accumulation` passes.
        checkpoint_every: epochs between checkpoints; the last epoch always gets one.
        lora_rank: train a LoRA adapter of this rank on all linear layers, with alpha twice the
            rank; None trains all weights.
        template: how an example becomes text; by default the paper's. The checkpoints carry a chat
            template that is given here, so that they are scored with it.
        longest: texts are cut after this many tokens; None to cut none.
        progress: called with a line of text after each epoch.

    Raises:
        UsageError: an argument is out of range, or `out` already holds checkpoints.
        CheckpointError: the base model or its fast tokenizer cannot be loaded.
        DataError: there is no example, or an example has no target or is too long for the model.
    """
    _check_positive(
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        gradient_accumulation=gradient_accumulation,
        checkpoint_every=checkpoint_every,
        lora_rank=1 if lora_rank is None else lora_rank,
        max_grad_norm=max_grad_norm,
    )
    if not examples:
        raise DataError("There is no example to train on; give at least one.")
    updates = epochs * math.ceil(len(examples) / (batch_size * gradient_accumulation))
    if updates <= warmup_steps:
        raise UsageError(
            f"{len(examples)} examples make {updates} updates in {epochs} epochs, but the warm-up "
            f"takes {warmup_steps}; train longer, with a smaller batch size, or with a shorter "
            "warm-up."
        )
    if any(Path(out).glob("checkpoint-*")):
        raise UsageError(f"{out} already holds checkpoints; give a new folder, or delete it.")

    import torch
    from huggingface_hub import metadata_save
    from transformers import Trainer, TrainingArguments, set_seed

    set_seed(seed)
    # float32 also on CUDA: AdamW's small updates would be lost in bfloat16 weights.
    tokenizer, model = loading.load_model(Path(base), torch.float32)
    if isinstance(template, ChatTemplate) and template.template is not None:
        tokenizer.chat_template = template.template
    positions = getattr(model.config, "max_position_embeddings", None)
    encoder = make_encoder(template or PromptTemplate(), tokenizer, frozenset(), longest=longest)
    rows = [encode(encoder, example, positions) for example in examples]
    if lora_rank is not None:
        model = _with_adapter(model, lora_rank)
    on_cuda = torch.cuda.is_available()
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(out),
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=gradient_accumulation,
            num_train_epochs=epochs,
            learning_rate=learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=warmup_steps,
            max_grad_norm=max_grad_norm,
            optim="adamw_torch",
            weight_decay=0.0,
            bf16=on_cuda,
            use_cpu=not on_cuda,
            dataloader_pin_memory=on_cuda,
            logging_steps=LOG_EVERY,
            save_strategy="no",  # the callback decides when to save
            save_only_model=True,
            report_to="none",
            disable_tqdm=True,
            log_level="error",
            seed=seed,
        ),
        train_dataset=rows,
        data_collator=collate,
        processing_class=tokenizer,
        callbacks=[_callback(epochs, checkpoint_every, warmup_steps, progress)],
    )
    _without_console_logs(trainer)
    Path(out).mkdir(parents=True, exist_ok=True)
    metadata_save(Path(out) / "README.md", {"base_model": str(Path(base).resolve())})
    trainer.train()
    return Path(out)


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise UsageError(f"{name} is {value}; expected a number above 0.")


def _with_adapter(model: Any, rank: int) -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(
        model,
        LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules="all-linear"),
    )


def _callback(
    epochs: int,
    checkpoint_every: int,
    warmup_steps: int,
    progress: Callable[[str], None] | None,
) -> Any:
    from transformers import TrainerCallback

    class Recipe(TrainerCallback):
        """Decides when to log and to save, and removes the pickle from each checkpoint."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            # The Trainer logs the rate that the update used; the first update after the warm-up
            # uses the peak.
            if state.global_step == warmup_steps + 1:
                control.should_log = True

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            epoch = round(state.epoch)
            control.should_save = epoch % checkpoint_every == 0 or epoch == epochs
            if progress:
                losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
                loss = f", loss {losses[-1]:.3f}" if losses else ""
                progress(f"epoch {epoch} of {epochs}{loss}")

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            # This file is a pickle, which can run code when it is loaded.
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (folder / "training_args.bin").unlink(missing_ok=True)

    return Recipe()


def _without_console_logs(trainer: Any) -> None:
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
