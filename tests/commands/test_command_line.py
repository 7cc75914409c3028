import json
import shutil

import pytest

from premem_core.store.database import Store
from premem_core.store.examples import add_examples
from tests.helpers import tiny
from tests.helpers.commands import premem, premem_process
from tests.helpers.paths import GSM8K_RUNS


@pytest.fixture(scope="module", params=["slice", pytest.param("whole", marks=pytest.mark.slow)])
def published_store(request, tmp_path_factory):
    """Of the slice in the repository, then of the whole arrays where they are there."""
    source = GSM8K_RUNS if request.param == "slice" else request.getfixturevalue("published")
    store = tmp_path_factory.mktemp(request.param) / "store"
    done = premem("import-published", source, "--store", store)
    assert done.returncode == 0, done.stderr
    assert "13 runs imported" in done.stderr
    return store


def is_whole(store):
    return store.parent.name.startswith("whole")


def test_fit_prints_the_contract(published_store):
    done = premem(
        "fit",
        "--store",
        published_store,
        "--task",
        "gsm8k",
        "--log-log-threshold",
        "-2.3",
        "--json",
    )
    result = json.loads(done.stdout)
    assert (result["n_runs"], result["n_checkpoints"]) == (13, 51)
    r2 = [result[n] for n in ("identity_r2", "linear_r2", "train_accuracy_linear_r2")]
    if is_whole(published_store):
        assert r2[:2] == pytest.approx([0.938, 0.942], abs=0.002)
        assert r2[2] == pytest.approx(0.396, abs=0.003)
    else:
        assert min(r2[:2]) > 0.9 > 0.45 > r2[2]
    assert result["log_log_threshold"] == -2.3
    assert set(result["points"][0]) == {
        *("run", "step", "premem", "test_accuracy", "train_accuracy", "memorized_share")
    }


def test_fit_without_a_threshold_finds_the_optimum_and_says_so(published_store):
    result = json.loads(
        premem("fit", "--store", published_store, "--task", "gsm8k", "--json").stdout
    )
    assert -2.40 <= result["log_log_threshold"] <= -2.20
    assert result["identity_r2"] >= (0.938 if is_whole(published_store) else 0.9)
    assert "optimum" in premem("fit", "--store", published_store, "--task", "gsm8k").stdout


def test_grade_reads_and_prints_one_object_per_line():
    pairs = [("#### 1,800", "1800"), ("#### 5", "6"), ("no idea", "6")]
    lines = [json.dumps({"completion": c, "reference": r}) for c, r in pairs]
    done = premem("grade", "--grader", "gsm8k", "--json", stdin="\n".join(lines))
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["grade"] for row in rows] == ["CORRECT", "INCORRECT", "UNPARSED"]
    assert rows[2]["extracted"] is None


def test_score_then_fit_from_the_command_line(run_dir, data, tmp_path):
    train, test = data
    arguments = ("score", run_dir, "--train", train, "--test", test, "--store", tmp_path / "s",
                 "--backend", "hf",
                 "--task", "sums", "--samples", 2, "--max-new-tokens", 30)  # fmt: skip
    shown = premem(*arguments, "--dry-run")
    assert "  prompt  |" in shown.stderr
    assert "completions in all: 528" in shown.stderr
    assert not (tmp_path / "s").exists()
    done = premem_process(*arguments)
    assert done.returncode == 0, done.stderr
    again = premem(*arguments)
    assert again.returncode == 1
    assert "--resume" in again.stderr
    assert premem(*arguments, "--resume").returncode == 0
    result = json.loads(premem("fit", "--store", tmp_path / "s", "--task", "sums", "--json").stdout)
    assert result["n_checkpoints"] == 3
    assert (
        json.loads(premem("jobs", "list", "--store", tmp_path / "s", "--json").stdout)[0]["state"]
        == "done"
    )


@pytest.mark.parametrize(
    "command",
    ["score", "fit", "replay", "import-published", "import-samples", "grade", "finetune", "demo"],
)
def test_every_command_has_help_with_an_example(command):
    done = premem(command, "--help")
    assert done.returncode == 0
    assert "Example" in done.stdout


def no_checkpoints(folder, run_dir, data):
    (folder / "empty").mkdir()
    return ("score", folder / "empty", "--train", data[0]), 1, "holds no checkpoint"


def bin_checkpoint(folder, run_dir, data):
    run = shutil.copytree(run_dir, folder / "run")
    (run / "checkpoint-240/model.safetensors").rename(run / "checkpoint-240/pytorch_model.bin")
    checkpoint = run / "checkpoint-240"
    return ("score", checkpoint, "--train", data[0]), 1, "a pickle, which Premem never opens"


def truncated_checkpoint(folder, run_dir, data):
    run = shutil.copytree(run_dir, folder / "run")
    file = run / "checkpoint-240/model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    checkpoint = run / "checkpoint-240"
    return ("score", checkpoint, "--train", data[0]), 1, "not a whole safetensors file"


def broken_line(folder, run_dir, data):
    lines = data[0].read_text().splitlines()
    lines[6] = lines[6][:-5]
    (folder / "train.jsonl").write_text("\n".join(lines))
    return ("score", run_dir, "--train", folder / "train.jsonl"), 1, "train.jsonl, line 7"


def missing_field(folder, run_dir, data):
    (folder / "train.jsonl").write_text('{"question": "1+1?", "text": "2"}\n')
    return ("score", run_dir, "--train", folder / "train.jsonl"), 1, "solution"


def unknown_task(folder, run_dir, data):
    return ("fit", "--task", "nosuch"), 2, "task 'nosuch' has no scored run"


def unknown_grader(folder, run_dir, data):
    return ("score", run_dir, "--train", data[0], "--grader", "magic"), 2, "magic"


def unknown_backend(folder, run_dir, data):
    return ("score", run_dir, "--train", data[0], "--backend", "magic"), 2, "magic"


def no_published_run(folder, run_dir, data):
    return ("import-published", folder), 1, "holds no published run"


def missing_file(folder, run_dir, data):
    return ("score", run_dir, "--train", folder / "nowhere.jsonl"), 1, "nowhere.jsonl"


@pytest.mark.parametrize(
    "mistake",
    [no_checkpoints, bin_checkpoint, truncated_checkpoint, broken_line, missing_field,
     unknown_task, unknown_grader, unknown_backend, no_published_run, missing_file],
)  # fmt: skip
def test_a_mistake_is_one_sentence_an_exit_code_and_an_unchanged_store(
    mistake, run_dir, data, tmp_path
):
    store = Store(tmp_path / "store")
    add_examples(store, "sums", "train", tiny.sums(0, 2))
    before = store.version(), sorted(p.name for p in store.path.rglob("*"))
    arguments, code, message = mistake(tmp_path, run_dir, data)
    done = premem(*arguments, "--store", store.path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert len([line for line in done.stderr.splitlines() if line]) == 1
    assert (store.version(), sorted(p.name for p in store.path.rglob("*"))) == before


def test_a_mistake_ends_the_process_with_one_sentence_and_no_traceback(run_dir, data, tmp_path):
    arguments, code, message = truncated_checkpoint(tmp_path, run_dir, data)
    done = premem_process(*arguments, "--store", tmp_path / "store")
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr
