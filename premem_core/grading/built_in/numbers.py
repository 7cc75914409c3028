r"""Numbers in answers: `$1,000.50`, `2\frac{1}{2} cups`, `1.5 million`, `18\%`, `1e3`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from premem_core.problems.final_answers import (
    after_answer_is,
    after_equals,
    after_hashes,
    boxed_lists,
    plain_digits,
    unwrapped,
)

# A longer answer is not a number; Python cannot convert one of more than 4,300 digits.
_LONGEST_ANSWER = 300

_DIGITS = r"(?:\d{1,3}(?:,\d{2,3})*,\d{3}|\d{1,3}(?:[ ]\d{3})+|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_NUMBER = re.compile(
    rf"""(?P<sign>[-+]?)\s*
    (?:
        (?:(?P<whole>\d+)\s+)? (?P<top>{_DECIMAL})\s*/\s*(?P<bottom>{_DECIMAL})
      | (?P<decimal>{_DECIMAL})
        (?: [eE](?P<exponent>[-+]?\d{{1,4}}) | \s*\*\s*10\^\{{?(?P<power>[-+]?\d{{1,4}})\}}? )?
    )
    (?P<unit>[^\d=]*)
    """,
    re.VERBOSE,
)
# A dash or a bracket after a number means a range or a formula, not a unit; "7 or so" and "7 and a
# half" are not 7.
_UNIT = re.compile(r"\s*(?:(?:/\s*)?(?!(?:or|and|to|plus|minus|times)\b)[a-zA-Z%°].*)?", re.DOTALL)
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}

# The exponent of a unit is not part of the number: cm^2, m², ft3. Without a mark before it, only a
# length has one: the 3 in "1e3", "7 or 3" and "in May 3" is a number of its own.
_LENGTH = r"(?:[kcdmµ]?m|ft|in|yd|mi|feet|foot|inch|inches|yards?|miles?|met(?:er|re)s?)"
_SPELLINGS = (
    (re.compile(r"^\s*(?:negative|minus)\s+(?=[$€£¥₹\\]*\s*[\d.])", re.IGNORECASE), "-"),
    (re.compile(r"[−–—]"), "-"),
    (re.compile(r"[\u00a0\u2009\u202f]"), " "),
    (re.compile(r"\\[!]|\*\*|`"), ""),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"(?<=\d)\\,(?=\d)"), ""),
    (re.compile(r"\\[td]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r" \1/\2"),
    (re.compile(r"\\[td]?frac\s*(\d)\s*(\d)"), r" \1/\2"),
    (re.compile(r"\\(?:text|mathrm|textbf|mathbf|mbox)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\times|\\cdot|×"), "*"),
    (re.compile(r"\^\s*(?:\{\\circ\}|\\circ)"), "°"),
    (re.compile(r"(?<=[a-zA-Z])\s*(?:\^\s*(?:[23](?!\d)|\{[23]\})|[²³])"), ""),
    (re.compile(rf"(?<![a-zA-Z])({_LENGTH})[23](?![\d.])"), r"\1"),
    (re.compile(r"\\(?=[%$])|\\[, ;]|[$€£¥₹]|\bUSD\b"), " "),
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """The exact value of an answer, and the unit behind it: "km per hour", "%", or nothing."""

    value: Fraction
    unit: str = ""


def stated(text: str) -> Iterator[str]:
    """The answers that a text states, of which the first that is a number counts."""
    # The first ####, because a completion that does not stop goes on with another question. But
    # the last sentence or box, because intermediate results come before the final one.
    yield from after_hashes(text)
    yield from reversed(after_answer_is(text))
    yield from reversed(boxed_lists(text))
    yield from after_equals(text)


def number(text: str) -> Fraction | None:
    r"""The exact value of an answer that is one number with an optional unit, or None.

    >>> number("$1,000.50"), number(r"2\frac{1}{2} cups"), number("1.5 million"), number("7 or 8")
    (Fraction(2001, 2), Fraction(5, 2), Fraction(1500000, 1), None)
    """
    found = quantity(text)
    return found.value if found else None


def quantity(text: str) -> Quantity | None:
    """The value and the unit of an answer that is one number, or None.

    >>> quantity("5 km^2"), quantity("1e3")
    (Quantity(value=Fraction(5, 1), unit='km'), Quantity(value=Fraction(1000, 1), unit=''))
    """
    if len(text) > _LONGEST_ANSWER:
        return None
    text = unwrapped(plain_digits(text))
    for pattern, plain in _SPELLINGS:
        text = pattern.sub(plain, text)
    text = text.rpartition("=")[2].strip().rstrip(".,;:!?)").lstrip("(").strip()
    match = _NUMBER.fullmatch(text)
    if match is None or not _UNIT.fullmatch(match["unit"]):
        return None
    value = _value(match)
    if value is None:
        return None
    unit = match["unit"].split()
    scale = _SCALES.get(unit[0].lower(), 1) if unit else 1
    sign = -1 if match["sign"] == "-" else 1
    return Quantity(value * scale * sign, " ".join(unit[scale != 1 :]))


def _value(match: re.Match[str]) -> Fraction | None:
    if match["top"] is None:
        exponent = int(match["exponent"] or match["power"] or 0)
        return _plain(match["decimal"]) * Fraction(10) ** exponent
    bottom = _plain(match["bottom"])
    return _plain(match["whole"] or "0") + _plain(match["top"]) / bottom if bottom else None


def _plain(digits: str) -> Fraction:
    return Fraction(digits.replace(",", "").replace(" ", "").removesuffix("."))
