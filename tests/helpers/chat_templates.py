"""Chat templates for tests: ChatML with and without generation marks, and those of TRL."""

import re
from pathlib import Path

from tests.helpers import tiny

CHATML = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n'}}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\n'}}{% endif %}"
)
MARKED = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n'}}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}{% else %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\n'}}{% endif %}"
)
# The prompt opens the trace; a turn without a trace is rendered with an empty one.
THINKING = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n'}}"
    "{% if m['role'] == 'assistant' and '</think>' not in m['content'] %}"
    "{{'<think>\n\n</think>\n\n'}}{% endif %}{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\n<think>\n'}}{% endif %}"
)
_OF_IMAGES = ("llava", "idefics", "smolvlm")  # their turns are lists of parts
_SPECIAL = re.compile(r"<[|｜][^<>|｜\s]+[|｜]>|<start_of_turn>|<end_of_turn>|<\|?turn\|?>")


def chat_tokenizer(template: str | None = CHATML, *, bos: bool = False):
    """The byte tokenizer with the template's special tokens and the template."""
    tokenizer = tiny.byte_tokenizer(bos=bos)
    special = sorted(set(_SPECIAL.findall(template or CHATML)))
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.chat_template = template
    return tokenizer


def templates_of_trl() -> dict[str, str]:
    """The chat templates of text models that TRL carries, by name."""
    import importlib.util

    spec = importlib.util.find_spec("trl")
    assert spec
    assert spec.origin
    folder = Path(spec.origin).parent / "chat_templates"
    files = [file for file in sorted(folder.glob("*.jinja")) if "_vl" not in file.name]
    return {f.stem: f.read_text() for f in files if not f.stem.startswith(_OF_IMAGES)}
