"""A grader in one text: its name, and after `?` its settings as in a URL.

    gsm8k
    number?tolerance=0.01&units=km
    gsm8k?rule=regex:Answer: (.*)
    math?marks=[THINK]…[/THINK]

This text names the grader in a job's description, in the store and on the command line. There is
one difference to URLs: a `+` is a plus, because regular expressions are full of them.
"""

import re
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode

from premem_core.errors import UsageError
from premem_core.problems.thinking import ThinkingMarks

_FUNCTION_OF_FILE = re.compile(r"(?P<path>[^?]+\.py):(?P<function>[A-Za-z_]\w*)(?:\?(?P<rest>.*))?")
_READABLE = "/:,()[]{}*|^$\\@!;"  # characters that need no escape in a setting
_NOT_SHOWN = ("sha256", "endpoint", "key_env", "max_tokens")


def parse_grader(text: str) -> tuple[str, dict[str, str]]:
    """The name and the settings of a grader.

    `FILE.py:function` is short for the grader `file` with these settings.

    Raises:
        UsageError: the settings are not of the form `name=value&name=value`, or one is given twice.

    >>> parse_grader("number?tolerance=0.01&units=km")
    ('number', {'tolerance': '0.01', 'units': 'km'})
    >>> parse_grader("mine.py:grade")
    ('file', {'path': 'mine.py', 'function': 'grade'})
    """
    name, _, query = text.partition("?")
    given = []
    if of_file := _FUNCTION_OF_FILE.fullmatch(text):
        name, query = "file", of_file["rest"] or ""
        given = [("path", of_file["path"]), ("function", of_file["function"])]
    try:
        pairs = parse_qsl(
            query.replace("+", "%2B"), keep_blank_values=True, strict_parsing=bool(query)
        )
    except ValueError:
        pairs = [(query, "")]
    settings = dict([*given, *pairs])
    if len(settings) < len(given) + len(pairs) or not all(n.isidentifier() for n in settings):
        raise UsageError(
            f"the grader {text!r} cannot be read; give its name, and its settings, each once, as "
            "in number?tolerance=0.01&units=km"
        )
    return name, settings


def write_grader(name: str, settings: dict[str, str]) -> str:
    """The text of a grader, which is the same for the same settings in any order.

    >>> write_grader("number", {"units": "km", "tolerance": "0.01"})
    'number?tolerance=0.01&units=km'
    """
    query = urlencode(sorted(settings.items()), quote_via=quote, safe=_READABLE)
    return f"{name}?{query}" if query else name


def with_settings(text: str, **settings: object) -> str:
    """The text of the same grader with more or other settings; those that are None stay.

    Args:
        settings: each is written as `str` writes it: a rule, marks, a number.

    Raises:
        UsageError: as `parse_grader`.

    >>> with_settings("gsm8k", rule="boxed", marks=None), with_settings("gsm8k")
    ('gsm8k?rule=boxed', 'gsm8k')
    """
    name, old = parse_grader(text)
    new = {setting: str(value) for setting, value in settings.items() if value is not None}
    return write_grader(name, old | new)


def marks_of(text: str | None) -> ThinkingMarks | None:
    """The marks of thinking traces in a grader's settings; None if it has none."""
    marks = parse_grader(text)[1].get("marks") if text else None
    return ThinkingMarks.parse(marks) if marks else None


def grader_label(text: str) -> str:
    """The grader in words, for pages; a text that is no grader's stays as it is.

    >>> grader_label("number?tolerance=0.01&units=km"), grader_label("as scored")
    ('number (tolerance 0.01, units km)', 'as scored')
    >>> grader_label("file?function=grade&path=/home/me/mine.py&sha256=00")
    'mine.py:grade'
    """
    try:
        name, settings = parse_grader(text)
    except UsageError:
        return text
    if name == "file" and "path" in settings:
        name = f"{Path(settings.pop('path')).name}:{settings.pop('function', '')}"
    shown = [f"{n} {value}" for n, value in sorted(settings.items()) if n not in _NOT_SHOWN]
    return f"{name} ({', '.join(shown)})" if shown else name
