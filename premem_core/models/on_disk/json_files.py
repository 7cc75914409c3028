"""Reading a JSON object from a checkpoint's file."""

import json
from pathlib import Path
from typing import Any

from premem_core.errors import CheckpointError


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        CheckpointError: the file is not readable, or holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not readable JSON ({error}); save it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{file} holds {type(content).__name__}; expected a JSON object; save it again"
        )
    return content
