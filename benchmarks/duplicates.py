"""Share of planted duplicates and test leaks that are found, and what is found without planting.

python benchmarks/duplicates.py gsm8k [--read 10]

PLANTED problems of the test set, and as many of the training set, are added to the training set:
unchanged, in upper or lower case, with other spaces, with other names, or with all three changes.
The new names come from a list of this script, which the product does not contain.
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
NEW_NAMES = [
    *("Oluwaseun", "Xiomara", "Thandiwe", "Bjork", "Siobhan", "Kwabena", "Anneliese", "Tariq"),
    *("Yevgenia", "Ignacio", "Makoto", "Priyanka", "Zbigniew", "Leilani", "Ottoline", "Faramond"),
    *("Ximena", "Dagny", "Casimir", "Perpetua"),
]
SPACES = (" ", "  ", "\n", "\t", "\N{NO-BREAK SPACE}")


def other_names(text: str, rng: random.Random) -> str:
    """The text with every first name replaced by one of NEW_NAMES."""
    names = rewording.people(text)
    new_name_of = dict(zip(names, rng.sample(NEW_NAMES, len(names)), strict=True))
    return re.sub(r"\w+", lambda word: new_name_of.get(word[0], word[0]), text)


def other_case(text: str, rng: random.Random) -> str:
    return rng.choice((str.upper, str.lower))(text)


def other_spaces(text: str, rng: random.Random) -> str:
    return "  " + re.sub(r"\s+", lambda _: rng.choice(SPACES), text) + "\n"


def all_three(text: str, rng: random.Random) -> str:
    return other_spaces(other_case(other_names(text, rng), rng), rng)


KINDS: dict[str, Callable[[str, random.Random], str]] = {
    "exact": lambda text, _: text,
    "case": other_case,
    "spaces": other_spaces,
    "names": other_names,
    "all three": all_three,
}


def find(questions: list[str], test: list[str] | None) -> pd.DataFrame:
    """Leaks from the test questions among the questions; duplicates if there is no test set."""
    if test is None:
        return similar_questions.find_duplicates(pd.Series(questions))
    return similar_questions.find_leaks(pd.Series(questions), pd.Series(test))


def print_planted(train: list[str], test: list[str], rng: random.Random) -> None:
    """Plant problems of each kind, and print how many are found."""
    for issue, source in (("leak from test", test), ("duplicate in train", train)):
        for kind, change in KINDS.items():
            usable = [text for text in source if kind != "names" or other_names(text, rng) != text]
            chosen = rng.sample(usable, min(PLANTED, len(usable)))
            planted = [change(text, rng) for text in chosen]
            pairs = find([*train, *planted], test if source is test else None)
            found = pairs[pairs["example"] >= len(train)]
            right = [
                source[other] == chosen[example - len(train)]
                for other, example in zip(found["other"], found["example"], strict=True)
                if other < len(source)
            ]
            print(
                f"{issue}, {kind}: {len(found)} of {len(planted)} found "
                f"({len(found) / len(planted):.1%}), {sum(right)} with their original",
                flush=True,
            )


def print_without_planting(train: list[str], test: list[str], most: int) -> None:
    """Print how many similar pairs the training set has, and the most similar ones."""
    for name, source in (("a test problem", test), ("an earlier training problem", train)):
        pairs = find(train, test if source is test else None)
        print(f"\n{len(pairs)} problems of GSM8K train are similar to {name}; the most similar:")
        for row in pairs.nlargest(most, "similarity").to_dict("records"):
            print(f"{row['similarity']:.2f}{' exact' if row['exact'] else ''}")
            print(f"  {train[row['example']]}\n  {source[row['other']]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gsm8k", type=Path)
    parser.add_argument("--read", type=int, default=10, help="number of similar pairs to print")
    options = parser.parse_args()
    train, test = (
        [
            example.question
            for example in examples.read_examples(options.gsm8k / f"{split}.jsonl").examples
        ]
        for split in ("train", "test")
    )
    print(f"similarity at least {similar_questions.SIMILARITY}")
    print_planted(train, test, random.Random(0))
    print_without_planting(train, test, options.read)


if __name__ == "__main__":
    main()
