"""Whether two folders hold the same weights, found without reading all of them.

Two files are taken to be the same if their sizes and headers are, and with them the names, shapes
and dtypes of all tensors, and also three blocks of each tensor: its first, middle and last bytes.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from premem_core.errors import CheckpointError
from premem_core.models.on_disk import adapters
from premem_core.models.on_disk.json_files import read_json
from premem_core.models.on_disk.weights import weight_files

BLOCK = 4096  # bytes
LENGTH = 8  # bytes at the start of a safetensors file, which hold the length of its header


def same_weights(one: Path, other: Path) -> bool:
    """True if two folders hold the same weights, of a whole model or of an adapter.

    False also where the weights cannot be read.
    """
    adapter = adapters.is_adapter(one)
    if adapter != adapters.is_adapter(other):
        return False
    try:
        if adapter and _settings(one) != _settings(other):
            return False
        files, others = weight_files(one, adapter), weight_files(other, adapter)
        if [file.name for file in files] != [file.name for file in others]:
            return False
        return all(map(_same_file, files, others))
    except (CheckpointError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _settings(adapter: Path) -> dict[str, Any]:
    """What an adapter's configuration says of its weights; sets are saved in any order."""
    content = read_json(adapter / adapters.CONFIG)
    content.pop("inference_mode", None)
    return {k: sorted(map(str, v)) if isinstance(v, list) else v for k, v in content.items()}


def _same_file(one: Path, other: Path) -> bool:
    size = one.stat().st_size
    if size != other.stat().st_size:
        return False
    with one.open("rb") as a, other.open("rb") as b:
        header = _header(a, size)
        if header != _header(b, size):
            return False
        return all(_read(a, *block) == _read(b, *block) for block in _blocks(header))


def _header(file: BinaryIO, size: int) -> bytes:
    return file.read(min(size, int.from_bytes(file.read(LENGTH), "little")))


def _blocks(header: bytes) -> Iterator[tuple[int, int]]:
    """Where the blocks to compare begin in the file, and where they end."""
    tensors = json.loads(header)
    tensors.pop("__metadata__", None)
    data = LENGTH + len(header)
    for tensor in tensors.values():
        start, end = (data + offset for offset in tensor["data_offsets"])
        for block in sorted({start, (start + end) // 2, max(start, end - BLOCK)}):
            yield block, min(end, block + BLOCK)


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)
