"""New problems from replies that a test writes: what is kept, why not, how it goes on."""

import json
import random
import re
import threading
import time
from collections import defaultdict
from itertools import count

import pytest
from typer.testing import CliRunner

from premem_core.__main__ import app
from premem_core.curation import problem_writer
from premem_core.curation.collection_plan import NewProblem
from premem_core.curation.problem_writer import Checks
from premem_core.curation.recipe import Criterion, Recipe
from premem_core.errors import EndpointError, UsageError
from premem_core.grading.graders import make_grader
from premem_core.model_endpoint import Endpoint
from tests.helpers import planned
from tests.helpers.endpoints import served

SEED = "Ann has 3 red hats and buys 4 blue ones. How many hats has she?"
SOLUTION = "3 + 4 = 7\n#### 7"
KNOWN = [("seed", SEED), ("test problem t", "A farmer sells nine cows to his old neighbour, why?")]


def planned_of(n: int) -> list[NewProblem]:
    return [NewProblem(f"s{i}-new-1", f"s{i}", f"{SEED} {i}", SOLUTION) for i in range(1, n + 1)]


def written(problem: str, answer: int = 12) -> str:
    return f"Problem: {problem}\n\nSolution: It is so.\n#### {answer}"


def is_to_solve(text: str) -> bool:
    return text.startswith("Solve")


def generate(there, folder, n=1, checks=Checks(), solution=SOLUTION):
    problems = [NewProblem(p.id, p.seed, p.question, solution) for p in planned_of(n)]
    with Endpoint(there.url, "m", folder / "replies", at_once=2) as asked:
        grader = make_grader("gsm8k")
        return problem_writer.write_problems(problems, asked, grader, KNOWN, checks, print)


def test_a_problem_on_whose_answer_most_agree_is_kept_with_its_cost(tmp_path):
    votes = iter([12, 11, 12, 12, 9])
    story = "Twelve pupils paint one wall each on Monday; what did they paint?"

    def reply(text):
        return f"#### {next(votes)}" if is_to_solve(text) else written(story)

    with served(reply) as there:
        [found] = generate(there, tmp_path)
    assert (found.why_not, found.question, found.answer, found.agree) == ("", story, "12", 3)
    assert found.solution == "It is so.\n#### 12"
    assert (found.attempt, found.prompt_tokens, found.completion_tokens) == (1, 600, 60)
    asked = [each["messages"][0]["content"] for each in there.asked]
    assert asked[0].endswith(f"Problem: {SEED} 1\n\nSolution: {SOLUTION}")
    assert all(each.endswith(f"Problem: {story}") for each in asked[1:])
    assert "It is so" not in "".join(asked[1:])  # independent: none sees the written solution


def test_one_vote_too_few_is_a_dispute(tmp_path):
    votes = iter([12, 12, 11, 11] * 2)

    def reply(text):
        return f"#### {next(votes)}" if is_to_solve(text) else written("Why do two cats run?")

    with served(reply) as there:
        [found] = generate(there, tmp_path, checks=Checks(solutions=4, attempts=1))
        assert (found.why_not, found.agree) == ("disputed", 2)
        [found] = generate(there, tmp_path, checks=Checks(4, agreement=0.49, attempts=1))
        assert found.why_not == ""
    assert len(there.asked) == 5


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("I would rather not.", "not in the form asked for"),
        ("Problem: What?\n\nSolution:", "not in the form asked for"),
        ("Problem: What is there?\n\nSolution: I do not know.", "its solution has no answer"),
        (written("???"), "not in the form asked for"),
        (
            written("Why?") + "\n\nProblem: Another?\n\nSolution: #### 3",
            "not in the form asked for",
        ),
        ("<think>" + written("Why?"), "not in the form asked for"),
        (written("Why?\n**Answer:** 12\n"), "its question states an answer"),
        (written("Why? #### 12"), "its question states an answer"),
        (written("x " * 20_000), "not in the form asked for"),
        (written(SEED.upper()), "like another: seed (similarity 1.00)"),
        (written(KNOWN[1][1]), "like another: test problem t (similarity 1.00)"),
    ],
)
def test_what_is_not_kept_costs_no_solutions_and_is_written_anew(tmp_path, reply, why):
    with served(lambda text: reply) as there:
        [found] = generate(there, tmp_path)
    assert (found.why_not, found.attempt) == (why, 3)
    assert len(there.asked) == 3


def test_a_second_attempt_may_be_kept(tmp_path):
    tries = iter(["no", written("Do nine small foxes sleep in here?")])

    with served(lambda t: "#### 12" if is_to_solve(t) else next(tries)) as there:
        [found] = generate(there, tmp_path)
    assert (found.why_not, found.attempt) == ("", 2)
    assert found.prompt_tokens == 700  # the first attempt is paid for, too


def test_the_same_problem_is_kept_once(tmp_path):
    with served(lambda t: "#### 12" if is_to_solve(t) else written("Is this new here?")) as there:
        first, *others = problems = generate(there, tmp_path, n=3, checks=Checks(attempts=1))
    assert first.why_not == ""
    assert len(there.asked) == 3 + 5  # solutions of the first alone
    assert sum(each.prompt_tokens for each in problems) == 100 * len(there.asked)
    assert {each.why_not for each in others} == {
        "like another: new problem s1-new-1 (similarity 1.00)"
    }


@pytest.mark.parametrize(
    "text",
    [
        "Here is a new problem:\n\n**Problem:** Why?\nSo.\n\n**Solution:** Because.\n#### 3",
        "## Problem:\nWhy?\nSo.\n## Solution:\nBecause.\n#### 3\n",
        "<think>Problem: no\nSolution: no</think>problem: Why?\nSo.\nSOLUTION: Because.\n#### 3",
        "Problem: Why?\nSo.\n\nSolution: Because.\n#### 3\n\nI hope that this helps!",
    ],
)
def test_a_reply_is_read_in_whatever_markdown(tmp_path, text):
    with served(lambda t: "#### 3" if is_to_solve(t) else text) as there:
        [found] = generate(there, tmp_path)
    assert (found.question, found.solution) == ("Why?\nSo.", "Because.\n#### 3")


@pytest.mark.parametrize(
    "reply", ["problem: x\n" * 20_000 + "\n" * 20_000, "problem:" + "_" * 200_000, "> " * 100_000]
)
def test_a_reply_that_runs_on_and_on_is_read_in_no_time(tmp_path, reply):
    with served(lambda text: reply) as there:
        started = time.process_time()
        [found] = generate(there, tmp_path, checks=Checks(attempts=1))
    assert found.why_not == "not in the form asked for"
    assert time.process_time() - started < 5  # quadratic: minutes


def test_solvers_are_asked_for_the_form_of_the_seed(tmp_path):
    with served(lambda t: "#### 12" if is_to_solve(t) else written("Ah?")) as there:
        generate(there, tmp_path, solution=r"So \boxed{7}", checks=Checks(1, attempts=1))
    assert r"\boxed{}" in there.asked[-1]["messages"][0]["content"]
    assert "####" not in there.asked[-1]["messages"][0]["content"]


def test_stopped_at_any_request_it_goes_on_there_and_ends_the_same(tmp_path):
    numbers: defaultdict[str, count] = defaultdict(count)
    lock, stop = threading.Lock(), None

    def reply(text):
        """By the text, and by how often it was answered: as a model's draws would be."""
        if stop is not None and len(there.asked) > stop:
            return (401, "gone")
        with lock:
            drawn = random.Random(f"{text} {next(numbers[text])}")
        if is_to_solve(text):
            return f"#### {12 if drawn.random() < 0.7 else 11}"
        told = " ".join(f"w{drawn.randrange(10**6)}" for _ in range(9))
        return written(told) if drawn.random() < 0.7 else "no"

    with served(reply) as there:
        whole = generate(there, tmp_path, n=12)
        assert {each.why_not for each in whole} > {""}
        assert len({each.attempt for each in whole}) > 1
        asked = len(there.asked)
        assert generate(there, tmp_path, n=12) == whole
        assert len(there.asked) == asked
        answered = 0
        (tmp_path / "replies").unlink()
        numbers.clear()
        for stop in (0, 3, 11, 20, 30):
            there.asked.clear()
            with pytest.raises(EndpointError, match="gone"):
                generate(there, tmp_path, n=12)
            answered += stop
        there.asked.clear()
        stop = None
        found = generate(there, tmp_path, n=12)
        total = sum(each.prompt_tokens for each in found) // 100
        assert answered + len(there.asked) == total
        assert found == whole


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"solutions": 0}, "at least 1"),
        ({"attempts": 0}, "at least 1"),
        ({"agreement": 1.0}, "at least 0 and below 1"),
    ],
)
def test_checks_that_cannot_be_passed_are_refused(given, sentence):
    with pytest.raises(UsageError, match=sentence):
        Checks(**given)


def test_a_seed_without_a_text_is_one_sentence(tmp_path):
    with (
        served(lambda t: "") as there,
        pytest.raises(UsageError, match="no text of the problem 's1'"),
    ):
        generate(there, tmp_path, solution="")


def test_the_command_writes_problems_that_a_trainer_loads(tmp_path, monkeypatch):
    from datasets import load_dataset

    home = planned.store(tmp_path / "store", "full")
    recipe, out, others = (tmp_path / name for name in ("r.yaml", "new.jsonl", "not.jsonl"))
    common = ["--store", str(home.path)]
    made = ["curate", *common, "--run", "slow", "--below", "0.5", "--log-log-threshold", "-2.3"]
    made += ["--recipe", str(recipe), "--out", str(tmp_path / "hard.jsonl")]
    assert CliRunner().invoke(app, made).exit_code == 0
    numbers = count()

    def reply(text):
        n = next(numbers)
        if is_to_solve(text):
            return "#### 12"
        return "no" if n == 0 else written(" ".join(f"w{n}x{i}" for i in range(9)))

    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    with served(reply) as there:
        command = ["generate", *common, "--from-recipe", str(recipe), "--new", "6", "--model", "m"]
        command += ["--endpoint", there.url, "--out", str(out), "--rejected", str(others)]
        command += ["--attempts", "1", "--key-variable", "SOME_KEY", "--prices", "1", "100"]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        assert {each["authorization"] for each in there.headers} == {"Bearer sk-very-secret"}
        asked = len(there.asked)
        again = CliRunner().invoke(app, [*command, "--json"])
        assert len(there.asked) == asked == 6 + 5 * 5
    lines = result.stdout.splitlines()
    assert lines == [
        "not kept, not in the form asked for: 1",
        f"{asked * 100:,} prompt tokens and {asked * 10:,} completion tokens; cost "
        f"{asked * 1100 / 1e6:.4f}",
        f"5 of 6 new problems are kept; {out}",
    ]
    told = json.loads(again.stdout)
    assert (told["kept"], told["of"], told["cost"]) == (5, 6, asked * 1100 / 1e6)
    rows = load_dataset("json", data_files=str(out), split="train", cache_dir=str(tmp_path / "c"))
    assert len(rows) == 5
    assert re.fullmatch(r".+-new-\d", rows[0]["id"])
    assert (rows[0]["model"], rows[0]["endpoint"], rows[0]["answer"]) == ("m", there.url, "12")
    assert "why_not" not in rows.column_names
    [rejected] = map(json.loads, others.read_text().splitlines())
    assert rejected["why_not"] == "not in the form asked for"
    assert not [f for f in tmp_path.rglob("*") if f.is_file() and b"very-secret" in f.read_bytes()]

    monkeypatch.delenv("SOME_KEY")
    result = CliRunner().invoke(app, command)
    assert "SOME_KEY is not set" in str(result.exception)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (["--out", "{folder}"], "is a folder, or its folder does not exist"),
        (["--out", "{folder}/none/new.jsonl"], "is a folder, or its folder does not exist"),
        (["--rejected", "{folder}/none/x"], "is a folder, or its folder does not exist"),
        (["--rejected", "{folder}/new.jsonl.replies"], "is given twice"),
        (["--rejected", "{folder}/new.jsonl"], "is given twice"),
        (["--out", "{folder}/r.yaml"], "is also a file to read"),
        (["--out", "."], "is a folder, or its folder does not exist"),
        (["--temperature", "0"], "so solutions are not independent"),
        (["--grader", "paper"], "does not read the final answer"),
        (["--grader", "none"], "There is no grader"),
        (["--endpoint", "http://me:secret@host/v1"], "must be a URL such as"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_paid(tmp_path, changed, sentence):
    home = planned.store(tmp_path / "store", "full")
    recipe = tmp_path / "r.yaml"
    text = Recipe("toy", ("slow",), planned.T, (Criterion("premem"),)).to_yaml()
    recipe.write_text(text)
    with served(lambda text: "no") as there:
        command = ["generate", "--store", str(home.path), "--from-recipe", str(recipe)]
        command += ["--new", "2", "--endpoint", there.url, "--model", "m"]
        command += ["--out", str(tmp_path / "new.jsonl")]
        command += [each.replace("{folder}", str(tmp_path)) for each in changed]
        result = CliRunner().invoke(app, command)
        assert isinstance(result.exception, UsageError)
        assert sentence in str(result.exception)
        assert not there.asked
    assert sorted(each.name for each in tmp_path.iterdir()) == ["r.yaml", "store"]
    assert recipe.read_text() == text


def test_a_recipe_s_own_test_problems_are_kept_away_from(tmp_path):
    home = planned.store(tmp_path / "store", "full")
    problem = "Nine old men row a small boat over the lake. How many are there?"
    held_out = tmp_path / "held-out.jsonl"
    row = {"id": "far", "question": problem, "answer": "Nine.\n#### 9"}
    held_out.write_text(json.dumps(row))
    recipe = tmp_path / "r.yaml"
    asked = Recipe(
        "toy", ("slow",), planned.T, (Criterion("premem"),),
        gates={"leaks": None}, against=str(held_out),
    )  # fmt: skip
    recipe.write_text(asked.to_yaml())
    with served(lambda t: "#### 9" if is_to_solve(t) else written(problem, 9)) as there:
        command = ["generate", "--store", str(home.path), "--from-recipe", str(recipe)]
        command += ["--new", "1", "--endpoint", there.url, "--model", "m"]
        command += ["--out", str(tmp_path / "new.jsonl"), "--json"]
        told = json.loads(CliRunner().invoke(app, command).stdout)
    assert told["not_kept"] == {"like another": 1}
