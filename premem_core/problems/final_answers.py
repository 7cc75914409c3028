r"""Final answers that a text states: `#### x`, `The answer is x`, `Answer: x`, `\boxed{x}`, tags.

The last number of a text is not a final answer, and neither is one in bold. If it were taken for
one, unfinished reasoning would be graded and no completion would ever be unparsed (docs/method.md,
sections 1 and 8). For the same reason, "So she has 48 + 24 = 72." states nothing; only a last line
that is an equation without words states its right side (`after_equals`).
"""

import re
import unicodedata
from collections.abc import Iterator

_HASHES = re.compile(r"#{4,}\s*([^\n#]*)")
# What may stand between a mark and its answer: after a colon, also one line end or two.
_COLON = r"[*_]*+[ \t]*+:[*_]*+(?:[ \t]*+\r?\n){0,2}[ \t]*+"
# "Answer: x" begins its line, but for Markdown and a few words: a sentence may end in "answer:".
# A heading "Answer" needs no colon. The quantifiers are possessive, so that a long line of marks
# does not take quadratic time.
_ANSWER_IS = re.compile(
    rf"""\banswer[*_]*+(?:\s+to\s+(?:the|this|your|our)(?:\s+(?:given|original|above))?
        \s+(?:problem|question|exercise|puzzle|riddle))? \s+is\b
        (?: {_COLON} | [ \t]*+\r?\n[ \t]*+(?=\$\$|\\\[) )?
    | \bfinal\s+answer{_COLON}
    | ^[#>*_ \t]*+ (?:(?!answer)[a-z]++[ \t]++){{0,3}} answer{_COLON}
    | ^(?:\#{{1,6}}[ \t]*+[*_]*+|\*\*|__)
        (?:(?:the|my|our|final|correct|short)[ \t]++){{0,3}} answer[*_]*+(?:[ \t]*+\r?\n){{1,2}}""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
# A formula of its own lines; one that ends in its first line is unwrapped as any other.
_DISPLAYED = re.compile(r"\$\$\s*\n(.*?)\$\$|\\\[\s*\n(.*?)\\\]", re.DOTALL)
_TAG = re.compile(r"<answer>(.{0,1000}?)</answer>", re.IGNORECASE | re.DOTALL)
_LONGEST_ANSWER = 1000
# The mark in "5! = 120" is a factorial.
_SENTENCE_END = re.compile(r"[.!?](?=\s)(?!(?<=\d!)\s*[-+*/=])|[。！？]")
_THEREFORE = re.compile(
    r"(?:[,\s]*(?:therefore|thus|then|hence|simply|indeed|just)\b[,\s:]*)+", re.I
)
# What explains the answer is not part of it: "12, which is 3 more than 9", "18, i.e. 9 times 2".
_EXPLANATION = re.compile(
    r"[,;]?\s+\(?(?:which|because|since|where|meaning|that\s+is|i\.\s?e\b|e\.\s?g\b).*"
    r"|,\s+(?:as|so|and\s+(?:this|that|it))\b.*",
    re.IGNORECASE | re.DOTALL,
)
_EQUATION_END = re.compile(r"=\s*([^\s=a-zA-Z][^=a-zA-Z]{0,80})$")
_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")  # but no LaTeX command
_CALCULATION = re.compile(r"<<[^<>]*>>")  # GSM8K's solutions contain "<<48+24=72>>"
_BRACES = re.compile(
    r"\\(?:boxed|fbox)\s*\{|\\(?:boxed|fbox)[ \t]+(?P<bare>[^\s{}$\\]+)|\\.|[{}]", re.DOTALL
)
_BETWEEN_BOXES = re.compile(r"[\s$]*(?:[,;&]|(?:,\s*)?(?:and|or)\b)?[\s$]*")
_WRAPPERS = (("**", "**"), ("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("`", "`"))


def after_hashes(text: str) -> list[str]:
    """The text that follows each `####` on its line, first to last.

    >>> after_hashes("Half of 36 is 18.\\n#### 18\\nQuestion: and 7?\\n#### 7")
    ['18', '7']
    """
    return [answer for match in _HASHES.finditer(text) if (answer := match[1].strip())]


def after_answer_is(text: str) -> list[str]:
    """The rest of the sentence after each "answer is" or "Answer:", and the text in answer tags.

    They are in the order of the text. What explains the answer in its sentence is left out.

    >>> after_answer_is("The answer is: $x = 3.5$. That was easy.")
    ['x = 3.5']
    >>> after_answer_is("The answer is therefore 12, which is 3 more than 9.")
    ['12']
    >>> after_answer_is("It is 72.\\n**Answer:** 72 clips.\\n<answer>73</answer>")
    ['72 clips', '73']
    """
    marks = list(_ANSWER_IS.finditer(text))
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    found = [
        (mark.start(), _sentence(text[mark.end() : min(end, mark.end() + _LONGEST_ANSWER)]))
        for mark, end in zip(marks, ends, strict=False)
    ]
    found += [(match.start(), unwrapped(match[1])) for match in _TAG.finditer(text)]
    return [answer for _, answer in sorted(found) if answer]


def after_equals(text: str) -> list[str]:
    """The right side of the equation that is the last line; nothing if it has words in it.

    >>> after_equals("She sold 24 in May.\\n48 + 24 = $72."), after_equals("So 48 + 24 = 72")
    (['$72'], [])
    """
    last = text.rstrip()[-_LONGEST_ANSWER:].rpartition("\n")[2]
    match = None if _WORD.search(last) else _EQUATION_END.search(_CALCULATION.sub("", last))
    return [answer] if match and (answer := unwrapped(match[1])) else []


def _sentence(text: str) -> str:
    """The answer in the sentence with which a text begins."""
    if displayed := _DISPLAYED.match(text.lstrip()):
        return unwrapped(displayed[1] or displayed[2] or "")
    rest = text.partition("\n")[0].strip().lstrip("*#").lstrip()
    if therefore := _THEREFORE.match(rest):
        rest = rest[therefore.end() :]
    return unwrapped(_EXPLANATION.sub("", _SENTENCE_END.split(rest, maxsplit=1)[0]))


def unwrapped(answer: str) -> str:
    r"""The answer without its final period and without Markdown or LaTeX delimiters around it.

    >>> unwrapped(r" **\(18\)**. ")
    '18'
    """
    answer = answer.strip()
    before = None
    while before != answer:
        before = answer
        answer = answer.removesuffix(".").removesuffix("。").strip()
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

    Of boxes inside each other only the innermost is given. A box without braces, `\boxed 2`, holds
    what follows up to a space or a dollar sign.

    >>> boxed(r"\boxed{1} or \boxed{\frac{1}{2}}, no: \boxed{3")
    ['1', '\\frac{1}{2}']
    >>> boxed(r"$\boxed{3}-1=\boxed 2$.")
    ['3', '2']
    """
    return [answer for _, _, answer in _boxes(text)]


def boxed_lists(text: str) -> list[str]:
    r"""As `boxed`, but boxes with only a comma, "and" or "or" between them form one answer.

    >>> boxed_lists(r"From \boxed{4} we get \boxed{3}, $\boxed{5}$ and \boxed{7}.")
    ['4', '3, 5, 7']
    """
    lists: list[list[str]] = []
    before = None
    for start, end, answer in _boxes(text):
        joined = before is not None and start - before < 100
        if joined and _BETWEEN_BOXES.fullmatch(text[before:start]) and before != start:
            lists[-1].append(answer)
        else:
            lists.append([answer])
        before = end
    return [", ".join(answers) for answers in lists]


def _boxes(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and content of each box that `boxed` gives."""
    # One pass with a stack, and innermost boxes only: a text of thousands of braces must not cost
    # quadratic time or memory.
    open_braces: list[tuple[int, int] | None] = []
    innermost = None
    for match in _BRACES.finditer(text):
        token = match[0]
        if match["bare"]:
            if bare := match["bare"].rstrip(".,;:!?)"):
                yield match.start(), match.start("bare") + len(bare), bare
            innermost = None
        elif token == "{":
            open_braces.append(None)
        elif token.endswith("{") and len(token) > 2:
            innermost = (match.start(), match.end())
            open_braces.append(innermost)
        elif token == "}" and open_braces:
            place = open_braces.pop()
            content = text[place[1] : match.start()].strip() if place else ""
            if place and place is innermost and content:
                yield place[0], match.end(), content


def plain_digits(text: str) -> str:
    """The text with the decimal digits of every script as 0 to 9.

    >>> plain_digits("२४ or ٧٫٥")
    '24 or 7.5'
    """
    if text.isascii():
        return text
    digits = (str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
    return "".join(digits).translate(_ARABIC_MARKS)


_ARABIC_MARKS = str.maketrans({"٫": ".", "٬": ","})
