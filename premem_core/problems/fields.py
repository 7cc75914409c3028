"""Fields: which columns of a data file hold the question, the solution and the final answer.

The shapes that are found without being named, in this order:

    messages or conversations              turns; the last assistant's turn is the solution
    prompt and completion                  texts or turns
    instruction, input and output          Alpaca, also with system and history
    question and solution                  by any of the names below
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NoReturn

from premem_core.errors import DataError
from premem_core.problems.answer_rule import FORMS, AnswerRule, label_of, options_in
from premem_core.problems.conversations import Turns, as_turns
from premem_core.problems.data_files import Source, Split, find_data_files, source_name
from premem_core.problems.rows import Row, read_rows, value_at

_ROWS_TO_DETECT_FROM = 50

_CONVERSATION_NAMES = ("messages", "conversations", "conversation", "dialogue", "chat")
QUESTION_NAMES = ("question", "problem", "prompt", "query", "instruction", "input")
# "answer" comes last: where there is another of these columns, it is the final answer.
_SOLUTION_NAMES = (
    *("solution", "response", "output", "completion", "chosen"),
    *("reasoning", "rationale", "generations", "responses", "completions", "answer"),
)
_ANSWER_NAMES = (
    *("final_answer", "gold", "label", "target", "answer", "ground_truth", "expected_answer"),
    *("correct", "correct_answer", "answer_key", "answerkey", "correct_option"),
)
_OPTIONS_NAMES = ("options", "choices")
ID_NAMES = (
    *("id", "idx", "index", "uid", "uuid"),
    *("unique_id", "example_id", "question_id", "problem_id"),
)
SHAPES = (
    "messages or conversations (lists of turns); prompt and completion; instruction, input and "
    f"output; one of {', '.join(QUESTION_NAMES)} and one of {', '.join(_SOLUTION_NAMES)}"
)


@dataclass(frozen=True, slots=True)
class Fields:
    """Which column holds what. A name may be a path into a column, as `extra_info.answer`.

    Attributes:
        question: text, or the turns of a conversation.
        solution: text, turns, or a list of texts, each of which makes an example; None where the
            turns of `question` hold it.
        metadata: None where all other columns are metadata.
        input: a second part of the question (Alpaca).
        system: the system prompt.
        history: earlier turns, as pairs of texts (LLaMA-Factory).
        tools: the JSON schemas of tools.
        options: the options of a multiple-choice question.
        turns: whether the last or every turn of the assistant makes an example.
    """

    question: str
    solution: str | None
    answer: AnswerRule
    id: str | None = None
    metadata: tuple[str, ...] | None = None
    input: str | None = None
    system: str | None = None
    history: str | None = None
    tools: str | None = None
    options: str | None = None
    turns: Turns = "last"

    @property
    def labelled(self) -> bool:
        """Whether the solution is the final answer, which may be an option's label or index."""
        answer = self.answer.argument if self.answer.kind == "field" else None
        return self.options is not None and answer is not None and answer == self.solution

    @property
    def used(self) -> set[str]:
        """The columns and paths that are not metadata."""
        answer = self.answer.argument if self.answer.kind == "field" else None
        named = (self.question, self.solution, self.id, answer, self.input, self.system)
        return {name for name in (*named, self.history, self.tools, self.options) if name}


@dataclass(frozen=True, slots=True)
class FieldNames:
    """The fields that a person named; those that are None are detected.

    Args:
        answer: as `AnswerRule.parse` reads it.
    """

    question: str | None = None
    solution: str | None = None
    answer: str | None = None
    turns: Turns = "last"


def detect_fields(
    source: Source, names: FieldNames = FieldNames(), split: Split = "train"
) -> Fields:
    """Detect the fields from common column names and from the first rows.

    Args:
        names: the fields that are known already; a test file may lack them, because its columns
            may have other names.

    Raises:
        DataError: the data cannot be read, or its fields cannot be detected; the message names
            the columns and the shapes that were tried.
        UsageError: as `AnswerRule.parse`.
    """
    where, rows = source_name(source), _first_rows(source, split)
    sample = _first_values([row.values for row in rows])
    if split == "train":
        _check_named(where, sample, names)
    question, solution = _question_and_solution(where, sample, names)
    fields = Fields(question, solution, AnswerRule("hash"), turns=names.turns)
    fields = _with_more(sample, fields)
    left = [name for name in sample if name not in fields.used]
    fields = replace(fields, id=first_named(ID_NAMES, [n for n in left if "." not in n]))
    return replace(fields, answer=_answer_rule(where, rows, fields, left, names.answer, split))


def column_names(source: Source, split: Split = "train") -> list[str]:
    """The columns of data, and after them the paths into nested ones.

    Raises:
        DataError: the data cannot be read, or has no readable row.
    """
    return list(_first_values([row.values for row in _first_rows(source, split)]))


def _first_rows(source: Source, split: Split) -> list[Row]:
    rows = (row for row in read_rows(find_data_files(source, split)) if isinstance(row, Row))
    first = list(islice(rows, _ROWS_TO_DETECT_FROM))
    if not first:
        name = source_name(source)
        raise DataError(f"{name} has no readable row; give a file with at least one.")
    return first


def _first_values(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The first value of every column, and after the columns, of every path into one of them."""
    columns: dict[str, Any] = {}
    for values in rows:
        for name, value in values.items():
            if columns.get(name) is None:
                columns[name] = value
    nested = {
        f"{name}.{key}": value
        for name, inner in columns.items()
        if isinstance(inner, Mapping)
        for key, value in inner.items()
    }
    return columns | nested


def _check_named(where: str, sample: Mapping[str, Any], names: FieldNames) -> None:
    rule = AnswerRule.parse(names.answer) if names.answer else None
    answer = rule.argument if rule and rule.kind == "field" else None
    for name in (names.question, names.solution, answer):
        if name is not None and value_at(sample, name) is None:
            raise DataError(
                f"{where} has no field {name!r}; it has {', '.join(sample)}; name one of these."
            )


def _question_and_solution(
    where: str, sample: Mapping[str, Any], names: FieldNames
) -> tuple[str, str | None]:
    question, solution = (
        name if name and value_at(sample, name) not in (None, "") else None
        for name in (names.question, names.solution)
    )
    if question is None and solution is None:
        turns = first_named(_CONVERSATION_NAMES, [n for n in sample if as_turns(sample[n])])
        if turns is not None:
            return turns, None
    question = question or first_named(QUESTION_NAMES, list(sample))
    if question is not None and solution is None and _answers_itself(value_at(sample, question)):
        return question, None
    others = [name for name in sample if name != question]
    solution = solution or first_named(_SOLUTION_NAMES, others) or _option_answer(sample, others)
    if question is None or solution is None:
        missing = "question" if question is None else "solution"
        _cannot_detect(where, f"which one is the {missing}", sample)
    return question, solution


def _option_answer(sample: Mapping[str, Any], columns: list[str]) -> str | None:
    """The column of the right option in a multiple-choice row that has no solution, as in ARC."""
    options = first_named(_OPTIONS_NAMES, columns)
    answer = first_named(_ANSWER_NAMES, [name for name in columns if "." not in name])
    if options and answer and label_of(options_in(sample[options]), sample[answer]):
        return answer
    return None


def _answers_itself(value: object) -> bool:
    turns = as_turns(value)
    return bool(turns) and turns is not None and turns[-1]["role"] == "assistant"


def _with_more(sample: Mapping[str, Any], fields: Fields) -> Fields:
    """The fields with those that add to the question: Alpaca's input, system prompt, options."""
    left = [name for name in sample if name not in (fields.question, fields.solution)]
    is_alpaca = fields.question.lower() == "instruction"
    options = first_named(_OPTIONS_NAMES, left)
    return replace(
        fields,
        input=first_named(("input",), left) if is_alpaca else None,
        system=first_named(("system", "system_prompt"), left),
        history=first_named(("history",), left) if is_alpaca else None,
        tools=first_named(("tools",), left),
        options=options if options and isinstance(sample[options], list | Mapping) else None,
    )


def _answer_rule(
    where: str,
    rows: Sequence[Row],
    fields: Fields,
    left: list[str],
    given: str | None,
    split: Split,
) -> AnswerRule:
    rule = AnswerRule.parse(given) if given else None
    if rule is not None and not (split == "test" and _finds_nothing(rule, rows, fields)):
        return rule
    columns = [name for name in left if name not in (fields.solution, fields.id)]
    answer = first_named(_ANSWER_NAMES, columns)
    rules = [
        *([AnswerRule("field", answer)] if answer else []),
        *(AnswerRule(kind) for kind in ("hash", "boxed", "stated")),
    ]
    # A test set often has final answers only, and multiple-choice data labels of options only.
    if fields.solution and (split == "test" or _names_options(rows, fields)):
        rules.append(AnswerRule("field", fields.solution))
    # Most rows suffice: one bad row must not change how the others are read.
    shares = [_share_found(rule, rows, fields) for rule in rules]
    if max(shares) > 1 / 2:
        return rules[shares.index(max(shares))]
    return _cannot_detect(where, "where the final answer is", _first_values([rows[0].values]))


def _names_options(rows: Sequence[Row], fields: Fields) -> bool:
    """Whether the solutions of most rows name an option: by its label, its index, or its text."""
    if not fields.options or not fields.solution:
        return False
    pairs = [
        (row.values.get(fields.options), value_at(row.values, fields.solution)) for row in rows
    ]
    return sum(label_of(options_in(o), s) is not None for o, s in pairs) > len(rows) / 2


def _finds_nothing(rule: AnswerRule, rows: Sequence[Row], fields: Fields) -> bool:
    return _share_found(rule, rows, fields) == 0


def _share_found(rule: AnswerRule, rows: Sequence[Row], fields: Fields) -> float:
    texts = [(row.values, _solution_text(row.values, fields)) for row in rows]
    readable = (pair for pair in texts if pair[1].strip() or rule.kind == "field")
    found = [rule.find(values, text) for values, text in readable]
    return sum(answer is not None for answer in found) / max(1, len(found))


def _solution_text(values: Mapping[str, Any], fields: Fields) -> str:
    value = value_at(values, fields.solution or fields.question)
    turns = as_turns(value)
    if turns:
        texts = [turn["content"] for turn in turns if turn["role"] == "assistant"]
        return str(texts[-1]) if texts else ""
    return str(value[0] if isinstance(value, list) and value else value or "")


def first_named(names: tuple[str, ...], columns: list[str]) -> str | None:
    """The column with the first of `names` that occurs, in any case; None if none occurs.

    A path's name is its last part; a column comes before a path.
    """
    by_name: dict[str, str] = {}
    for column in columns:
        name = column.strip().lower().replace(" ", "_")
        for key in (name, name.rpartition(".")[2]):
            by_name.setdefault(key, column)
    plain = {name: column for name, column in by_name.items() if "." not in column}
    for known in (plain, by_name):
        if found := next((known[name] for name in names if name in known), None):
            return found
    return None


def _cannot_detect(where: str, what: str, sample: Mapping[str, Any]) -> NoReturn:
    columns = [name for name in sample if "." not in name]
    hint = f"expected {SHAPES}; or name the fields (--question, --solution)"
    if "answer" in what:
        hint = f"say where with --answer: {FORMS}"
    elif isinstance(sample.get("text"), str) and len(columns) < 3:
        hint = (
            "a rendered text does not say where the solution begins; give the messages or the "
            "columns that it was made from"
        )
    raise DataError(
        f"{where} has the columns {', '.join(columns)}, from which it is not clear {what}; {hint}."
    )
