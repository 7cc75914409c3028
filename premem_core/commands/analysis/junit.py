"""JUnit reports: the verdicts of a gate as XML, which services for continuous integration show."""

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from premem_core.analysis.gate import Judgement

NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2


def junit_report(run: str, step: int, judged: Sequence[Judgement], strict: bool) -> str:
    """One test case per rule: failed is a failure, unknown an error, undecided skipped.

    With `strict`, undecided is a failure too. A character that XML cannot hold becomes U+FFFD.
    """
    outcomes = [_outcome(each, strict) for each in judged]
    name = _text(f"premem check {run}, step {step}")
    suites = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(suites, "testsuite", name=name, tests=str(len(judged)))
    for plural, outcome in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(plural, str(outcomes.count(outcome)))
    for each, outcome in zip(judged, outcomes, strict=True):
        case = ElementTree.SubElement(suite, "testcase", classname=name, name=str(each.rule))
        if outcome:
            attributes = {"message": _text(each.sentence)}
            if outcome != "skipped":
                attributes["type"] = each.verdict
            ElementTree.SubElement(case, outcome, attributes)
        else:
            ElementTree.SubElement(case, "system-out").text = _text(each.sentence)
    ElementTree.indent(suites)
    body = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{body}\n'


def _outcome(judged: Judgement, strict: bool) -> str:
    if judged.verdict == "undecided" and not strict:
        return "skipped"
    return {"passed": "", "unknown": "error"}.get(judged.verdict, "failure")


def _text(text: str) -> str:
    return NOT_IN_XML.sub("\ufffd", text)
