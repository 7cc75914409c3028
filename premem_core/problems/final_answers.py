r"""Final answers that a text states: `#### x`, `The answer is x`, `\boxed{x}`.

The last number of a text is not a final answer. If it were taken for one, unfinished reasoning
would be graded and no completion would ever be unparsed (docs/method.md, sections 1 and 8).
"""

import re

_HASHES = re.compile(r"#{4,}\s*([^\n#]*)")
_ANSWER_IS = re.compile(r"\banswer\s+is\b[ \t]*:?|\bfinal\s+answer[ \t]*:", re.IGNORECASE)
_LONGEST_ANSWER = 1000
_SENTENCE_END = re.compile(r"[.!?](?=\s)")
_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_WRAPPERS = (("**", "**"), ("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("`", "`"))


def after_hashes(text: str) -> list[str]:
    """The text that follows each `####` on its line, first to last.

    >>> after_hashes("Half of 36 is 18.\\n#### 18\\nQuestion: and 7?\\n#### 7")
    ['18', '7']
    """
    return [answer for match in _HASHES.finditer(text) if (answer := match[1].strip())]


def after_answer_is(text: str) -> list[str]:
    """The rest of the sentence after each "answer is" or "final answer:", first to last.

    >>> after_answer_is("The answer is: $x = 3.5$. That was easy.")
    ['x = 3.5']
    """
    answers = []
    for match in _ANSWER_IS.finditer(text):
        # The length is limited: many marks on one long line would otherwise cost quadratic time.
        rest = text[match.end() : match.end() + _LONGEST_ANSWER].partition("\n")[0]
        sentence = _SENTENCE_END.split(rest.strip().lstrip("*").lstrip(), maxsplit=1)[0]
        if answer := unwrapped(sentence):
            answers.append(answer)
    return answers


def unwrapped(answer: str) -> str:
    r"""The answer without its final period and without Markdown or LaTeX delimiters around it.

    >>> unwrapped(r" **\(18\)**. ")
    '18'
    """
    answer = answer.strip()
    before = None
    while before != answer:
        before = answer
        answer = answer.removesuffix(".").strip()
        for left, right in _WRAPPERS:
            if len(answer) > len(left + right) and answer.startswith(left):
                answer = _without_pair(answer, left, right)
        answer = answer.removesuffix("**").strip()  # "**The answer is 18**": it opens before "18"
    return answer


def _without_pair(answer: str, left: str, right: str) -> str:
    inner = answer[len(left) : -len(right)]
    # "$3$ and $4$" consists of two formulas; its first and last sign are not a pair.
    if answer.endswith(right) and not inner.endswith("\\") and right not in inner:
        return inner.strip()
    return answer


def boxed(text: str) -> list[str]:
    r"""The content of each balanced, non-empty `\boxed{…}` or `\fbox{…}`, first to last.

    Of boxes inside each other only the innermost is given.

    >>> boxed(r"\boxed{1} or \boxed{\frac{1}{2}}, no: \boxed{3")
    ['1', '\\frac{1}{2}']
    """
    # One pass with a stack, and innermost boxes only: a text of thousands of braces must not cost
    # quadratic time or memory.
    open_braces: list[int | None] = []
    innermost = None
    answers = []
    for match in _BRACES.finditer(text):
        token = match[0]
        if token == "{":
            open_braces.append(None)
        elif token.endswith("{") and len(token) > 2:
            innermost = match.end()
            open_braces.append(innermost)
        elif token == "}" and open_braces:
            start = open_braces.pop()
            if start is not None and start == innermost:
                answers.append(text[start : match.start()].strip())
    return [answer for answer in answers if answer]
