"""Files that lm-eval, inspect_ai, TRL and verl wrote: their counts and the tools' own numbers."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from premem_core.errors import DataError, InstallationError
from premem_core.importers.samples.files import find_sample_files, read_sample_file
from premem_core.importers.samples.imports import prepare_import
from premem_core.importers.samples.request import SampleRequest
from premem_core.records import KnownSampling
from tests.helpers import tiny
from tests.helpers.paths import FIXTURES

SAMPLES = FIXTURES / "samples"
[GREEDY] = (SAMPLES / "lm-eval" / "sums").rglob("samples_*.jsonl")
[SAMPLED] = (SAMPLES / "lm-eval" / "sums_sampled").rglob("samples_*.jsonl")
[LOG] = (SAMPLES / "inspect").glob("*.eval")
TRL = SAMPLES / "trl" / "completions"


def prepared(file: Path, split="test", **options):
    """The parts of an import into a new run of the sums, graded as GSM8K."""
    train, test = tiny.sums(0, 48), tiny.sums(48, 40)
    options = {"task": "sums", "grader": "gsm8k"} | options
    request = SampleRequest([file], "sums", split, train, test, **options)
    return prepare_import(None, request).parts


def lm_eval_result(samples: Path, task: str) -> float:
    [results] = samples.parent.glob("results_*.json")
    value = json.loads(results.read_text())["results"][task]["exact_match,strict-match"]
    return float(value)


def test_a_file_of_lm_eval_has_the_exact_match_that_lm_eval_reports():
    [part] = prepared(GREEDY)
    assert (part.step, len(part.rows), part.questions, part.without) == (240, 20, 20, 20)
    assert part.accuracy == part.tool_accuracy == lm_eval_result(GREEDY, "sums")
    assert 0 < part.accuracy < 1
    assert (part.differing, part.unmatched, part.ambiguous) == (0, 0, 0)
    assert part.file.reader.version == "0.4.13"
    assert part.sampling == KnownSampling(0.0, None, 40)


def test_all_repeats_of_lm_eval_are_read_and_its_metric_is_that_of_the_first():
    [part] = prepared(SAMPLED)
    assert (len(part.rows), part.questions) == (60, 20)
    assert part.tool_accuracy is None  # it scores one of the three completions
    firsts = {row.example: row.correct for row in reversed(part.rows)}
    assert sum(firsts.values()) / 20 == lm_eval_result(SAMPLED, "sums_sampled")
    assert part.sampling == KnownSampling(0.8, None, 40)


def test_a_log_of_inspect_has_the_accuracy_of_its_scorer():
    log = pytest.importorskip("inspect_ai.log").read_eval_log(str(LOG))
    [part] = prepared(LOG, "train")
    assert (part.step, len(part.rows), part.questions) == (240, 32, 16)
    own = log.results.scores[0].metrics["accuracy"].value
    assert part.accuracy == pytest.approx(part.tool_accuracy) == pytest.approx(own)
    assert part.differing == 0
    assert part.sampling == KnownSampling(0.8, 0.95, 40)
    assert part.file.reader.version == "0.3.285"
    assert all(row.sample.tokens for row in part.rows)


def test_without_inspect_its_log_says_what_to_install(monkeypatch):
    monkeypatch.setattr("premem_core.installation.find_spec", lambda name: None)
    with pytest.raises(InstallationError, match=r"premem\[inspect\]"):
        prepared(LOG, "train")


def test_rollouts_of_trl_have_its_reward_and_count_for_the_weights_that_drew_them():
    parts = prepared(TRL, "train")
    assert [part.step for part in parts] == [0, 1]
    for part, file in zip(parts, sorted(TRL.iterdir()), strict=True):
        rewards = pq.read_table(file)["correct"].to_pylist()
        assert len(part.rows) == len(rewards) == 32
        assert part.correct == sum(rewards) > 0
        assert part.tool_accuracy == pytest.approx(sum(rewards) / 32)
        assert part.differing == 0
        assert part.sampling == KnownSampling()


def test_rollouts_of_verl_are_those_of_trl_and_its_validation_keeps_its_step():
    file = SAMPLES / "verl" / "2.jsonl"
    with pytest.raises(DataError, match="--format verl-rollouts or --format verl-validation"):
        prepared(file, "train")
    [part] = prepared(file, "train", format="verl-rollouts")
    [same] = prepared(TRL / "completions_00002.parquet", "train")
    assert [row.sample.completion for row in part.rows] == [
        row.sample.completion for row in same.rows
    ]
    assert (part.step, part.accuracy, part.tool_accuracy) == (1, same.accuracy, same.accuracy)
    [validation] = prepared(file, "train", format="verl-validation")
    assert validation.step == 2


def test_a_folder_stands_for_the_files_of_completions_in_it():
    assert find_sample_files([SAMPLES / "lm-eval"]) == [GREEDY, SAMPLED]
    with pytest.raises(DataError, match="holds no file of completions"):
        find_sample_files([Path(__file__).parent])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no readable row"),
        (b"\xff\xfe\x00", "UTF-16"),
        (b'{"id": "1", "step": 1, "completion": "\\ud800"}\n', "not valid UTF-8"),
        (
            b'{"id": "1", "step": 1e400, "completion": "1"}\n',
            "step is inf; expected",
        ),
        (b'{"id": "1", "step": ' + b"9" * 5000 + b', "completion": "1"}\n', "too long a number"),
        (b'{"id": "1", "step": -1, "completion": "1"}\n', "step is -1; expected"),
        (b'{"id": "1", "step": 1, "completion": {"a": 1}}\n', "not a text"),
        (b'{"id": "1", "step": 1}\n', "rename them"),
        (b'{"id": "1", "step": 1, "completion": null}\n', "neither a completion nor an NLL"),
        (b'{"id": "1", "step": 1, "nll": -0.1}\n', "at least 0"),
        (b'{"id": "1", "step": 1, "nll": 0.1, "tokens": 0.5}\n', "whole number"),
        (b'{"doc_id": 0, "doc": [], "resps": [["1"]]}\n', "not an object"),
        (b'{"doc_id": 0, "doc": {}, "resps": [[1, true]]}\n', "not a text"),
        (b'{"doc_id": 0, "doc": {}, "resps": [["-0.1"], ["-2"]]}\n', "one request"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused_in_one_sentence(content, reason, tmp_path):
    file = tmp_path / "samples.jsonl"
    file.write_bytes(content)
    with pytest.raises(DataError, match=reason) as error:
        read_sample_file(file)
    assert "samples.jsonl" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_broken_log_of_inspect_is_refused_in_one_sentence(tmp_path):
    pytest.importorskip("inspect_ai")
    for content in (b"", b"no zip", LOG.read_bytes()[:-100]):
        file = tmp_path / "broken.eval"
        file.write_bytes(content)
        with pytest.raises(DataError, match="not a log that inspect_ai can read"):
            read_sample_file(file)
