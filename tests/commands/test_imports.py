"""The command import-samples: what it prints, and what it leaves in the store."""

import json

import pytest

from premem_core.store.database import Store
from tests.helpers.commands import premem
from tests.helpers.paths import FIXTURES

[GREEDY] = (FIXTURES / "samples" / "lm-eval" / "sums").rglob("samples_*.jsonl")
TRL = FIXTURES / "samples" / "trl"


def test_a_file_of_lm_eval_becomes_the_test_accuracy_of_a_new_run(data, tmp_path):
    arguments = ("import-samples", GREEDY, "--run", "r", "--split", "test", "--store",
                 tmp_path / "s", "--train", data[0], "--test", data[1])  # fmt: skip
    shown = premem(*arguments, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "20 completions of 20 questions, accuracy" in shown.stderr
    assert "exact_match, filter strict-match" in shown.stderr
    assert "test problems without a completion: 20" in shown.stderr
    assert not (tmp_path / "s").exists()

    result = json.loads(premem(*arguments, "--task", "sums", "--json").stdout)
    [part] = result["parts"]
    assert (result["grader"], result["waiting"], part["step"]) == ("gsm8k", [240], 240)
    assert part["accuracy"] == part["tool_accuracy"] == part["correct"] / 20
    assert (part["tool"], part["version"], part["temperature"]) == ("lm-eval", "0.4.13", 0)
    assert len(part["sha256"]) == 64

    again = premem("import-samples", GREEDY, "--run", "r", "--split", "test",
                   "--store", tmp_path / "s")  # fmt: skip
    assert "is in the store already; nothing was added" in again.stderr
    assert "the perplexities of step 240 are missing" in again.stderr


def test_a_folder_of_rollouts_says_that_they_are_of_the_step_before(data, tmp_path):
    done = premem("import-samples", TRL, "--run", "r", "--split", "train", "--store",
                  tmp_path / "s", "--train", data[0], "--step", 1)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "completions_00002.parquet, step 1: by trl" in done.stderr
    assert "completions_00001.parquet" not in done.stderr
    assert "drawn before the update" in done.stderr


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--split", "train"), 2, "give the problems that a new run was trained on (--train)"),
        (("--split", "test", "--train", "{train}"), 2, "give them (--test)"),
        (("--split", "train", "--train", "{train}"), 1, "no question of the train problems"),
        (("--split", "test", "--train", "{train}", "--test", "{test}", "--temperature", 1), 2,
         "was sampled with temperature 0 and 1"),
        (("--split", "test", "--train", "{train}", "--test", "{test}", "--grader", "magic"), 2,
         "magic"),
        (("--split", "test", "--train", "{train}", "--test", "{test}", "--format", "trl"), 1,
         "line 1: "),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_and_leaves_no_store(options, code, message, data, tmp_path):
    files = {"{train}": data[0], "{test}": data[1]}
    given = [files.get(str(option), option) for option in options]
    done = premem("import-samples", GREEDY, "--run", "r", "--store", tmp_path / "s", *given)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "s").exists()


def test_a_run_of_score_arrays_takes_no_completions(data, tmp_path):
    arrays = FIXTURES / "kang2024" / "gsm8k.zip"
    premem("import-published", arrays, "--store", tmp_path / "s")
    store = Store(tmp_path / "s")
    version = store.version()
    with store.reading() as connection:
        [run] = connection.execute("SELECT min(run) FROM runs").fetchone()
    done = premem("import-samples", GREEDY, "--run", run, "--split", "test",
                  "--store", tmp_path / "s", "--test", data[1])  # fmt: skip
    assert (done.returncode, store.version()) == (1, version)
    assert "score arrays, which completions cannot be added to" in done.stderr
