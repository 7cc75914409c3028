"""What a tokenizer's files say: the ids they give to texts, without transformers or torch.

`tokenizer.json` holds a whole tokenizer. `tokenizer_config.json` beside it only names some of its
tokens, and a class; a folder that holds nothing else holds no tokenizer.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from premem_core.errors import CheckpointError
from premem_core.models.on_disk.json_files import read_json

# Each of them holds a vocabulary.
VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "tekken.json",
    "spiece.model",
    "tiktoken.model",
)
# The text models of a family may lack the rows of such tokens: Gemma 3's of 1B parameters does.
MEDIA = re.compile("image|audio|video|vision", re.IGNORECASE)


def holds_tokenizer(folder: Path) -> bool:
    """True if a folder holds the vocabulary of a tokenizer."""
    return any((folder / name).exists() for name in VOCABULARIES)


def last_token(folder: Path) -> tuple[str, int] | None:
    """The token of a folder's `tokenizer.json` with the highest id, and this id; None without one.

    Tokens that stand for images, sound or video do not count.
    """
    file = folder / "tokenizer.json"
    if not file.exists():
        return None
    content = read_json(file)
    model = content.get("model") or {}
    vocabulary = model.get("vocab") or {}
    if isinstance(vocabulary, list):  # of a Unigram model: pairs of a token and its score
        vocabulary = {str(entry[0]): i for i, entry in enumerate(vocabulary)}
    added = {str(t["content"]): int(t["id"]) for t in content.get("added_tokens") or ()}
    ids = {token: i for token, i in {**vocabulary, **added}.items() if not MEDIA.search(token)}
    return max(ids.items(), key=lambda item: item[1], default=None)


def file_ids(folder: Path, texts: Iterable[str]) -> list[list[int]] | None:
    """The token ids that the `tokenizer.json` of a folder gives to texts; None if it has none.

    Raises:
        CheckpointError: the file is no tokenizer.
    """
    tokenizer = _read(folder)
    if tokenizer is None:
        return None
    return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]


def check_ids(tokenizer: Any, folder: Path, texts: Sequence[str]) -> None:
    """Check that a loaded tokenizer gives texts the token ids of the folder's `tokenizer.json`.

    Args:
        tokenizer: of transformers; tokens that only `tokenizer_config.json` adds may differ.

    Raises:
        CheckpointError: a text gets other ids.
    """
    in_file = _read(folder)
    if in_file is None or not texts:
        return
    known = {token.content for token in in_file.get_added_tokens_decoder().values()}
    added = sorted(tokenizer.added_tokens_decoder.items())
    in_file.add_tokens([token for _, token in added if token.content not in known])
    expected = in_file.encode_batch(list(texts))
    for text, ids, encoding in zip(
        texts, tokenizer(list(texts))["input_ids"], expected, strict=True
    ):
        if list(ids) != encoding.ids:
            raise CheckpointError(
                f"{folder / 'tokenizer.json'} gives other token ids to {text[:60]!r} than the "
                "tokenizer that is loaded from it; save the tokenizer again"
            )


def _read(folder: Path) -> Any:
    """The tokenizer in a folder's `tokenizer.json`, without truncation and padding."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.exists():
        return None
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise CheckpointError(f"{file} is no tokenizer ({error}); save it again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
