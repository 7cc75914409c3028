"""A question told in other words, with the same answer: other people, other things, another order.

Each function gives None where it cannot be sure that the problem stays the same.
"""

import importlib
import random
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache

LOCALES = ("de_DE", "en_GB", "en_IN", "en_US", "es_ES", "fr_FR", "it_IT", "nl_NL", "pl_PL", "pt_BR")
NAMED_FOR = {  # first names that are more often something else
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
# Things of one kind, singular and plural, that take each other's place without changing a number.
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
# What a thing of a kind has, or does, that the others may not: such questions are left alone.
TELLING = re.compile(
    r"\b(?:legs?|feet|teeth|tooth|paws?|wheels?|tires?|milk|eggs?|wings?|tails?|ears?|pages?|chapters?|slices?|"
    r"bark\w*|meow\w*|ink|peel\w*|juice|pie|pies|seeds?|puppies|puppy|kittens?|litters?)\b"
)
# A unit, what takes its place, and the words beside which it does not: other units of its kind.
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
# A sentence with one of these may lean on the one before it, or on the order of events.
LEANS = re.compile(
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
ASIDES = (
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
    """Female and male first names of ten countries; none that is both, or more often a word."""
    names = []
    for kind in ("first_names_female", "first_names_male"):
        found: set[str] = set()
        for locale in LOCALES:
            module = importlib.import_module(f"faker.providers.person.{locale}")
            found |= set(getattr(module.Provider, kind))
        names.append({name for name in found if re.fullmatch("[A-Z][a-z]{2,}", name)})
    female, male = names
    return frozenset(female - male - NAMED_FOR), frozenset(male - female - NAMED_FOR)


def people(question: str) -> list[str]:
    """The first names in a question, in order."""
    female, male = first_names()
    words = set(re.findall(r"[a-z]+", question))
    found = []
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
        found.append(name)
    return list(dict.fromkeys(found))


def rename_people(question: str, familiar: Collection[str], rng: random.Random) -> str | None:
    """Other people of the same sex, from names that the data set uses.

    Args:
        familiar: `people` of all questions; where they do not suffice, any first name is taken.
    """
    taken = people(question)
    mentioned = set(re.findall(r"\b[A-Z][a-z]+\b", question))
    others: dict[str, str] = {}
    for name in taken:
        sex = next(names for names in first_names() if name in names)
        free = {n for n in sex - mentioned - set(others.values()) if n.lower() not in familiar}
        others[name] = rng.choice(sorted(free.intersection(familiar) or free))
    return _replaced(question, others) if others else None


def swap_things(question: str, familiar: Collection[str], rng: random.Random) -> str | None:
    """Other things of the same kind, or another currency or unit of measure.

    Args:
        familiar: words of all questions; things that the data set knows are preferred.
    """
    words = re.findall(r"[a-z]+|\$", question.lower())
    others: dict[str, str] = {}
    if not TELLING.search(question.lower()):
        for kind in THINGS:
            named = [thing for thing in kind if set(thing) & set(words)]
            free = [thing for thing in kind if thing not in named]
            known = [thing for thing in free if thing[1] in familiar]
            pool = known if len(known) >= len(named) else free
            if not named or len(pool) < len(named):
                continue
            for thing, other in zip(named, rng.sample(pool, len(named)), strict=True):
                others |= dict(zip(thing, other, strict=True))
    for unit, not_beside in UNITS:
        if set(unit) & set(words) and not not_beside.search(question):
            others |= unit
    others = {word: other for word, other in others.items() if word in words}
    return _replaced(question, others) if others else None


def reorder_sentences(question: str, rng: random.Random) -> str | None:
    """Two neighbouring sentences the other way round, neither of which leans on the other."""
    if ABBREVIATION.search(question):
        return None
    sentences = SENTENCE.split(question)
    places = [
        i
        for i in range(len(sentences) - 1)
        if _stands_alone(sentences[i])
        and _stands_alone(sentences[i + 1])
        and not any(map(PRONOUN.match, sentences[i + 2 : i + 3]))
    ]
    if not places:
        return None
    i = rng.choice(places)
    sentences[i : i + 2] = reversed(sentences[i : i + 2])
    return " ".join(sentences)


def insert_sentence(question: str, rng: random.Random) -> str | None:
    """A sentence more, before the last one, that has nothing to do with the problem."""
    sentences = [question] if ABBREVIATION.search(question) else SENTENCE.split(question)
    return " ".join([*sentences[:-1], rng.choice(ASIDES), sentences[-1]])


def vocabulary(questions: Iterable[str]) -> frozenset[str]:
    """The people and words of a data set's questions: what is familiar to `rename` and `swap`."""
    found: set[str] = set()
    for question in questions:
        found.update(people(question))
        found.update(re.findall(r"\b[a-z]+", question))
    return frozenset(found)


def _stands_alone(sentence: str) -> bool:
    return sentence.endswith(".") and not LEANS.search(sentence) and not OPENING_THE.match(sentence)


def _replaced(text: str, others: Mapping[str, str]) -> str:
    """Whole words and signs put in the place of others at once, with their case and article."""

    in_any_case = {word.lower(): new for word, new in others.items()}

    def other(match: re.Match[str]) -> str:
        word = match[0]
        if word in others:
            return others[word]
        new = in_any_case[word.lower()]
        return new.upper() if word.isupper() else new.capitalize()

    wanted = "|".join(
        re.escape(word) if word == "$" else rf"\b{re.escape(word)}\b"
        for word in sorted(others, key=len, reverse=True)
    )
    new = re.sub(wanted, other, text, flags=re.IGNORECASE)
    nouns = "|".join(map(re.escape, {o for o in others.values() if o.islower()}))
    if nouns:
        new = re.sub(rf"\b([Aa])n? (?=({nouns})\b)", _article, new)
    return new


def _article(match: re.Match[str]) -> str:
    return f"{match[1]}{'n' if match[2][0] in 'aeiou' and not match[2].startswith('eu') else ''} "
