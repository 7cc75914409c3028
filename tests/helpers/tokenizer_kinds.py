"""Tiny tokenizers of the kinds that widely used models have, each trained on a few lines."""

import json
from pathlib import Path

# What tokenizers treat differently: spaces, runs of digits, accents in two forms, bytes without a
# token, line ends, special tokens inside a text, nothing.
HARD = (
    " leading space",
    "trailing space ",
    "two  spaces\tand a tab",
    "12345678901 + 007 = 3.14159",
    "l'été, l'e\u0301te\u0301, DON'T don't",
    "🦜🏴‍☠️ नमस्ते 你好",
    "a\n\nb\r\n\n c\n",
    "x<|end|>y <|end|> z</s><s>",
    "▁low▁bar Ġ",
    "",
)
# The class that `tokenizer_config.json` of such models names.
CLASSES = {
    "llama-3": "LlamaTokenizerFast",
    "llama-2": "LlamaTokenizer",
    "qwen2": "Qwen2Tokenizer",
    "gpt2": "GPT2TokenizerFast",
    "gemma": "GemmaTokenizerFast",
    "unigram": "T5TokenizerFast",
}
DIGITS_OF_THREE = (
    r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+"
)


def make(kind: str):
    """A tokenizer of a kind in `CLASSES`, of the `tokenizers` library."""
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    special = [
        "<unk>",
        "<s>",
        "</s>",
        AddedToken("<|end|>", special=True, rstrip=kind == "llama-3"),
    ]
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    if kind == "unigram":
        pieces = [("▁", -3.0), ("low", -4.0), ("▁low", -3.5), *((c, -5.0) for c in "abcelt012 .")]
        vocabulary = [(str(t), 0.0) for t in special[:3]] + [(b, -20.0) for b in bytes_] + pieces
        tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
        tokenizer.add_special_tokens(special)
    elif kind in ("llama-2", "gemma"):
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
        prepend = [normalizers.Prepend("▁")] if kind == "llama-2" else []
        tokenizer.normalizer = normalizers.Sequence([*prepend, normalizers.Replace(" ", "▁")])
        _train(tokenizer, trainers.BpeTrainer(vocab_size=500, special_tokens=[*special, *bytes_]))
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
    else:
        tokenizer = Tokenizer(models.BPE())
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "gpt2")
        tokenizer.pre_tokenizer = byte_level
        if kind != "gpt2":
            tokenizer.normalizer = normalizers.NFC() if kind == "qwen2" else None
            pattern = DIGITS_OF_THREE if kind == "llama-3" else DIGITS_OF_THREE.replace("{1,3}", "")
            split = pre_tokenizers.Split(Regex(pattern), "isolated")
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=320, special_tokens=special, initial_alphabet=sorted(alphabet)
        )
        _train(tokenizer, trainer)
    if kind in ("llama-3", "llama-2", "gemma"):
        bos = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        levels = [processors.ByteLevel(trim_offsets=False)] if kind == "llama-3" else []
        tokenizer.post_processor = processors.Sequence([*levels, bos])
    return tokenizer


def save(kind: str, folder: Path, **config) -> Path:
    """The two files of a tokenizer, with the class that models of its kind name."""
    folder.mkdir(parents=True, exist_ok=True)
    make(kind).save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    names |= {"tokenizer_class": CLASSES[kind]} | config
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return folder


def _train(tokenizer, trainer) -> None:
    text = ["the lowest slower lowers 123 1234 2024 l'été don't 12 = 12 + 0\n\n  low"] * 8
    tokenizer.train_from_iterator(text, trainer)
