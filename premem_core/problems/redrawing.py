"""New numbers in a problem, and the answer that follows from them.

A GSM8K solution shows its calculations as `<<3*4=12>>`, other solutions as `3 * 4 = 12`. The answer
for new numbers can be computed where the origin of every operand is known: it is a number in the
question, an earlier result, or a constant that a word of the question stands for ("dozen"). Where
the origin of an operand is unknown, the answer would be a guess, and the problem gets no new
numbers.
"""

import ast
import math
import operator
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

TRIES = 400
CHOICES = 8  # draws that keep the conditions, of which one is taken
SHRINK = 0.06  # chosen so that 1,000 problems of GSM8K keep the size of their numbers
CALCULATION = re.compile(r"<<([^<>=]*)=([^<>=]*)>>")
PLAIN_CALCULATION = re.compile(
    r"(?<![\d.,])(\$?\d[\d,]*(?:\.\d+)?(?:\s*[-+*/]\s*\$?\d[\d,]*(?:\.\d+)?)+)\s*="
    r"\s*\$?(\d[\d,]*(?:\.\d+)?)"
)
NUMERAL = re.compile(
    r"(?<![\w.,/:$#-])(?P<dollar>\$?)(?P<digits>\d{1,3}(?:,\d{3})+|\d+)(?P<decimals>\.\d+)?"
    r"(?P<percent>%?)(?![\w/:%]|[.,]\d|-\d)"
)
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?|\.\d+")
CLOCK = re.compile(r"\s*(?:[ap]\.?m\b|o'clock|noon|midnight)", re.IGNORECASE)
LABEL = re.compile(
    r"(?:\b(?:room|chapter|page|grade|number|level|route|day|week|at|in)|#)\s*$", re.I
)
YEARS = range(1500, 2101)
FEW = 5  # a number up to this may also be the count of the people or things in the question
BODIES = re.compile(r"[\s-]*(?:legs?|wheels?|sides?|sided|eyes|wings|fingers|toes)\b")
PARTS_OF = {"days": "week", "months": "year"}  # a week does not have any number of days
# The numbers that a word may stand for in a calculation.
WORDS: Mapping[str, str] = {
    "two": "2", "twice": "2", "double": "2", "doubles": "2", "doubled": "2", "half": "2 0.5 1/2",
    "halves": "2", "pair": "2", "pairs": "2", "couple": "2", "both": "2", "second": "2 60",
    "seconds": "60", "three": "3", "triple": "3", "triples": "3", "tripled": "3", "thrice": "3",
    "third": "3 1/3", "thirds": "3", "four": "4", "quarter": "4 25 0.25", "quarters": "4 25 0.25",
    "fourth": "4", "fourths": "4", "quadruple": "4", "five": "5", "fifth": "5", "fifths": "5",
    "weekday": "5", "weekdays": "5", "nickel": "5", "nickels": "5 0.05", "six": "6", "sixth": "6",
    "seven": "7", "seventh": "7", "week": "7 52 5", "weeks": "7 52", "weekly": "7 52",
    "daily": "7 30 24", "weekend": "2", "weekends": "2", "eight": "8", "eighth": "8", "nine": "9",
    "ten": "10", "tenth": "10", "dime": "10", "dimes": "10 0.1", "decade": "10", "eleven": "11",
    "twelve": "12", "dozen": "12", "dozens": "12", "year": "12 52 365", "years": "12 52 365",
    "yearly": "12", "annual": "12", "annually": "12", "month": "12 30 4", "months": "12 30 4",
    "monthly": "12 30 4", "foot": "12 3", "feet": "12 3", "inch": "12", "inches": "12",
    "yard": "3", "yards": "3", "pound": "16", "pounds": "16", "ounce": "16", "ounces": "16",
    "day": "24 7", "days": "24 7", "hour": "60 24", "hours": "60 24", "hourly": "60",
    "minute": "60", "minutes": "60", "cent": "100 0.01", "cents": "100 0.01", "dollar": "100",
    "dollars": "100", "percent": "100 0.01", "percentage": "100", "hundred": "100",
    "thousand": "1000", "meter": "100 1000", "meters": "100 1000", "kilometer": "1000",
    "kilometers": "1000", "kilogram": "1000", "kilograms": "1000", "gram": "1000",
    "grams": "1000", "liter": "1000", "liters": "1000", "gallon": "4 16", "gallons": "4 16",
    "quart": "4 2", "quarts": "4 2", "everyone": "1", "each": "1", "remaining": "1", "rest": "1",
    "one": "1", "once": "1", "twenty": "20", "thirty": "30", "forty": "40", "fifty": "50",
    "sixty": "60", "fifteen": "15", "century": "100", "leap": "366", "twins": "2", "twin": "2",
    "triplets": "3", "fortnight": "14",
}  # fmt: skip
# A number is as round as the first of these that divides it.
UNITS = [
    Fraction(unit)
    for unit in ("1000", "100", "50", "10", "5", "1", "0.5", "0.25", "0.1", "0.05", "0.01")
]
OPERATORS: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True, slots=True)
class Redrawn:
    """A question with new numbers, and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class _Numeral:
    """A number that a question writes in digits and that may change."""

    match: re.Match[str]
    value: Fraction


@dataclass(frozen=True, slots=True)
class _Calculation:
    """A calculation in a solution."""

    expression: ast.expr
    result: Fraction


def numbers_in(question: str) -> list[float]:
    """The numbers that a question writes in digits, without dates, codes and the like.

    >>> numbers_in("Ann has 1,200 coins and 2.5 pounds of sugar.")
    [1200.0, 2.5]
    """
    return [
        float(match["digits"].replace(",", "") + (match["decimals"] or ""))
        for match in NUMERAL.finditer(question)
    ]


def draw_new_numbers(
    question: str, solution: str, answer: str, rng: random.Random
) -> Redrawn | None:
    """The question with new numbers, and the answer that the solution's calculations then give.

    Every result stays positive, and whole if it was whole. The quantities of the problem keep
    their order by size, so that a question about a difference or a remainder still makes sense.
    Numbers become neither larger nor smaller in the mean, because larger ones alone lower a model's
    accuracy (docs/method.md, section 14).

    Returns:
        None where the answer would be a guess, or no such numbers were found in TRIES attempts.
    """
    calculations, expected = _calculations(solution), _number(answer)
    if not calculations or expected is None or calculations[-1].result != expected:
        return None
    if any(c.result <= 0 for c in calculations):
        return None
    numerals = list(_numerals(question))
    free = _free(question, numerals, calculations)
    if not free:
        return None
    found: list[tuple[dict[Fraction, Fraction], Fraction]] = []
    for _ in range(TRIES):
        drawn = {value: _similar_number(value, rng) for value in sorted(free)}
        results = _results(calculations, drawn)
        if results is None or results[expected] == expected:
            continue
        values = {n.value: drawn.get(n.value, n.value) for n in numerals} | results
        if _in_order(values):
            found.append((drawn, results[expected]))
        if len(found) == CHOICES:
            break
    if not found:
        return None
    drawn, result = _as_large(found, rng)
    return Redrawn(_rewritten(question, numerals, drawn), _decimal(result))


def _calculations(solution: str) -> list[_Calculation]:
    """The calculations of a solution; an empty list if one of them cannot be read or is wrong."""
    calculations = []
    for expression, result in CALCULATION.findall(solution) or PLAIN_CALCULATION.findall(solution):
        value = _number(result)
        try:
            tree = ast.parse(re.sub(r"[$,\s]", "", expression), mode="eval").body
            if value is None or _evaluate(tree, lambda literal: literal) != value:
                return []
        except (SyntaxError, ValueError, ZeroDivisionError):
            return []
        calculations.append(_Calculation(tree, value))
    return calculations


def _evaluate(tree: ast.expr, meaning: Callable[[Fraction], Fraction]) -> Fraction:
    """The value of an expression.

    Args:
        meaning: gives the value to use for a number in the expression.

    Raises:
        ValueError: the expression holds more than numbers and + - * /.
        ZeroDivisionError: it divides by zero.
    """
    match tree:
        case ast.Constant(value=int() | float() as value):
            return meaning(Fraction(str(value)))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_evaluate(left, meaning), _evaluate(right, meaning))
        case _:
            raise ValueError("not an arithmetic expression")


def _literals(tree: ast.expr) -> Iterator[Fraction]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            yield Fraction(str(node.value))


def _numerals(question: str) -> Iterator[_Numeral]:
    for match in NUMERAL.finditer(question):
        value = _number(match["digits"] + (match["decimals"] or ""))
        unit = re.match(r"[\s-]*(days|months)\b", question[match.end() :])
        is_part = unit is not None and PARTS_OF[unit[1]] in question
        is_part = is_part or BODIES.match(question, match.end()) is not None
        is_name = CLOCK.match(question, match.end()) or LABEL.search(question[: match.start()])
        is_year = value in YEARS and not match["dollar"] and "," not in match["digits"]
        if value is not None and value >= Fraction(1, 100) and not (is_name or is_part or is_year):
            yield _Numeral(match, value)


def _free(
    question: str, numerals: Sequence[_Numeral], calculations: Sequence[_Calculation]
) -> set[Fraction]:
    """The values of numerals that may change; empty where the origin of an operand is unknown."""
    values = {n.value for n in numerals}
    percents = {n.value for n in numerals if n.match["percent"] or _is_percent(question, n)}
    fixed = _fixed_values(question, numerals)
    shares = {value / 100: value for value in percents}
    used: Counter[Fraction] = Counter()
    earlier: dict[Fraction, int] = {}  # result → how often it is an operand
    for calculation in calculations:
        for literal in _literals(calculation.expression):
            source = literal if literal in values else shares.get(literal)
            if literal in earlier:
                earlier[literal] += 1
                if source is not None or literal in fixed or earlier[literal] > 1:
                    return set()  # it may be that result, or another number of the same value
            elif source is not None:
                used[source] += 1
            elif literal not in fixed:
                return set()
        earlier.setdefault(calculation.result, 0)
    parts = {a for a in values for b in values for c in values if a != b and a + b == c}
    totals = {a + b for a in parts for b in parts if a != b}
    if any(a + b == 100 for a in percents for b in percents):
        totals |= percents
    occurrences = Counter(n.value for n in numerals)
    counts = {v for v in used if v <= FEW and used[v] > occurrences[v]}
    return {v for v in used if v > 1} - counts - fixed - earlier.keys() - parts - (totals & values)


def _fixed_values(question: str, numerals: Sequence[_Numeral]) -> set[Fraction]:
    """The values that do not change: those of the question's words and of its other digits."""
    fixed = {Fraction(1)} | ({Fraction(100)} if "%" in question else set())
    for word in re.findall(r"[a-z]+", question.lower()):
        fixed |= {Fraction(value) for value in WORDS.get(word, "").split()}
    rest = list(question)
    for numeral in numerals:
        rest[slice(*numeral.match.span())] = " " * (numeral.match.end() - numeral.match.start())
    for digits in NUMBER.findall("".join(rest)):
        fixed.add(Fraction(digits.replace(",", "")))
    return fixed


def _is_percent(question: str, numeral: _Numeral) -> bool:
    return bool(re.match(r"\s?percent", question[numeral.match.end() :]))


def _similar_number(value: Fraction, rng: random.Random) -> Fraction:
    """Another number that is as round, with as many digits, and within a factor of two.

    It may have another number of digits where those with the same are all larger or all smaller.
    """
    round_in = [u for u in UNITS if (value / u).denominator == 1 and value >= 2 * u]
    unit = round_in[0] if round_in else UNITS[-1]
    n = value / unit
    near = [unit * k for k in range(int(-(-n // 2)), int(2 * n) + 1) if k and k != n]
    alike = [other for other in near if len(str(int(other))) == len(str(int(value)))]
    for numbers in (alike, near):
        larger = [other for other in numbers if other > value]
        smaller = [other for other in numbers if other < value]
        if larger and smaller:
            return rng.choice(rng.choice((larger, smaller)))
    return rng.choice(near)


def _as_large(
    found: Sequence[tuple[dict[Fraction, Fraction], Fraction]], rng: random.Random
) -> tuple[dict[Fraction, Fraction], Fraction]:
    """One of several draws, so that numbers become neither larger nor smaller over many problems.

    Draws that keep a problem's conditions are larger more often than smaller. So one of either kind
    is chosen, with the probability that makes up for their sizes: the logarithm of new ÷ old is
    −SHRINK in the mean, which makes up for the problems whose numbers can only become larger.
    """

    def growth(drawn: Mapping[Fraction, Fraction]) -> float:
        return sum(math.log(new / old) for old, new in drawn.items()) / len(drawn)

    larger = [one for one in found if growth(one[0]) > 0]
    smaller = [one for one in found if growth(one[0]) < 0]
    if not (larger and smaller):
        return min(found, key=lambda one: abs(growth(one[0])))
    up, down = rng.choice(larger), rng.choice(smaller)
    risen, fallen = growth(up[0]), -growth(down[0])
    return up if rng.random() < (fallen - SHRINK) / (risen + fallen) else down


def _results(
    calculations: Sequence[_Calculation], drawn: Mapping[Fraction, Fraction]
) -> dict[Fraction, Fraction] | None:
    """Former result → new result of each calculation.

    None where a new result is not positive or no longer whole, or where two results that were
    equal would differ.
    """
    results: dict[Fraction, Fraction] = {}
    shares = {value / 100: new / 100 for value, new in drawn.items()}
    for calculation in calculations:
        meanings = {**shares, **drawn, **results}
        try:
            new = _evaluate(calculation.expression, lambda v, m=meanings: m.get(v, v))  # type: ignore[misc]
        except ZeroDivisionError:
            return None
        old = calculation.result
        whole = (new * (1 if old.denominator == 1 else 100)).denominator == 1
        if new <= 0 or not whole or results.setdefault(old, new) != new:
            return None
    return results


def _in_order(values: Mapping[Fraction, Fraction]) -> bool:
    """True where the new values have the same order by size as the former ones."""
    now = [values[old] for old in sorted(values)]
    return all(a < b for a, b in pairwise(now))


def _rewritten(
    question: str, numerals: Sequence[_Numeral], drawn: Mapping[Fraction, Fraction]
) -> str:
    """The question with the drawn numbers, and with "a" or "an" before them as it must be."""
    parts, end = [], 0
    for numeral in numerals:
        match = numeral.match
        text = match[0]
        if numeral.value in drawn:
            places = len(match["decimals"] or ".") - 1
            comma = "," if "," in match["digits"] or drawn[numeral.value] >= 10_000 else ""
            if drawn[numeral.value].denominator == 1 and (places == 1 or not match["dollar"]):
                places = 0
            number = f"{float(drawn[numeral.value]):{comma}.{places}f}"
            text = f"{match['dollar']}{number}{match['percent']}"
        parts += [question[end : match.start()], text]
        end = match.end()
    return re.sub(r"\b([Aa])n?(?= \$?\d)", _article, "".join([*parts, question[end:]]))


def _article(match: re.Match[str]) -> str:
    number = re.match(r" \$?([\d,]+)", match.string[match.end() :])
    digits = number[1].replace(",", "") if number else ""
    vowel = digits.startswith("8") or (digits[:2] in ("11", "18") and len(digits) % 3 == 2)
    return match[1] + ("n" if vowel else "")


def _number(text: str) -> Fraction | None:
    try:
        return Fraction(re.sub(r"[$,\s]", "", text))
    except (ValueError, ZeroDivisionError):
        return None


def _decimal(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.2f}".rstrip("0")
