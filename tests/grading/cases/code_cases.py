r"""What the grader `code` must make of each pair; every case names the trap it stands for."""

import json

from tests.grading.cases.case import CORRECT, INCORRECT, TIMEOUT, UNPARSED

ADD = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return a - b\n"
TESTS = "assert add(1, 2) == 3\nassert add(0, 0) == 0"
CHECK = "def check(candidate):\n    assert candidate(1, 2) == 3\n"


def reference(tests: str, entry_point: str = "", question: str = "") -> str:
    """As `CodeGrader.reference` gives it."""
    return json.dumps({"tests": tests, "entry_point": entry_point, "question": question})


HUMAN_EVAL = reference(CHECK, "add", 'def add(a, b):\n    """The sum."""\n')

ROWS = [
    (f"```python\n{ADD}```", TESTS, CORRECT, "a fenced block"),
    (f"```python\n{WRONG}```", TESTS, INCORRECT, "a wrong program"),
    (ADD, TESTS, CORRECT, "no fence"),
    (f"```\n{ADD}```", TESTS, CORRECT, "a fence without a language"),
    (f"```py\n{ADD}```", TESTS, CORRECT, "a short name of the language"),
    (f"```Python\n{ADD}```", TESTS, CORRECT, "a capital letter in the language"),
    (f"~~~python\n{ADD}~~~", TESTS, CORRECT, "tildes"),
    (f"````python\n{ADD}````", TESTS, CORRECT, "a longer fence"),
    (f"Here:\n\n```python\n{ADD}```\nIt adds.", TESTS, CORRECT, "text around the fence"),
    (f"```python\n{WRONG}```\nNo:\n```python\n{ADD}```", TESTS, CORRECT, "the last of two blocks"),
    (f"```python\n{ADD}```\n```python\n{WRONG}```", TESTS, INCORRECT, "a wrong last block"),
    (f"```python\n{ADD}```\nRun:\n```bash\npip\n```", TESTS, CORRECT, "a block that is no Python"),
    (f"```python\n{ADD}", TESTS, CORRECT, "a fence that is not closed"),
    ("```python\ndef add(a, b):\n    return a +\n```", TESTS, INCORRECT, "a marked syntax error"),
    ("```python\ndef add(a, b):", TESTS, INCORRECT, "a block that is cut off"),
    ("I would add both numbers.", TESTS, UNPARSED, "prose"),
    ("It returns a + b, of course", TESTS, UNPARSED, "prose with a formula"),
    ("", TESTS, UNPARSED, "empty completion"),
    ("```python\n```", TESTS, UNPARSED, "an empty block"),
    ("```python\n\n\n```", TESTS, UNPARSED, "a block of empty lines"),
    ("72", TESTS, INCORRECT, "a number is a program that does not define the function"),
    (f"```python\n{ADD}print(add(1, 2))\n```", TESTS, CORRECT, "a program that prints"),
    (f"```python\n{ADD}import sys\nsys.exit(0)\n```", TESTS, INCORRECT, "it ends before its tests"),
    (f"```python\n{ADD}exit()\n```", TESTS, INCORRECT, "it leaves by another door"),
    (f"```python\n{ADD}import os\nos._exit(0)\n```", TESTS, INCORRECT, "it ends at once"),
    (f"```python\n{ADD}raise SystemExit\n```", TESTS, INCORRECT, "it raises its end"),
    (f"```python\n{ADD}while True:\n    pass\n```", TESTS, TIMEOUT, "an endless loop"),
    (f"```python\n{ADD}x = bytearray(1 << 40)\n```", TESTS, TIMEOUT, "more memory than there is"),
    (f"```python\n{ADD}input()\n```", TESTS, INCORRECT, "it waits for a person"),
    (
        f"```python\n{ADD}if __name__ == '__main__':\n    input()\n```",
        TESTS,
        CORRECT,
        "what it does only as a script is not run",
    ),
    (f"```python\nfrom math import *\n{ADD}```", TESTS, CORRECT, "a module of Python"),
    (f"```python\nimport nosuchmodule\n{ADD}```", TESTS, INCORRECT, "a module that is not there"),
    (
        "```python\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    x: 'int'\n```",
        "assert P(1).x == 1",
        CORRECT,
        "a dataclass looks for its module",
    ),
    (f"```python\n{ADD}```", '["assert add(1, 2) == 3"]', CORRECT, "MBPP: a list of tests"),
    (f"```python\n{ADD}```", '["assert add(1, 2) == 4"]', INCORRECT, "MBPP: one that fails"),
    (f"```python\n{ADD}```", CHECK, CORRECT, "a check that no one calls, of the last function"),
    (f"```python\n{WRONG}```", CHECK, INCORRECT, "a check that fails, though no one calls it"),
    (f"```python\n{ADD}```", CHECK + "\ncheck(add)", CORRECT, "a check that the tests call"),
    (f"```python\n{ADD}```", HUMAN_EVAL, CORRECT, "HumanEval: the whole function"),
    ("    return a + b\n", HUMAN_EVAL, CORRECT, "HumanEval: only its body"),
    ("    return a - b\n", HUMAN_EVAL, INCORRECT, "HumanEval: a wrong body"),
    (
        f"```python\n{ADD}def other():\n    pass\n```",
        HUMAN_EVAL,
        CORRECT,
        "HumanEval: the named function is not the last",
    ),
    (f"```python\n{ADD}```", "this is no test", INCORRECT, "tests that are no Python"),
    (f"<think>```python\n{WRONG}```</think>{ADD}", TESTS, CORRECT, "a program in the trace"),
    (f"<think>```python\n{ADD}```", TESTS, UNPARSED, "an unfinished trace"),
]
