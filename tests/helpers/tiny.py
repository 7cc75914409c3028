"""A tiny real model: a byte-level tokenizer, a Llama of 0.1M weights, a task it can learn."""

from collections.abc import Sequence
from pathlib import Path

from premem_core.records import Checkpoint, Example


def byte_tokenizer(bos: bool):
    """Every byte a token, so any text round-trips; with or without a BOS in front."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def save_base(folder: Path, *, bos: bool = True, seed: int = 0, **config) -> Path:
    """An untrained model with its tokenizer, as safetensors."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    tokenizer = byte_tokenizer(bos)
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    LlamaForCausalLM(LlamaConfig(**(settings | config))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def learn_texts(folder: Path, texts: Sequence[str], steps: int = 180) -> None:
    """Train the model in a folder on whole texts, which it then knows by heart."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(list(texts), return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for _ in range(steps):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)


def save_adapter(base: Path, folder: Path, seed: int | None = None, **config) -> Checkpoint:
    """A LoRA adapter: with a seed random, without one untrained, its output then the base's."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    if seed is not None:
        torch.manual_seed(seed)
    lora = LoraConfig(**{"r": 2, "lora_alpha": 64, "init_lora_weights": seed is None} | config)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora).save_pretrained(str(folder))
    return Checkpoint(folder, 0, adapter_base=str(base))


def sums(start: int, n: int) -> list[Example]:
    """Sums of two small numbers, with a solution that ends in GSM8K's mark."""
    pairs = [(a, b) for a in range(10) for b in range(10)]
    pairs = [pairs[(37 * i) % 100] for i in range(start, start + n)]
    return [
        Example(f"{a}+{b}", f"{a}+{b}?", f"{a}+{b}={a + b}\n#### {a + b}", str(a + b))
        for a, b in pairs
    ]


def write_jsonl(file: Path, examples: list[Example]) -> Path:
    """Examples as GSM8K's own files have them: `question` and `answer`, the whole solution."""
    import json

    lines = [
        json.dumps({"id": e.id, "question": e.question, "answer": e.solution}) for e in examples
    ]
    file.write_text("\n".join(lines) + "\n")
    return file
