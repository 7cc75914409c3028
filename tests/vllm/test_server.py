"""The real vLLM server: what it gives is what the same engine gives in this process.

`make test-vllm` shows the numbers compared.
"""

import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from premem_core.errors import CheckpointError
from premem_core.models import checkpoints
from premem_core.models.encoding.encoder import make_encoder
from premem_core.models.server import completions_client
from premem_core.models.server.served_models import find_server
from premem_core.models.server.server_backend import ServerBackend
from premem_core.models.transformers_backend import TransformersBackend
from premem_core.models.vllm_backend import VLLMBackend
from premem_core.problems.examples import read_examples
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Checkpoint, Run, Sampling
from premem_core.store.completions import read_completions
from premem_core.store.database import Store
from premem_core.store.scores import read_scores
from tests.helpers import texts, tiny
from tests.helpers.paths import DEMO, ROOT
from tests.helpers.vllm_server import vllm_servers

pytestmark = pytest.mark.vllm

RUN = DEMO / "runs" / "lr3e-3_ep15_n1000"
CHECKPOINT = Checkpoint(RUN / "checkpoint-378", 378)
TRAIN = DEMO / "train_1000.jsonl"
TEMPLATE = PromptTemplate()


@pytest.fixture(autouse=True)
def without_patience(monkeypatch):
    monkeypatch.setattr(completions_client, "RETRIES", 4)


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with vllm_servers(tmp_path_factory.mktemp("servers")) as there:
        yield there


def connected(servers, run: Run, index: int = 0) -> ServerBackend:
    server = find_server(servers.url, run, named={})
    return ServerBackend(run.checkpoints[index], server)


def test_a_server_gives_what_the_engine_gives_in_this_process(servers):
    examples = read_examples(TRAIN).examples[:200]
    prompts = [TEMPLATE.fill(example)[0] for example in examples]
    servers.start(CHECKPOINT.path)
    here = VLLMBackend(CHECKPOINT)
    servers.wait()
    there = connected(servers, Run(RUN, (CHECKPOINT,)))
    encoder = make_encoder(TEMPLATE, here.tokenizer, here.end_tokens)
    asked = [encoder.target(example) for example in examples]
    ours, theirs = (backend.target_scores(asked) for backend in (here, there))
    difference = max(
        np.abs(a.log_probabilities - b.log_probabilities).max()
        for a, b in zip(ours, theirs, strict=True)
    )
    print(f"\nlog-probabilities of 200 targets: largest difference {difference:.1e}")
    assert difference < 1e-4
    same = np.mean([np.mean(a.ranks == b.ranks) for a, b in zip(ours, theirs, strict=True)])
    print(f"ranks: {same:.2%} identical")
    assert same > 0.999
    for sampling in (
        Sampling(1, temperature=0, max_new_tokens=200),
        Sampling(2, max_new_tokens=200),
    ):
        drawn = [texts.one_batch(b, prompts, sampling, TEMPLATE.stop) for b in (here, there)]
        same = np.mean([a == b for a, b in zip(*drawn, strict=True)])
        print(f"completions at temperature {sampling.temperature}: {same:.1%} identical")
        assert same >= 0.98
    there.close()
    here.close()


def test_adapters_are_served_by_one_server_and_switched(servers, tmp_path):
    base = tiny.save_base(tmp_path / "base")
    run = tmp_path / "run"
    for seed in (1, 2, 3):
        tiny.save_adapter(base, run / f"checkpoint-{seed}", seed)
    file = run / "checkpoint-3" / "adapter_model.safetensors"
    nan = {name: tensor.fill_(float("nan")) for name, tensor in load_file(file).items()}
    save_file(nan, file, metadata={"format": "pt"})
    adapters = [f"checkpoint-{seed}={run / f'checkpoint-{seed}'}" for seed in (1, 2, 3)]
    # Without --lora-target-modules vLLM adapts the output layer too, and dies of prompt_logprobs.
    lora = ["--enable-lora", "--max-lora-rank", "8", "--lora-target-modules", "q_proj", "v_proj"]
    servers.start(base, *lora, "--lora-modules", *adapters)
    servers.wait()
    found = checkpoints.read_run(run)
    filled = [TEMPLATE.fill(example) for example in tiny.sums(0, 8)]
    prompts, targets = ([texts[i] for texts in filled] for i in (0, 1))
    there = connected(servers, found)
    nlls = {}
    for checkpoint in (found.checkpoints[0], found.checkpoints[1], found.checkpoints[0]):
        there.switch(checkpoint)
        here = TransformersBackend(checkpoint, device="cpu")
        nlls[checkpoint.step], expected = (
            [score.nll for score in texts.target_scores(backend, prompts, targets)]
            for backend in (there, here)
        )
        assert nlls[checkpoint.step] == pytest.approx(expected, rel=1e-4)
    assert abs(nlls[1][0] - nlls[2][0]) > 0.01
    with pytest.raises(CheckpointError, match="not finite"):
        there.switch(found.checkpoints[2])
    assert there.checkpoint == found.checkpoints[0]
    there.close()


def test_a_server_that_is_killed_and_started_again_loses_and_repeats_nothing(servers, tmp_path):
    servers.start(CHECKPOINT.path)
    servers.wait()
    command = [
        *("score", RUN, "--train", TRAIN, "--train-sample", 300, "--store", tmp_path),
        *("--task", "sums"),
        *("--checkpoints", 378, "--samples", 4, "--chunk-examples", 16, "--plain"),
        *("--backend", "server", "--endpoint", servers.url),
    ]
    job = subprocess.Popen(
        [sys.executable, "-m", "premem_core", *map(str, command)],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for _ in range(2):
        before = shards(tmp_path)
        while shards(tmp_path) < before + 3:
            assert job.poll() is None, job.stderr and job.stderr.read()
            time.sleep(0.02)
        servers.start(CHECKPOINT.path)  # which kills the one that is running
    _, said = job.communicate(timeout=300)
    assert job.returncode == 0, said
    store = Store(tmp_path)
    drawn = read_completions(store, RUN.name, 378, "train", "")
    assert len(drawn) == 300 * 4
    assert not drawn.duplicated(["example", "sample"]).any()
    scores = read_scores(store, "sums")
    assert scores["samples"].tolist() == [4] * 300
    assert scores["nll"].notna().all()
    assert drawn.groupby("example")["grade"].apply(lambda g: (g == 0).sum()).tolist() == (
        scores.sort_values("example")["correct"].tolist()
    )


def shards(store) -> int:
    return len([*store.glob("inbox/*.parquet"), *store.glob("completions/*/*")])
