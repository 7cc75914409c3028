"""The chat template beside a checkpoint's weights, read without transformers."""

import json
import re
from pathlib import Path
from typing import Any

from premem_core.records import Checkpoint

_MARKS_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


def marks_generation(template: str) -> bool:
    """Whether a chat template marks what the assistant says (`{% generation %}`)."""
    return bool(_MARKS_GENERATION.search(template))


def read_chat_template(checkpoint: Checkpoint) -> str | None:
    """The chat template of a checkpoint, or of its base model; None if there is none.

    Of several named templates it is the one named "default".
    """
    folders = [checkpoint.path]
    if checkpoint.adapter_base and Path(checkpoint.adapter_base).is_dir():
        folders.append(Path(checkpoint.adapter_base))
    return next((found for folder in folders if (found := _in_folder(folder))), None)


def _in_folder(folder: Path) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    for name in ("chat_template.json", "tokenizer_config.json"):
        template = _read(folder / name).get("chat_template")
        if isinstance(template, list):
            named = [item for item in template if isinstance(item, dict)]
            defaults = (item.get("template") for item in named if item.get("name") == "default")
            template = next(defaults, None)
        if isinstance(template, str):
            return template
    return None


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
