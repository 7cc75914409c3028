"""Examples in the store: questions, solutions and answers, also of perturbed examples."""

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from premem_core.errors import StoreError
from premem_core.problems.conversations import conversation_json, read_conversation
from premem_core.records import Conversation, Example
from premem_core.store.database import Store, read_frame
from premem_core.store.schema import Connection

EXAMPLE_COLUMNS = (
    *("example", "id", "question", "solution", "answer", "metadata", "conversation"),
)
SIZE_COLUMNS = ("example", "id", "metadata", "lines", "words")
PERTURBED_COLUMNS = ("perturbation", "example", "question", "solution", "answer")


def add_examples(store: Store, task: str, split: str, examples: Sequence[Example]) -> list[int]:
    """Add examples that are not in the store yet; return the numbers of all of them, in order.

    Raises:
        StoreError: an example is in the store with another text; nothing was added.
    """
    if not examples:
        return []
    with store.writing() as connection:
        return insert_examples(connection, examples_frame(task, split, examples))


def add_perturbed_examples(
    store: Store, perturbation: str, numbers: Sequence[int], examples: Sequence[Example]
) -> None:
    """Store the perturbed forms of examples; a form that is in the store already stays.

    Args:
        numbers: the store's numbers of the examples.
        examples: their perturbed forms.
    """
    incoming = pd.DataFrame(
        {
            "perturbation": perturbation,
            "example": list(numbers),
            "question": [e.question for e in examples],
            "solution": [e.solution for e in examples],
            "answer": [e.answer for e in examples],
        }
    )
    with store.writing() as connection:
        connection.register("incoming", incoming)
        connection.execute("INSERT OR IGNORE INTO perturbed FROM incoming")


def read_task_examples(store: Store, task: str, split: str) -> pd.DataFrame:
    """EXAMPLE_COLUMNS of one split of a task, by number."""
    return read_frame(
        store,
        "SELECT * FROM examples WHERE task = ? AND split = ? ORDER BY example",
        EXAMPLE_COLUMNS,
        [task, split],
    )


def read_example_sizes(store: Store, task: str, split: str) -> pd.DataFrame:
    """SIZE_COLUMNS of one split of a task; `lines` and `words` are those of the solution.

    The texts themselves are not read into memory.
    """
    with store.reading() as connection:
        # Arrow does not make a Python object of each id, which matters for a million examples.
        table = connection.sql(
            r"""SELECT example, id, metadata,
                len(string_split(trim(solution, chr(10) || ' '), chr(10)))::INTEGER AS lines,
                len(regexp_extract_all(solution, '\S+'))::INTEGER AS words
            FROM examples WHERE task = ? AND split = ? ORDER BY example""",
            params=[task, split],
        ).to_arrow_table()
    return table.to_pandas()[list(SIZE_COLUMNS)]


def read_example_texts(store: Store, numbers: Sequence[int]) -> pd.DataFrame:
    """EXAMPLE_COLUMNS of the examples with these numbers, in the order of the numbers."""
    requested = pd.DataFrame({"example": numbers, "place": range(len(numbers))})
    with store.reading() as connection:
        connection.register("requested", requested)
        rows = connection.execute(
            "SELECT examples.* FROM requested JOIN examples USING (example) ORDER BY place"
        )
        return rows.df()[list(EXAMPLE_COLUMNS)]


def read_conversations(store: Store, numbers: Sequence[int]) -> list[tuple[str, Conversation]]:
    """The ids and conversations of those examples with these numbers that come from a chat."""
    requested = pd.DataFrame({"example": numbers, "place": range(len(numbers))})
    with store.reading() as connection:
        connection.register("requested", requested)
        rows = connection.execute(
            """SELECT id, conversation FROM requested JOIN examples USING (example)
            WHERE conversation IS NOT NULL ORDER BY place"""
        ).fetchall()
    found = ((id_, read_conversation(text)) for id_, text in rows)
    return [(id_, conversation) for id_, conversation in found if conversation]


def count_conversations(store: Store, task: str, split: str) -> tuple[int, int]:
    """How many examples of one split of a task come from a chat, and how many there are."""
    with store.reading() as connection:
        counts = connection.execute(
            "SELECT count(conversation), count(*) FROM examples WHERE task = ? AND split = ?",
            [task, split],
        ).fetchone()
    return counts or (0, 0)


def read_perturbed_examples(store: Store, task: str, perturbation: str) -> pd.DataFrame:
    """PERTURBED_COLUMNS of a task's examples with this perturbation."""
    return read_frame(
        store,
        """SELECT perturbed.* FROM perturbed JOIN examples USING (example)
        WHERE task = ? AND perturbation = ? ORDER BY example""",
        PERTURBED_COLUMNS,
        [task, perturbation],
    )


def example_of(row: Mapping[Hashable, Any]) -> Example:
    """The example in a row of EXAMPLE_COLUMNS; a text that the store lacks is empty.

    Args:
        row: as `DataFrame.to_dict("records")` gives it.
    """
    names = ("id", "question", "solution", "answer")
    id_, question, solution, answer = ("" if pd.isna(row[name]) else row[name] for name in names)
    metadata = json.loads(row["metadata"]) if isinstance(row["metadata"], str) else {}
    conversation = read_conversation(row.get("conversation"))
    return Example(id_, question, solution, answer, metadata, conversation)


def examples_frame(task: str, split: str, examples: Sequence[Example]) -> pd.DataFrame:
    """The examples as rows for `insert_examples`."""
    return pd.DataFrame(
        {
            "task": task,
            "split": split,
            "id": [e.id for e in examples],
            "question": [e.question for e in examples],
            "solution": [e.solution for e in examples],
            "answer": [e.answer for e in examples],
            "metadata": [pd.Series(dict(e.metadata)).to_json() for e in examples],
            "conversation": pd.Series(
                [conversation_json(e.conversation) for e in examples], dtype="object"
            ),
        }
    )


def insert_examples(connection: Connection, frame: pd.DataFrame) -> list[int]:
    """Insert examples that are not in the store yet; return the numbers of all of them, in order.

    Texts are filled in for an example that is in the store without any.

    Raises:
        StoreError: an example is in the store with another text.
    """
    connection.register("incoming", frame)
    conflict = connection.execute(
        """SELECT incoming.id, incoming.task FROM incoming JOIN examples USING (task, split, id)
        WHERE examples.question <> '' AND incoming.question <> ''
            AND (examples.question <> incoming.question OR examples.solution <> incoming.solution
                OR examples.conversation IS DISTINCT FROM incoming.conversation)
        LIMIT 1"""
    ).fetchone()
    if conflict:
        raise StoreError(
            f"example '{conflict[0]}' of task '{conflict[1]}' is in the store with another text; "
            "give these examples another task name or other ids"
        )
    connection.execute("""
        INSERT INTO examples
            (task, split, id, question, solution, answer, metadata, conversation)
        SELECT * FROM incoming WHERE NOT EXISTS (FROM examples WHERE examples.task = incoming.task
            AND examples.split = incoming.split AND examples.id = incoming.id)""")
    connection.execute("""
        UPDATE examples SET question = incoming.question, solution = incoming.solution,
            answer = incoming.answer, metadata = incoming.metadata,
            conversation = incoming.conversation
        FROM incoming WHERE examples.task = incoming.task AND examples.split = incoming.split
            AND examples.id = incoming.id AND examples.question = '' AND incoming.question <> ''""")
    numbers = connection.execute(
        "SELECT id, example FROM examples JOIN incoming USING (task, split, id)"
    ).fetchall()
    connection.unregister("incoming")
    by_id = dict(numbers)
    return [by_id[i] for i in frame["id"]]
