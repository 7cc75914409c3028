"""regrade, disagreements and override on the command line."""

import json

import pandas as pd
import pytest

from premem_core.grading.run_graders import AS_SCORED
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from tests.helpers.commands import premem, premem_process
from tests.helpers.demo import COMPLETIONS, RUN, STEP, old_store, wrong


@pytest.fixture
def store(tmp_path) -> Store:
    return old_store(tmp_path / "store")


def test_the_commands_print_what_changed_and_where_graders_disagree(store, tmp_path):
    place = ("--store", store.path, "--run", RUN)
    found = premem("disagreements", *place, "--grader", "gsm8k", "--against", "math", "--json",
                   "--out", tmp_path / "rows.csv")  # fmt: skip
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    assert (result["completions"], result["disagreements"]) == (COMPLETIONS, 1)
    assert result["rows"][0]["completion"].endswith("#### 22")
    assert len(pd.read_csv(tmp_path / "rows.csv")) == 1
    done = premem("regrade", *place, "--grader", "math", "--json")
    result = json.loads(done.stdout)
    assert (result["grader_before"], result["changed"]) == (AS_SCORED, 1)
    test = next(row for row in result["accuracy"] if row["split"] == "test")
    assert test["after"] - test["before"] == pytest.approx(1 / 7_500)
    assert "1 of 20,000 grades differ" in premem("regrade", *place, "--grader", AS_SCORED).stdout

    for arguments, code, message in (
        (("regrade", *place, "--grader", "magic"), 2, "no grader 'magic'"),
        (("regrade", "--store", store.path, "--run", "x", "--grader", "math"), 2, "no run 'x'"),
    ):
        refused = premem(*arguments)
        assert refused.returncode == code
        assert message in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_the_commands_set_list_and_undo(store):
    key = wrong(store)
    problem = read_task_examples(store, "demo", "train").set_index("example")["id"][key.example]
    where = ["--store", str(store.path), "--run", RUN]
    said = ["--step", str(STEP), "--id", problem, "--completion", str(key.sample + 1)]
    done = premem("override", *where, *said, "--grade", "correct", "--reason", "it is right")
    assert done.stdout == (
        f"completion {key.sample + 1} of problem {problem} at step {STEP} now counts as correct\n"
    )
    [row] = json.loads(premem("overrides", *where, "--json").stdout)["overrides"]
    assert (row["id"], row["replaced"], row["grade"]) == (problem, "incorrect", "correct")
    assert row["undone"] is None
    assert "it is right" in premem("overrides", *where).stdout
    assert "undone" in premem("override", *where, "--undo", "1").stdout
    for arguments, sentence in (
        ([*said, "--grade", "maybe"], "error: --grade must be correct or incorrect, not 'maybe'\n"),
        (
            ["--id", "x", "--step", "1", "--completion", "1", "--grade", "correct"],
            "error: the task of this run has no train problem 'x'; check --id and --split\n",
        ),
        (
            ["--id", "x", "--grade", "correct"],
            "error: a grade by hand needs --id, --step, --completion and --grade\n",
        ),
    ):
        refused = premem("override", *where, *arguments)
        assert (refused.returncode, refused.stderr) == (2, sentence)
    none = premem("override", *where, "--undo", "0")
    assert none.returncode == 1
    assert "--grade" not in none.stderr


def test_a_broken_shard_is_said_in_one_sentence_and_the_command_goes_on(store):
    name = "00000010.train..samples.00002.r.parquet"
    (store.path / "inbox" / name).write_bytes(b"PAR1" + b"\0" * 56)
    done = premem_process("regrade", "--store", store.path, "--run", RUN, "--grader", "math")
    assert done.returncode == 0, done.stderr
    [said] = [line for line in done.stderr.splitlines() if name in line]
    assert said.startswith("warning: the shard ")
    assert "Traceback" not in done.stderr
