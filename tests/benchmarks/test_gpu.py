"""The benchmark for a GPU, with tiny models on the CPU."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import memory
from benchmarks.gpu.run import PARTS
from benchmarks.gpu.sizes import TOY, random_llama, random_prompts
from benchmarks.gpu.speed import least_read
from benchmarks.gpu.two_jobs import took_turns
from premem_core.models.transformers_backend import TransformersBackend

ROOT = Path(__file__).parents[2]


def test_each_step_reads_the_weights_and_the_keys_and_values_so_far():
    assert least_read(1000, 10, rows=2, prompt=5, steps=3) == 3 * 1000 + 2 * 10 * (5 + 6 + 7)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([("waiting", "running"), ("running", "done"), ("done", "done")], True),
        ([("running", "waiting"), ("done", "running"), ("done", "failed")], False),
        ([("running", "waiting"), ("running", "running"), ("done", "done")], False),
        ([("running", "created"), ("done", "running"), ("done", "done")], False),
    ],
)
def test_jobs_took_turns_if_one_waited_while_the_other_ran(changes, expected):
    assert took_turns(changes) == expected


@contextmanager
def room_for(rows):
    whole = TransformersBackend.forward

    def forward(self, input_ids, mask, **extra):
        if len(input_ids) > rows:
            raise torch.OutOfMemoryError
        return whole(self, input_ids, mask, **extra)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransformersBackend, "forward", forward)
        yield


def test_halved_batches_must_give_the_same_results(monkeypatch):
    monkeypatch.setattr(memory, "only_free", lambda free: room_for(100))
    targets, samples = memory.memory(TOY, "cpu")
    assert targets == memory.Halving("tokens of targets", 0, 16_384, 4096, 1.0, passed=True)
    assert samples == memory.Halving("rows of samples", 0, 192, 96, 1.0, passed=True)


def test_memory_that_did_not_run_out_is_not_as_expected(monkeypatch):
    monkeypatch.setattr(memory, "only_free", lambda free: room_for(1024))
    backend = random_llama(TOY.wide, "cpu", "float32")
    assert not memory.halved_targets(backend, random_prompts(TOY.wide, 4, 8), 0).passed


@pytest.mark.slow
def test_the_script_walks_through_its_parts_at_toy_size(tmp_path):
    out = tmp_path / "gpu.json"
    subprocess.run(
        ["bash", "benchmarks/gpu.sh", out, "--toy"],
        cwd=ROOT, env=os.environ | {"PYTHON": sys.executable}, check=True,
    )  # fmt: skip
    parts = json.loads(out.read_text())["parts"]
    states = {name: part["state"] for name, part in parts.items()}
    assert states == dict.fromkeys(PARTS, "done") | {"memory": "not run: no GPU"}
