"""Continuations: whether a base model writes the rest of a question whose beginning it is given.

A model that writes it word for word has seen the question in training, so its accuracy on such
questions, and on others of the same source, says little (partial-prompt completion, Wu et al. 2025,
"Reasoning or Memorization?", arXiv 2507.10532; there with 40, 60 and 80 % of the question).
"""

import re
import time
from dataclasses import replace

import pyarrow as pa

from premem_core.models.backend import Backend, Request
from premem_core.models.encoding.encoder import make_encoder
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Sampling
from premem_core.scoring.chunks import Chunk
from premem_core.store.shards.shards import CONTINUATIONS

GIVEN = 0.6  # of a question's characters
SHORTEST = 40  # characters of a rest, about eight words; of a shorter one, some are guessed

QUESTION_ALONE = PromptTemplate("{question}", "{solution}", ())


def divide(question: str) -> tuple[str, str] | None:
    """The beginning that a model is given, and the rest; None where the rest would be too short.

    The beginning is 60 % of the question, and the rest of its last word. Where no more spaces
    follow, as in Chinese, it ends within the text.

    >>> divide("Ann had 12 red apples and gave 5 of them to her brother Bob, who ate them all. "
    ...     "How many red apples has Ann got now?")[1]
    ' all. How many red apples has Ann got now?'
    >>> divide("How many apples has Ann got?")
    """
    question = question.strip()
    place = round(GIVEN * len(question))
    space = re.compile(r"\s").search(question, place)
    end = space.start() if space else place
    rest = question[end:]
    return None if len(_normal(rest)) < SHORTEST else (question[:end], rest)


def is_rest(completion: str, rest: str) -> bool:
    """Whether a completion begins with the rest of a question, whatever their white space.

    >>> is_rest(" does Ann\\nhave left? Ann has 7.", " does Ann have left?"), is_rest("15 kg", "15")
    (True, True)
    >>> is_rest("150", "15"), is_rest(" does Bob have left?", " does Ann have left?")
    (False, False)
    """
    written, expected = _normal(completion), _normal(rest)
    goes_on = written[len(expected) - 1 : len(expected) + 1].isalnum()  # the last word is longer
    return written.startswith(expected) and (written == expected or not goes_on)


def _normal(text: str) -> str:
    return " ".join(text.split())


def write_continuations(chunk: Chunk, backend: Backend) -> tuple[pa.Table, float]:
    """Let a model continue the questions of a chunk, without any template; table and seconds.

    The most likely token is taken each time, for as many tokens as the longest rest has.

    Returns:
        The columns of `shards.CONTINUATIONS`, where `known` is None for a question that is too
        short, and the seconds that the model took.
    """
    parts = [divide(query.example.question) for query in chunk.queries]
    encoder = make_encoder(QUESTION_ALONE, backend.tokenizer, backend.end_tokens)
    divided = [
        (replace(query.example, question=part[0], conversation=None), part[1])
        for query, part in zip(chunk.queries, parts, strict=True)
        if part
    ]
    requests = [Request(encoder.prompt(beginning), 0, range(1)) for beginning, _ in divided]
    rests = [rest for _, rest in divided]
    started = time.perf_counter()
    written: list[str] = []
    if requests:
        ids = backend.tokenizer(rests, add_special_tokens=False)["input_ids"]
        greedy = Sampling(samples=1, temperature=0.0, top_p=1.0, max_new_tokens=max(map(len, ids)))
        [completions] = backend.sample([requests], greedy, encoder.ending)
        written = [completion.text for [completion] in completions]
    seconds = time.perf_counter() - started
    texts = iter(zip(rests, written, strict=True))
    rows = [next(texts) if part else (None, None) for part in parts]
    columns = {
        "run": [chunk.run] * len(rows),
        "step": [chunk.step] * len(rows),
        "split": [chunk.split] * len(rows),
        "example": [query.number for query in chunk.queries],
        "rest": [rest for rest, _ in rows],
        "completion": [text for _, text in rows],
        "known": [None if rest is None else is_rest(text or "", rest) for rest, text in rows],
    }
    return pa.table(columns, schema=CONTINUATIONS), seconds
