"""A checkpoint behind a server, against the same one loaded here."""

import pytest

from premem_core.models.server.served_models import find_server
from premem_core.models.server.server_backend import ServerBackend
from premem_core.models.transformers_backend import TransformersBackend
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Checkpoint, Run, Sampling
from tests.helpers import texts, tiny
from tests.helpers.model_server import model_server

FILLED = [PromptTemplate().fill(example) for example in tiny.sums(0, 6)]
PROMPTS, TARGETS = ([texts[i] for texts in FILLED] for i in (0, 1))
GREEDY = Sampling(samples=2, temperature=0, max_new_tokens=6)


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.001)


@pytest.fixture(scope="module")
def checkpoint(run_dir) -> Checkpoint:
    return Checkpoint(run_dir / "checkpoint-120", 120)


def backend(there, checkpoint: Checkpoint) -> ServerBackend:
    run = Run(checkpoint.path.parent, (checkpoint,))
    return ServerBackend(checkpoint, find_server(there.url, run, named={}))


def serving(checkpoint: Checkpoint, fault=lambda body: None, **options):
    return model_server({str(checkpoint.path): checkpoint}, fault, **options)


def test_a_served_checkpoint_scores_and_samples_as_it_does_here(checkpoint):
    here = TransformersBackend(checkpoint, device="cpu")
    with serving(checkpoint) as there:
        remote = backend(there, checkpoint)
        scores = [texts.target_scores(each, PROMPTS, TARGETS) for each in (remote, here)]
        assert [s.tokens for s in scores[0]] == [s.tokens for s in scores[1]]
        assert [s.nll for s in scores[0]] == pytest.approx([s.nll for s in scores[1]], rel=1e-5)
        stop = PromptTemplate().stop
        sampled = [texts.one_batch(each, PROMPTS, GREEDY, stop) for each in (remote, here)]
        assert sampled[0] == sampled[1]
        assert remote.positions == here.positions
        assert remote.end_tokens == here.end_tokens
        remote.close()
