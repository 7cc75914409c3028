"""How many planted duplicates and test leaks are found, and what is found where none was planted.

python benchmarks/duplicates.py gsm8k [--read 10]

PLANTED problems of the test set, and as many of the training set, are put into the training set
again: as they are, in capitals or small letters, with other spaces, with other people's names, or
with all of it. Names are swapped by a list of its own, which the product does not know.
"""

import argparse
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from premem_core.curation import similar_questions
from premem_core.problems import examples, rewording

PLANTED = 1000
OTHERS = [
    *("Oluwaseun", "Xiomara", "Thandiwe", "Bjork", "Siobhan", "Kwabena", "Anneliese", "Tariq"),
    *("Yevgenia", "Ignacio", "Makoto", "Priyanka", "Zbigniew", "Leilani", "Ottoline", "Faramond"),
    *("Ximena", "Dagny", "Casimir", "Perpetua"),
]
SPACES = (" ", "  ", "\n", "\t", "\N{NO-BREAK SPACE}")


def other_names(text: str, rng: random.Random) -> str:
    """With every first name that the text has swapped for one of OTHERS."""
    names = rewording.people(text)
    swapped = dict(zip(names, rng.sample(OTHERS, len(names)), strict=True))
    return re.sub(r"\w+", lambda word: swapped.get(word[0], word[0]), text)


def other_case(text: str, rng: random.Random) -> str:
    return rng.choice((str.upper, str.lower))(text)


def other_spaces(text: str, rng: random.Random) -> str:
    return "  " + re.sub(r"\s+", lambda _: rng.choice(SPACES), text) + "\n"


def all_of_it(text: str, rng: random.Random) -> str:
    return other_spaces(other_case(other_names(text, rng), rng), rng)


KINDS: dict[str, Callable[[str, random.Random], str]] = {
    "exact": lambda text, _: text,
    "case": other_case,
    "spaces": other_spaces,
    "names": other_names,
    "all three": all_of_it,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gsm8k", type=Path)
    parser.add_argument("--read", type=int, default=10, help="so many false positives are printed")
    asked = parser.parse_args()
    train, test = (
        [each.question for each in examples.read_examples(asked.gsm8k / f"{split}.jsonl").examples]
        for split in ("train", "test")
    )
    least = similar_questions.SIMILARITY
    print(f"similarity at least {least}")
    rng = random.Random(0)
    for what, source in (("leak from test", test), ("duplicate in train", train)):
        for name, change in KINDS.items():
            usable = [each for each in source if name != "names" or other_names(each, rng) != each]
            chosen = rng.sample(usable, min(PLANTED, len(usable)))
            planted = [change(each, rng) for each in chosen]
            questions = pd.Series([*train, *planted])
            found = (
                similar_questions.find_leaks(questions, pd.Series(test), least)
                if source is test
                else similar_questions.find_duplicates(questions, least)
            )
            again = found[found["example"] >= len(train)]
            right = [
                source[row.other] == chosen[row.example - len(train)]
                for row in again.itertuples()
                if row.other < len(source)
            ]
            print(
                f"{what}, {name}: {len(again)} of {len(planted)} found "
                f"({len(again) / len(planted):.1%}), {sum(right)} as their original",
                flush=True,
            )
    for what, source in (("test", test), ("an earlier training problem", train)):
        found = (
            similar_questions.find_leaks(pd.Series(train), pd.Series(test), least)
            if source is test
            else similar_questions.find_duplicates(pd.Series(train), least)
        )
        print(f"\nof GSM8K train as it is, {len(found)} are like {what}; the most similar:")
        for row in found.nlargest(asked.read, "similarity").itertuples():
            print(f"{row.similarity:.2f}{' exact' if row.exact else ''}")
            print(f"  {train[row.example]}\n  {source[row.other]}")


if __name__ == "__main__":
    main()
