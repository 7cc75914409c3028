"""Redrawn numbers, and their answers recomputed by another way: symbolically, from the texts."""

import json
import math
import random
import re
from fractions import Fraction

import pytest
import sympy

from premem_core.problems.redrawing import draw_new_numbers
from tests.helpers.paths import GSM8K_SLICE

MARTHA = (
    "Martha has 19 butterflies in her collection. She has twice as many blue butterflies as "
    "yellow butterflies. If Martha has 6 blue butterflies and the rest are black, how many black "
    "butterflies does she have?",
    "She has 6/2=<<6/2=3>>3 yellow. She has 6+3=<<6+3=9>>9 blue and yellow. "
    "She has 19-9=<<19-9=10>>10 black.\n#### 10",
    "10",
)


def drawn(example=MARTHA, seed=0):
    question, solution, answer = example
    return draw_new_numbers(question, solution, answer, random.Random(seed))


def test_the_answer_is_that_of_the_new_numbers():
    for seed in range(20):
        new = drawn(seed=seed)
        total, blue = map(int, re.findall(r"\d+", new.question))
        assert int(new.answer) == total - blue - blue // 2
        assert (total, blue) != (19, 6)
        assert blue % 2 == 0
        assert blue + blue // 2 < total


def test_calculations_may_be_written_plainly():
    new = draw_new_numbers(
        "Jack owns 41 stickers, buys 11 and loses 17. How many has he?",
        "So adding 11 gives 41 + 11 = 52.\nJack has 52 - 17 = $35.\n#### 35",
        "35",
        random.Random(0),
    )
    owns, buys, loses = map(int, re.findall(r"\d+", new.question))
    assert int(new.answer) == owns + buys - loses != 35


def test_the_same_seed_draws_the_same():
    assert drawn(seed=3) == drawn(seed=3)
    assert len({drawn(seed=seed).question for seed in range(10)}) > 3


@pytest.mark.parametrize(
    ("question", "solution", "answer"),
    [
        ("Tom has 3 pens and buys 4.", "He has 7.\n#### 7", "7"),  # nothing is calculated
        ("Tom has 3 pens and buys 4.", "<<3+4=7>>7 and one more\n#### 8", "8"),  # another answer
        ("Tom has 3 pens and buys 4.", "<<3+4=8>>8\n#### 8", "8"),  # a wrong calculation
        ("Tom has 3 pens and buys 4.", "<<6+4=10>>10\n#### 10", "10"),  # 6 comes from nowhere
        ("Tom has 3 pens and buys 3.", "<<3+0=3>>3 <<3+3=6>>6\n#### 6", "6"),  # which 3?
        ("In 1990 Tom was 1.", "<<1990+1=1991>>1991\n#### 1991", "1991"),  # a year
        ("Tom ran 3/4 of 8 miles.", "<<3/4*8=6>>6\n#### six", "six"),  # no number
        ("Tom has 3 pens.", "<<__import__('os').getpid()=3>>\n#### 3", "3"),  # no arithmetic
        ("He and his son use 2 plates each.", "<<1+1=2>>2 <<2*2=4>>4\n#### 4", "4"),  # whose 2?
        ("They eat 2 each; Ann has a son.", "<<2*2=4>>4\n#### 4", "4"),  # two people, or plates?
        ("It runs 6 days of the week.", "<<6*9=54>>54\n#### 54", "54"),  # and 9 from nowhere
        ("Of a week, 6 days cost 9 each.", "<<6/6=1>>1 <<6*1=6>>6\n#### 6", "6"),
        ("Tom has 3 pens, and loses them.", "<<3-3=0>>0\n#### 0", "0"),  # nothing is left
    ],
)
def test_what_would_have_to_be_guessed_is_left_out(question, solution, answer):
    assert draw_new_numbers(question, solution, answer, random.Random(0)) is None


def test_numbers_keep_their_kind():
    new = draw_new_numbers(
        "Ann buys 40 pens at $1.50 each and pays $1,000 with a 10% tip. How much is an 8-pen box?",
        "<<40*1.5=60>>60 <<1000-60=940>>940 <<940*.1=94>>94\n#### 94",
        "94",
        random.Random(1),
    )
    found = re.fullmatch(
        r"Ann buys (\d+) pens at \$(\d+\.\d\d) each and pays \$([\d,]+) with a (\d+)% tip\. "
        r"How much is an 8-pen box\?",
        new.question,
    )
    pens, price, paid, tip = (Fraction(each.replace(",", "")) for each in found.groups())
    assert Fraction(new.answer) == (paid - pens * price) * tip / 100
    assert pens % 5 == 0
    assert paid >= 1000 or "," not in found[3]


PLAIN = r"(\$?\d[\d,.$ ]*(?:[-+*/] *\$?\d[\d,.]* *)+)= *\$?(\d[\d,]*(?:\.\d+)?)"
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def recomputed(question: str, solution: str, redrawn_question: str) -> Fraction:
    """The answer of a redrawn question: its changed numbers put into the solution as symbols."""
    old, new = (
        [sympy.Rational(number.replace(",", "")) for number in NUMBER.findall(text)]
        for text in (question, redrawn_question)
    )
    symbols: dict[sympy.Rational, sympy.Symbol] = {}
    values: dict[sympy.Symbol, sympy.Rational] = {}
    for before, after in zip(old, new, strict=True):
        if before != after:
            symbol = symbols.setdefault(before, sympy.Symbol(f"x{len(symbols)}"))
            values[symbol] = after
    percent = {number / 100: symbol / 100 for number, symbol in symbols.items()}
    results: dict[sympy.Rational, sympy.Expr] = {}
    written_out = re.findall(r"<<([^<>=]*)=([^<>=]*)>>", solution)
    for expression, result in written_out or re.findall(PLAIN, solution):

        def meaning(match):
            number = sympy.Rational(match[0])
            for known in (results, symbols, percent):
                if number in known:
                    return f"({known[number]})"
            return f"Rational('{match[0]}')"

        written = re.sub(r"\d*\.?\d+", meaning, re.sub(r"[$,\s]", "", expression))
        names = {str(s): s for s in symbols.values()}
        value = sympy.sympify(written, locals=names, rational=True)
        results[sympy.Rational(re.sub(r"[$,\s]", "", result))] = value
    return Fraction(str(sympy.nsimplify(value.subs(values))))


@pytest.mark.parametrize("wanted", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_redrawn_gsm8k_problems_have_the_answer_of_another_computation(wanted, request):
    folder = GSM8K_SLICE if wanted == 100 else request.getfixturevalue("gsm8k")
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    random.Random(0).shuffle(rows)
    checked, growth = 0, list[float]()
    for n, row in enumerate(rows):
        answer = row["answer"].split("####")[1].strip()
        new = draw_new_numbers(row["question"], row["answer"], answer, random.Random(n))
        if new is None:
            continue
        expected = recomputed(row["question"], row["answer"], new.question)
        assert Fraction(new.answer) == expected, (row["question"], new)
        old, now = (
            [float(text.replace(",", "")) for text in NUMBER.findall(question)]
            for question in (row["question"], new.question)
        )
        growth += [math.log(b / a) for a, b in zip(old, now, strict=True) if a > 0]
        assert all(0.5 <= b / a <= 2 for a, b in zip(old, now, strict=True) if a > 0)
        checked += 1
        if checked == wanted:
            break
    print(f"\n{checked} redrawn problems agree, of {n + 1} tried")
    assert checked == wanted
    mean = math.exp(sum(growth) / len(growth))  # numbers become neither larger nor smaller
    assert mean == pytest.approx(1, abs=0.02 if wanted == 1000 else 0.05)
