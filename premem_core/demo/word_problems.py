r"""Small word problems with solutions, written by rules; and the demo's pretraining texts.

    Zoe has 35 muffins. After that she trades 15 muffins for a book. Later she lends 8 muffins to
    Omar. Next she unpacks 27 muffins at home. How many muffins does Zoe have in the end?

    The number goes down to 35 - 15 = 20.
    Now she has 20 - 8 = 12 muffins.
    Next, she has 27 + 12 = 39 muffins.
    #### 39

A solution is one of many equally good ones: the order of the steps, the wording of a line and the
order of the terms of a sum are random. If they were not, a model that has learned the task would
have perplexity 1, just as a model that has memorized the solutions.
"""

import random
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from premem_core.errors import DataError, UsageError
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Example

GAINS = {
    "buys": "buys {amount} at the market",
    "finds": "finds {amount} in the park",
    "receives": "receives {amount} from {friend}",
    "wins": "wins {amount} in a game",
    "collects": "collects {amount} after school",
    "borrows": "borrows {amount} from {friend}",
    "earns": "earns {amount} for helping {friend}",
    "unpacks": "unpacks {amount} at home",
}
LOSSES = {
    "gives": "gives {amount} to {friend}",
    "loses": "loses {amount} in the park",
    "sells": "sells {amount} at the market",
    "lends": "lends {amount} to {friend}",
    "donates": "donates {amount} to the school",
    "returns": "returns {amount} to {friend}",
    "trades": "trades {amount} for a book",
    "drops": "drops {amount} on the way home",
}
# Pretraining shows only of these verbs whether they add or take away; fine-tuning teaches the rest.
FAMILIAR_VERBS = ("buys", "finds", "receives", "gives", "loses", "sells")

NAMES = {
    **dict.fromkeys(
        (
            "Ada",
            "Beth",
            "Clara",
            "Dana",
            "Elsa",
            "Grace",
            "Ivy",
            "Julia",
            "Mia",
            "Nora",
            "Ruth",
            "Zoe",
        ),
        "she",
    ),
    **dict.fromkeys(
        (
            "Adam",
            "Ben",
            "Carl",
            "David",
            "Finn",
            "Hugo",
            "Jack",
            "Leo",
            "Max",
            "Noah",
            "Omar",
            "Tom",
        ),
        "he",
    ),
}
THINGS = (
    "apples", "balloons", "beads", "buttons", "candles", "cards", "coins", "cookies", "crayons",
    "flowers", "keys", "lemons", "marbles", "muffins", "pears", "pencils", "pins", "plums",
    "ribbons", "shells", "stamps", "stickers", "stones", "tickets",
)  # fmt: skip
_SETTINGS = (
    "{name} has {start} {things}.",
    "At first {name} has {start} {things}.",
    "{name} owns {start} {things}.",
    "There are {start} {things} on the desk of {name}.",
)
_WHEN = ("", "Then ", "Later ", "Next ", "After that ", "Soon ")
_ASKS = (
    "How many {things} does {name} have now?",
    "How many {things} does {name} have in the end?",
    "What is the number of {things} that {name} has now?",
)
_OPENINGS = (
    "",
    "{name} has {start} {things}.",
    "First, {name} has {start} {things}.",
    "We know that {name} has {start} {things}.",
    "The first number is {start}.",
    "We begin with {start} {things}.",
)
_LINKS = ("", "Then ", "Next, ", "So ", "Now ", "After that, ")
_STEPS = {
    +1: (
        "{name} has {sum} {things}.",
        "{pronoun} has {sum} {things}.",
        "adding {amount} gives {sum}.",
        "with {amount} more, that is {sum}.",
        "we add {amount} and get {sum} {things}.",
        "the number goes up to {sum}.",
        "{pronoun} {verb} {amount}, which makes {sum}.",
        "it is {sum}, since {name} {verb} {amount}.",
    ),
    -1: (
        "{name} has {sum} {things}.",
        "{pronoun} has {sum} {things}.",
        "taking away {amount} gives {sum}.",
        "without {amount} of them, that is {sum}.",
        "we take away {amount} and get {sum} {things}.",
        "the number goes down to {sum}.",
        "{pronoun} {verb} {amount}, which leaves {sum}.",
        "it is {sum}, since {name} {verb} {amount}.",
    ),
}
_ENDINGS = (
    "",
    "",
    "{name} has {total} {things} now.",
    "That is {total} {things} in the end.",
    "The answer is {total}.",
)
_MOST = 99
_LEAST = 2  # "1 apples" would be wrong


@dataclass(frozen=True, slots=True)
class Event:
    """One change to the number of things."""

    verb: str
    amount: int

    @property
    def sign(self) -> int:
        """+1 where things are added, -1 where they are taken away."""
        return 1 if self.verb in GAINS else -1


def make_problems(
    n: int,
    seed: int,
    *,
    steps: Sequence[int] = (2, 3, 4),
    verbs: Sequence[str] = (*GAINS, *LOSSES),
    exclude: Collection[str] = (),
    prefix: str = "",
) -> list[Example]:
    """`n` problems with distinct questions; their ids are `prefix` and a number.

    The same arguments give the same problems, and a smaller `n` gives the first of them. The
    metadata are `steps`, the number of events, and `verbs` in the order of the story.

    Args:
        steps: the numbers of events to draw from.
        verbs: the verbs to draw from.
        exclude: questions that must not occur.

    Raises:
        UsageError: a verb is unknown, or a number of steps is below 1.

    >>> first, second = make_problems(2, seed=0)
    >>> first == make_problems(1, seed=0)[0], first.question == second.question
    (True, False)
    """
    if unknown := sorted(set(verbs) - {*GAINS, *LOSSES}):
        raise UsageError(f"Unknown verbs {unknown}; choose among {[*GAINS, *LOSSES]}.")
    if not verbs or not steps or min(steps) < 1:
        raise UsageError(f"A problem needs verbs and at least 1 step; got {verbs=}, {steps=}.")
    rng = random.Random(f"problems {seed}")
    seen = set(exclude)
    examples: list[Example] = []
    while len(examples) < n:
        drawn = [rng.choice(verbs) for _ in range(rng.choice(steps))]
        example = _problem(rng, drawn, id=f"{prefix}{len(examples):04d}")
        if example.question not in seen:
            seen.add(example.question)
            examples.append(example)
    return examples


def variants(
    example: Example, n: int, seed: int, *, exclude: Collection[str] = ()
) -> list[Example]:
    """`n` new problems with the verbs of `example`, and other people, things and numbers.

    Args:
        exclude: questions that must not occur.

    Raises:
        DataError: the question holds none of the verbs, so it is not from this generator.

    >>> old = make_problems(1, seed=0)[0]
    >>> new = variants(old, 1, seed=1)[0]
    >>> new.metadata["verbs"] == old.metadata["verbs"], new.question == old.question
    (True, False)
    """
    # The verbs come from the text, because examples from a file have no metadata.
    verbs = [word for word in re.findall(r"\w+", example.question) if word in {*GAINS, *LOSSES}]
    if not verbs:
        raise DataError(
            f"Example {example.id} holds none of the verbs {[*GAINS, *LOSSES]}; variants can be "
            "written only of problems from this generator."
        )
    rng = random.Random(f"variants {example.id} {seed}")
    seen = {*exclude, example.question}
    new: list[Example] = []
    while len(new) < n:
        candidate = _problem(rng, verbs, id=f"{example.id}-v{len(new):02d}")
        if candidate.question not in seen:
            seen.add(candidate.question)
            new.append(candidate)
    return new


def pretraining_texts(seed: int) -> Iterator[str]:
    """An endless stream of pretraining texts: arithmetic and language, but not the whole task.

    A fifth are chains of equations. 15 % are questions with any verbs, without a solution. The
    rest are problems of one or two steps with a solution, which use only FAMILIAR_VERBS.
    """
    rng = random.Random(f"pretraining {seed}")
    every_verb = (*GAINS, *LOSSES)
    template = PromptTemplate()
    while True:
        kind = rng.random()
        if kind < 0.2:
            yield _equations(rng)
        elif kind < 0.35:
            yield _problem(rng, rng.choices(every_verb, k=rng.randint(1, 4))).question
        else:
            example = _problem(rng, rng.choices(FAMILIAR_VERBS, k=rng.randint(1, 2)))
            yield "".join(template.fill(example))


def _problem(rng: random.Random, verbs: Sequence[str], id: str = "") -> Example:
    name, friend = rng.sample(list(NAMES), 2)
    words = {
        "name": name,
        "friend": friend,
        "pronoun": NAMES[name],
        "things": rng.choice(THINGS),
    }
    start, events = _story(rng, verbs)
    total = start + sum(event.sign * event.amount for event in events)
    return Example(
        id=id,
        question=_question(rng, start, events, words),
        solution=_solution(rng, start, events, words),
        answer=str(total),
        metadata={"steps": len(events), "verbs": [event.verb for event in events]},
    )


def _story(rng: random.Random, verbs: Sequence[str]) -> tuple[int, list[Event]]:
    """A first number, and events after which the number always lies within _LEAST to _MOST."""
    while True:
        start = rng.randint(5, 60)
        events = [Event(verb, rng.randint(2, 39)) for verb in verbs]
        if _stays_in_range(start, events):
            return start, events


def _stays_in_range(start: int, events: Sequence[Event]) -> bool:
    number = start
    for event in events:
        number += event.sign * event.amount
        if not _LEAST <= number <= _MOST:
            return False
    return True


def _question(
    rng: random.Random, start: int, events: Sequence[Event], words: dict[str, str]
) -> str:
    sentences = [rng.choice(_SETTINGS).format(start=start, **words)]
    for event in events:
        amount = f"{event.amount} {words['things']}"
        action = (GAINS | LOSSES)[event.verb].format(amount=amount, **words)
        sentences.append(_sentence(f"{rng.choice(_WHEN)}{words['pronoun']} {action}."))
    sentences.append(rng.choice(_ASKS).format(**words))
    return " ".join(sentences)


def _solution(
    rng: random.Random, start: int, events: Sequence[Event], words: dict[str, str]
) -> str:
    lines = [rng.choice(_OPENINGS).format(start=start, **words)]
    number = start
    for event in _order(rng, start, events):
        after = number + event.sign * event.amount
        sign = "+" if event.sign > 0 else "-"
        equation = f"{_terms(rng, number, sign, event.amount)} = {after}"
        step = rng.choice(_STEPS[event.sign]).format(
            sum=equation, amount=event.amount, verb=event.verb, **words
        )
        lines.append(_sentence(rng.choice(_LINKS) + step))
        number = after
    lines.append(rng.choice(_ENDINGS).format(total=number, **words))
    lines.append(f"#### {number}")
    return "\n".join(line for line in lines if line)


def _order(rng: random.Random, start: int, events: Sequence[Event]) -> list[Event]:
    """The events in the order of the story, or sometimes in reverse order if that is possible."""
    backwards = list(reversed(events))
    if _stays_in_range(start, backwards) and rng.random() < 0.4:
        return backwards
    return list(events)


def _terms(rng: random.Random, left: int, sign: str, right: int) -> str:
    if sign == "+" and rng.random() < 0.5:
        left, right = right, left
    return f"{left} {sign} {right}"


def _equations(rng: random.Random) -> str:
    """A chain of equations, in which each one goes on from the result of the one before."""
    equations = []
    number = rng.randint(_LEAST, _MOST)
    for _ in range(rng.randint(2, 5)):
        sign, amount = rng.choice((-1, 1)), rng.randint(2, 45)
        if not _LEAST <= number + sign * amount <= _MOST:
            sign = -sign
        after = number + sign * amount
        equations.append(f"{_terms(rng, number, '+' if sign > 0 else '-', amount)} = {after}")
        number = after
    return f"Count: {', '.join(equations)}."


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
