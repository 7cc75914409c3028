"""check: verdicts, exit codes and JUnit reports, on the shipped study."""

import json
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import yaml

from premem_core.analysis.gate import MIN_PREMEM, Judgement, Rule
from premem_core.commands.analysis.junit import junit_report
from premem_core.demo import demo_study
from premem_core.store.database import Store
from premem_core.store.runs import set_checkpoint_state
from tests.helpers.commands import premem
from tests.helpers.paths import ROOT

GOOD, COPIED = "lr1e-3_ep5_n1000", "lr3e-3_ep15_n1000"  # the second memorized everything
RULES = ("--min-premem", 0.45, "--max-memorized", 0.6, "--no-drop")


def check(store: Store, run: str, *arguments: object):
    return premem("check", "--store", store.path, "--run", run, *arguments)


def outcomes(report: str) -> dict[str, str]:
    """What stands in each test case; system-out where the rule has passed."""
    cases = ElementTree.fromstring(report).iter("testcase")
    return {case.get("name"): "".join(child.tag for child in case) for case in cases}


@pytest.mark.slow
def test_a_shell_script_stops_at_the_run_that_breaks_a_rule(demo_store, tmp_path):
    script = f"""
        set -euo pipefail
        check() {{ "{sys.executable}" -m premem_core check --store "{demo_store.path}" "$@"; }}
        check --run {GOOD} --min-premem .45 --max-memorized .6 --no-drop --junit {tmp_path}/good.xml
        echo shipped {GOOD}
        check --run {COPIED} --min-premem .45 --max-memorized .6 --junit {tmp_path}/copied.xml
        echo shipped {COPIED}
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1, done.stderr
    assert f"shipped {GOOD}" in done.stdout
    assert f"shipped {COPIED}" not in done.stdout
    assert outcomes((tmp_path / "good.xml").read_text()) == dict.fromkeys(
        ["min-premem 0.45", "max-memorized 0.6", "no-drop"], "system-out"
    )
    report = (tmp_path / "copied.xml").read_text()
    assert outcomes(report) == {
        "min-premem 0.45": "system-out", "max-memorized 0.6": "failure"
    }  # fmt: skip
    suite = ElementTree.fromstring(report).find("testsuite")
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    [failure] = suite.iter("failure")
    assert failure.get("message") in done.stdout


def test_the_workflow_in_the_documents_checks_a_run(demo_store, tmp_path):
    text = (ROOT / "docs" / "how-to.md").read_text()
    [example] = [b for b in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "check" in b]
    steps = yaml.safe_load(example)["jobs"]["train"]["steps"]
    [command] = [step["run"] for step in steps if "premem check" in step.get("run", "")]
    here = {"lr2e-5": GOOD, "store": demo_store.path, "premem.xml": tmp_path / "premem.xml"}
    done = premem(*(here.get(argument, argument) for argument in command.split()[1:]))
    assert done.returncode == 0, done.stderr
    [upload] = [step["with"]["path"] for step in steps if "artifact" in step.get("uses", "")]
    assert (tmp_path / upload).exists()


def test_an_undecided_rule_is_printed_and_fails_only_if_strict(demo_store, tmp_path):
    rule = ("--min-premem", 0.47)  # 0.474 ± 0.022
    done = check(demo_store, COPIED, *rule, "--junit", tmp_path / "lenient.xml")
    assert done.returncode == 0
    assert "undecided  min-premem 0.47: pre-memorization accuracy is 0.474 (90 % " in done.stdout
    strict = check(demo_store, COPIED, *rule, "--strict", "--json", "--junit", tmp_path / "s.xml")
    assert strict.returncode == 1
    result = json.loads(strict.stdout)
    assert (result["passed"], result["step"], result["estimator"]) == (False, 945, "plain")
    [judged] = result["rules"]
    assert judged["verdict"] == "undecided"
    assert judged["low"] < 0.47 < judged["high"]
    assert outcomes((tmp_path / "lenient.xml").read_text())["min-premem 0.47"] == "skipped"
    assert outcomes((tmp_path / "s.xml").read_text())["min-premem 0.47"] == "failure"


def test_a_step_chooses_the_checkpoint_and_a_threshold_decides_what_is_memorized(demo_store):
    earlier = check(demo_store, COPIED, "--min-premem", 0.35, *RULES[2:], "--step", 567)
    assert earlier.returncode == 0, earlier.stdout
    low = check(demo_store, COPIED, "--max-memorized", 0.6, "--log-log-threshold", -9)
    assert (low.returncode, "t = -9.000" in low.stdout) == (0, True)


def test_a_last_checkpoint_that_is_not_scored_fails_and_another_can_be_named(tmp_path):
    demo_study.install(tmp_path / "store")
    store = Store(tmp_path / "store")
    set_checkpoint_state(store, GOOD, 315, "failed", "the weights are broken")
    report = tmp_path / "report.xml"
    done = check(store, GOOD, *RULES, "--junit", report)
    assert done.returncode == 1
    assert done.stdout.count("unknown ") == 3
    assert "step 315 could not be scored (the weights are broken)" in done.stdout
    assert "--step 252" in done.stdout
    assert set(outcomes(report.read_text()).values()) == {"error"}
    other = check(store, GOOD, *RULES, "--step", 252)
    assert other.returncode == 0
    assert "without the checkpoints of the run that are not scored (1)" in other.stderr
    set_checkpoint_state(store, GOOD, 315, "waiting")
    assert "step 315 is not scored yet" in check(store, GOOD, *RULES).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "there is no rule to check"),
        (("--min-premem", 45), "less than or equal to 1"),
        (("--no-drop", "--step", 7), "no checkpoint at step 7; it has: 63, 126"),
        (("--no-drop", "--junit", "nowhere/report.xml"), "nowhere/report.xml"),
    ],
)
def test_wrong_usage_is_told_from_a_broken_rule(arguments, words, demo_store):
    done = check(demo_store, GOOD, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stdout == ""


def test_any_name_and_any_sentence_can_be_read_back_from_a_report():
    run = 'a\x01b\udc80<&"\n\u2028😀'
    judged = [Judgement(Rule(MIN_PREMEM, 0.5), "failed", "] ]> \x00 below")]
    suite = ElementTree.fromstring(junit_report(run, 10, judged, strict=False).encode())[0]
    assert suite.get("name") == 'premem check a\ufffdb\ufffd<&"\n\u2028😀, step 10'
    [failure] = suite.iter("failure")
    assert (failure.get("message"), failure.get("type")) == ("] ]> \ufffd below", "failed")
