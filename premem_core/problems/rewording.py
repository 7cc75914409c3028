"""Questions in other words with the same answer: other people, other things, another order.

A function returns None where the change might change the problem itself.
"""

import random
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

# Female and male first names of Brazil, France, Germany, India, Italy, the Netherlands, Poland,
# Spain, the United Kingdom and the United States that have at least three letters, all of them
# from a to z.
FIRST_NAMES = Path(__file__).parent / "first_names"
OTHER_MEANINGS = {  # first names that more often mean something else, such as a month or a place
    "April", "Asia", "August", "Augusta", "Austin", "Autumn", "Berlin", "Brooklyn", "Carolina",
    "Chelsea", "Christian", "Dallas", "Florence", "Georgia", "German", "Glen", "Independence",
    "India", "Israel", "Jersey", "Job", "Jordan", "June", "Kenya", "London", "Madison", "Marine",
    "May", "Miles", "Milan", "Paris", "Princess", "Royal", "Saint", "Santa", "Savannah", "Summer",
    "Sydney", "Valentine", "Virginia", "Will",
}  # fmt: skip
PLACE_BEFORE = re.compile(r"\b(?:San|Santa|Saint|St\.|Lake|Mount|Mt\.|Fort|Port|New|Camp|Team)\s$")
PLACE_AFTER = re.compile(
    r"\s(?:City|Street|St\.|Avenue|Ave\.|Road|Island|County|University|College|High|Middle|School|"
    r"Elementary|Park|Lake|River|Beach|Day|Company|Inc)\b"
)
# Groups of similar things, singular and plural. One replaces another without changing a number.
THINGS: Sequence[Sequence[tuple[str, str]]] = (
    (("apple", "apples"), ("pear", "pears"), ("peach", "peaches"), ("banana", "bananas"),
     ("mango", "mangoes"), ("plum", "plums"), ("lemon", "lemons")),
    (("tomato", "tomatoes"), ("potato", "potatoes"), ("carrot", "carrots"), ("onion", "onions"),
     ("cucumber", "cucumbers")),
    (("pencil", "pencils"), ("pen", "pens"), ("marker", "markers"), ("crayon", "crayons"),
     ("eraser", "erasers")),
    (("cookie", "cookies"), ("muffin", "muffins"), ("cupcake", "cupcakes"),
     ("brownie", "brownies"), ("donut", "donuts"), ("bagel", "bagels")),
    (("marble", "marbles"), ("sticker", "stickers"), ("bead", "beads"), ("button", "buttons"),
     ("shell", "shells"), ("seashell", "seashells"), ("pebble", "pebbles")),
    (("cow", "cows"), ("goat", "goats"), ("horse", "horses"), ("pig", "pigs"),
     ("donkey", "donkeys")),
    (("cat", "cats"), ("dog", "dogs"), ("rabbit", "rabbits"), ("hamster", "hamsters")),
    (("tulip", "tulips"), ("sunflower", "sunflowers"), ("orchid", "orchids"),
     ("carnation", "carnations")),
    (("shirt", "shirts"), ("hat", "hats"), ("sweater", "sweaters"), ("jacket", "jackets"),
     ("scarf", "scarves")),
    (("book", "books"), ("magazine", "magazines"), ("novel", "novels"), ("comic", "comics")),
    (("car", "cars"), ("van", "vans"), ("truck", "trucks"), ("motorbike", "motorbikes")),
    (("chair", "chairs"), ("stool", "stools"), ("bench", "benches")),
    (("balloon", "balloons"), ("kite", "kites"), ("puzzle", "puzzles"), ("doll", "dolls")),
)  # fmt: skip
# Words for what one thing of a group has or does and another may not. Questions with such a word
# are not changed.
SPECIFIC = re.compile(
    r"\b(?:legs?|feet|teeth|tooth|paws?|wheels?|tires?|milk|eggs?|wings?|tails?|ears?|pages?|chapters?|slices?|"
    r"bark\w*|meow\w*|ink|peel\w*|juice|pie|pies|seeds?|puppies|puppy|kittens?|litters?)\b"
)
# The replacement of a unit, and the related units: a question with one of those is not changed.
UNITS: Sequence[tuple[Mapping[str, str], re.Pattern[str]]] = (
    ({"$": "€", "dollars": "euros", "dollar": "euro"},
     re.compile(r"\b(?:cents?|quarters?|dimes?|nickels?|penn(?:y|ies)|bucks?|bills?|US|euros?)\b")),
    ({"miles": "kilometers", "mile": "kilometer"},
     re.compile(r"\b(?:kilometers?|km|feet|foot|yards?|meters?|mph|laps?|gallons?)\b")),
    ({"pounds": "kilograms", "pound": "kilogram"},
     re.compile(r"\b(?:ounces?|oz|tons?|grams?|kilograms?|kg|£|british|shillings?|pence)\b", re.I)),
    ({"gallons": "liters", "gallon": "liter"},
     re.compile(r"\b(?:quarts?|pints?|cups?|ounces?|liters?|ml|milliliters?|miles?)\b")),
    ({"inches": "centimeters", "inch": "centimeter"},
     re.compile(r"\b(?:feet|foot|ft|yards?|meters?|centimeters?|cm|miles?)\b")),
)  # fmt: skip
SENTENCE = re.compile(r"(?<=[.?!])\s+(?=[\"“(]?[A-Z0-9$€])")
ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Mt|Prof|Jr|Sr|vs|approx|etc|No|[ap]\.m|[AP])\.")
# A sentence with one of these words may depend on the sentence before it or on the order of events.
DEPENDENT = re.compile(
    r"\b(?:of the|he|she|they|it|him|her|them|his|hers|their|theirs|its|this|that|these|those|"
    r"then|there|"
    r"also|too|another|others?|remaining|remainder|rest|both|each|same|such|so|thus|therefore|"
    r"however|but|and then|after|afterwards?|before|later|next|first|second|last|finally|now|"
    r"still|again|already|when|while|once|until|left|today|tomorrow|yesterday|instead|total|all|"
    r"together|more|less|fewer|twice|half|thrice|times|former|latter|one|ones|which|who|"
    r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?|morning|afternoon|evening|night|week|month)\b",
    re.IGNORECASE,
)
PRONOUN = re.compile(r"(?:He|She|They|It|His|Her|Their|This|That|These|Then)\b")
OPENING_THE = re.compile(r"^(?:the|every|all|some)\b", re.IGNORECASE)
IRRELEVANT = (
    "The weather was pleasant all day.",
    "A radio was playing quietly in the background.",
    "Somebody had left a window open.",
    "The neighbours were away on holiday.",
    "There was a faint smell of fresh paint.",
    "Outside, the wind was picking up.",
    "A newspaper lay unread on the table.",
    "The streets were unusually quiet.",
    "The sky was clear and blue.",
    "Birds could be heard from the garden.",
)


@cache
def first_names() -> tuple[frozenset[str], frozenset[str]]:
    """Female and male first names of ten countries, without names of both and OTHER_MEANINGS."""
    female, male = (
        set((FIRST_NAMES / f"{sex}.txt").read_text(encoding="utf-8").split())
        for sex in ("female", "male")
    )
    return frozenset(female - male - OTHER_MEANINGS), frozenset(male - female - OTHER_MEANINGS)


def people(question: str) -> list[str]:
    """The first names in a question, in the order of their first occurrence."""
    female, male = first_names()
    words = set(re.findall(r"[a-z]+", question))
    names = []
    for match in re.finditer(r"\b[A-Z][a-z]+\b", question):
        name = match[0]
        if name not in female and name not in male:
            continue
        if name.lower() in words or name.lower() + "s" in words:
            continue
        if PLACE_BEFORE.search(question[: match.start()]) or PLACE_AFTER.match(
            question, match.end()
        ):
            continue
        names.append(name)
    return list(dict.fromkeys(names))


def rename_people(question: str, familiar: Collection[str], rng: random.Random) -> str | None:
    """The question with other people of the same sex.

    Args:
        familiar: `people` of all questions. The new names are taken from them while there are
            unused ones, and from all first names after that.
    """
    mentioned = set(re.findall(r"\b[A-Z][a-z]+\b", question))
    replacements: dict[str, str] = {}
    for name in people(question):
        sex = next(names for names in first_names() if name in names)
        unused = sex - mentioned - set(replacements.values())
        free = {n for n in unused if n.lower() not in familiar}
        replacements[name] = rng.choice(sorted(free.intersection(familiar) or free))
    return _replaced(question, replacements) if replacements else None


def swap_things(question: str, familiar: Collection[str], rng: random.Random) -> str | None:
    """The question with other things of the same group, another currency or another unit.

    Args:
        familiar: words of all questions; things among them are preferred.
    """
    words = re.findall(r"[a-z]+|\$", question.lower())
    replacements: dict[str, str] = {}
    if not SPECIFIC.search(question.lower()):
        for group in THINGS:
            named = [thing for thing in group if set(thing) & set(words)]
            free = [thing for thing in group if thing not in named]
            preferred = [thing for thing in free if thing[1] in familiar]
            pool = preferred if len(preferred) >= len(named) else free
            if not named or len(pool) < len(named):
                continue
            for thing, new_thing in zip(named, rng.sample(pool, len(named)), strict=True):
                replacements |= dict(zip(thing, new_thing, strict=True))
    for unit, related in UNITS:
        if set(unit) & set(words) and not related.search(question):
            replacements |= unit
    replacements = {word: new for word, new in replacements.items() if word in words}
    return _replaced(question, replacements) if replacements else None


def reorder_sentences(question: str, rng: random.Random) -> str | None:
    """The question with two neighbouring sentences exchanged that do not depend on each other."""
    if ABBREVIATION.search(question):
        return None
    sentences = SENTENCE.split(question)
    places = [
        i
        for i in range(len(sentences) - 1)
        if _is_independent(sentences[i])
        and _is_independent(sentences[i + 1])
        and not any(map(PRONOUN.match, sentences[i + 2 : i + 3]))
    ]
    if not places:
        return None
    i = rng.choice(places)
    sentences[i : i + 2] = reversed(sentences[i : i + 2])
    return " ".join(sentences)


def insert_sentence(question: str, rng: random.Random) -> str | None:
    """The question with an irrelevant sentence before its last one."""
    sentences = [question] if ABBREVIATION.search(question) else SENTENCE.split(question)
    return " ".join([*sentences[:-1], rng.choice(IRRELEVANT), sentences[-1]])


def vocabulary(questions: Iterable[str]) -> frozenset[str]:
    """The people and words of all questions: `familiar` for `rename_people` and `swap_things`."""
    familiar: set[str] = set()
    for question in questions:
        familiar.update(people(question))
        familiar.update(re.findall(r"\b[a-z]+", question))
    return frozenset(familiar)


def _is_independent(sentence: str) -> bool:
    dependent = DEPENDENT.search(sentence) or OPENING_THE.match(sentence)
    return sentence.endswith(".") and not dependent


def _replaced(text: str, replacements: Mapping[str, str]) -> str:
    """The text with whole words and signs replaced in one pass; case and article are adapted."""
    in_lower_case = {word.lower(): new for word, new in replacements.items()}

    def replacement(match: re.Match[str]) -> str:
        word = match[0]
        if word in replacements:
            return replacements[word]
        new = in_lower_case[word.lower()]
        return new.upper() if word.isupper() else new.capitalize()

    pattern = "|".join(
        re.escape(word) if word == "$" else rf"\b{re.escape(word)}\b"
        for word in sorted(replacements, key=len, reverse=True)
    )
    new = re.sub(pattern, replacement, text, flags=re.IGNORECASE)
    nouns = "|".join(map(re.escape, {n for n in replacements.values() if n.islower()}))
    if nouns:
        new = re.sub(rf"\b([Aa])n? (?=({nouns})\b)", _article, new)
    return new


def _article(match: re.Match[str]) -> str:
    return f"{match[1]}{'n' if match[2][0] in 'aeiou' and not match[2].startswith('eu') else ''} "
