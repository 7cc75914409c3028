"""A checkpoint behind a server, against the same one loaded here."""

import itertools
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import replace

import pytest

from premem_core.errors import CheckpointError, DataError, EndpointError, UsageError
from premem_core.models import load_backend
from premem_core.models.backend import Resources
from premem_core.models.server import completions_client
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


def test_batches_come_back_in_order_whatever_is_answered_first(checkpoint):
    here = TransformersBackend(checkpoint, device="cpu")
    first = texts.request(here, PROMPTS[0], 0, range(2)).prompt

    def slowly(body):
        if tuple(body["prompt"]) == first:
            time.sleep(0.3)

    with serving(checkpoint, slowly) as there, closing(backend(there, checkpoint)) as remote:
        batches = [[texts.request(here, p, i, range(2))] for i, p in enumerate(PROMPTS)]
        ending = texts.ending(here, PromptTemplate().stop)
        drawn = list(remote.sample([*batches, []], GREEDY, ending))
        assert drawn == [*here.sample(batches, GREEDY, ending), []]


def test_a_completion_is_asked_for_with_nothing_left_to_the_servers_own_settings(checkpoint):
    with serving(checkpoint) as there, closing(backend(there, checkpoint)) as remote:
        texts.one_batch(remote, ["x" * 250], Sampling(3, 0.5, 0.9, 20), ["\n"])
    asked = there.asked[-1]
    assert len({body["seed"] for body in there.asked[-3:]}) == 3
    expected = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 0, "min_p": 0, "repetition_penalty": 1,
        "presence_penalty": 0, "frequency_penalty": 0, "stop": ["\n"], "stop_token_ids": [1],
        "max_tokens": 256 - len(asked["prompt"]), "skip_special_tokens": True,
    }  # fmt: skip
    assert {name: asked[name] for name in expected} == expected


def test_a_busy_server_is_asked_again_and_nothing_is_left_out(checkpoint):
    here = TransformersBackend(checkpoint, device="cpu")
    refused = itertools.count()

    def busy(body):
        return (503, {"error": {"message": "busy"}}) if next(refused) % 3 else None

    with serving(checkpoint, busy) as there, closing(backend(there, checkpoint)) as remote:
        assert texts.one_batch(remote, PROMPTS, GREEDY) == texts.one_batch(here, PROMPTS, GREEDY)


def test_a_server_that_is_started_again_in_between_is_waited_for(checkpoint, monkeypatch):
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.1)
    here = TransformersBackend(checkpoint, device="cpu")
    with serving(checkpoint) as there:
        remote = backend(there, checkpoint)
        port = there.server.server_port
    expected = texts.one_batch(here, PROMPTS, GREEDY)
    found = []
    waiting = threading.Thread(
        target=lambda: found.append(texts.one_batch(remote, PROMPTS, GREEDY))
    )
    waiting.start()
    time.sleep(0.3)
    with serving(checkpoint, port=port):
        waiting.join(30)
    remote.close()
    assert found == [expected]


def test_what_a_server_that_stopped_listening_leaves_unanswered_is_asked_again(
    checkpoint, monkeypatch
):
    monkeypatch.setattr(completions_client, "SILENCE", 0.2)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.1)
    held, released = threading.Event(), threading.Event()

    def holding(body):  # as vLLM does when it is asked to stop while requests are under way
        if "prompt_logprobs" not in body:
            held.set()
            released.wait(30)

    with ExitStack() as stack:
        there = stack.enter_context(serving(checkpoint, holding))
        remote = stack.enter_context(closing(backend(there, checkpoint)))
        port = there.server.server_port

        def start_again():
            held.wait(30)
            there.server.shutdown()
            there.server.socket.close()
            time.sleep(0.5)
            stack.enter_context(serving(checkpoint, port=port))

        threading.Thread(target=start_again).start()
        [[completion]] = texts.one_batch(remote, PROMPTS[:1], replace(GREEDY, samples=1))
        released.set()
        here = TransformersBackend(checkpoint, device="cpu")
        assert [[completion]] == texts.one_batch(here, PROMPTS[:1], replace(GREEDY, samples=1))


def test_a_server_that_stays_away_is_one_sentence(checkpoint):
    with serving(checkpoint) as there:
        remote = backend(there, checkpoint)
    with pytest.raises(EndpointError, match=r"does not answer .* finished results are kept: start"):
        texts.one_batch(remote, PROMPTS, GREEDY)
    with pytest.raises(EndpointError, match="does not answer"):
        texts.target_scores(remote, PROMPTS, TARGETS)
    remote.close()


def without(name):
    return lambda choice: choice.pop(name, None)


def another_text(choice):
    for row in choice.get("prompt_logprobs", [None])[1:]:
        for token in row.values():
            token["decoded_token"] = "x"


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        (without("prompt_logprobs"), UsageError, "gives no log-probabilities of a prompt, which"),
        (without("token_ids"), UsageError, "gives no token ids, which scoring needs"),
        (another_text, CheckpointError, "the token .* is 'h' in .*, but 'x' in the model"),
    ],
)
def test_a_server_that_cannot_score_the_checkpoint_is_refused_in_words(
    change, kind, sentence, checkpoint
):
    models = {str(checkpoint.path): checkpoint}
    with model_server(models, change=change) as there, pytest.raises(kind, match=sentence):
        backend(there, checkpoint)


@pytest.mark.parametrize(
    ("message", "kind", "sentence"),
    [
        ("only text", UsageError, r"cannot score .*refuses it: .*only text"),
        # What vLLM says where a log-probability is NaN.
        ("Out of range float values are not JSON compliant", CheckpointError, "training diverged"),
    ],
)
def test_a_server_that_refuses_the_first_text_is_understood(message, kind, sentence, checkpoint):
    with (
        serving(checkpoint, lambda body: (400, {"error": {"message": message}})) as there,
        pytest.raises(kind, match=sentence),
    ):
        backend(there, checkpoint)


def test_a_text_that_the_server_refuses_is_named(checkpoint):
    def refusing(body):
        return (400, {"error": {"message": "not this"}}) if "stop" in body else None

    with (
        serving(checkpoint, refusing) as there,
        closing(backend(there, checkpoint)) as remote,
        pytest.raises(DataError, match=r"the prompt '<s>0\+0\?.*cannot be scored: .*not this"),
    ):
        texts.one_batch(remote, PROMPTS, GREEDY)


def test_a_text_that_is_longer_than_the_server_takes_is_named_before_it_is_sent(checkpoint):
    models = {str(checkpoint.path): checkpoint}
    with (
        model_server(models, positions=30) as there,
        closing(backend(there, checkpoint)) as remote,
    ):
        asked = len(there.asked)
        with pytest.raises(DataError, match="but the model takes 30"):
            texts.one_batch(remote, ["x" * 40], GREEDY)
        with pytest.raises(DataError, match="but the model takes 30"):
            texts.target_scores(remote, ["x" * 10], ["y" * 19])
        assert len(there.asked) == asked
        assert texts.target_scores(remote, ["x" * 10], ["y" * 18])


@pytest.mark.parametrize(
    "change", [{"finish_reason": "abort"}, {"finish_reason": "length", "token_ids": [5]}]
)
def test_a_completion_that_the_server_cut_off_does_not_count(change, checkpoint):
    models = {str(checkpoint.path): checkpoint}
    with (
        model_server(models, change=lambda choice: choice.update(change)) as there,
        closing(backend(there, checkpoint)) as remote,
        pytest.raises(EndpointError, match=r"ended a completion after \d of 6 tokens"),
    ):
        texts.one_batch(remote, PROMPTS[:1], GREEDY)


def test_a_checkpoint_that_is_not_served_or_no_longer_is_named(checkpoint):
    with serving(checkpoint) as there, closing(backend(there, checkpoint)) as remote:
        with pytest.raises(CheckpointError, match=r"/v1 does not serve .*; serve it, or say"):
            remote.switch(replace(checkpoint, step=40))
        port = there.server.server_port
        there.server.shutdown()
        there.server.server_close()
        with (
            model_server({"other": checkpoint}, port=port),
            pytest.raises(CheckpointError, match=r"does not serve it: .*no model .*checkpoint-120"),
        ):
            texts.one_batch(remote, PROMPTS, GREEDY)


def test_the_backend_is_loaded_by_its_name_and_needs_a_server(checkpoint):
    with pytest.raises(UsageError, match="give its --endpoint"):
        load_backend.load_backend("server", checkpoint)
    with serving(checkpoint) as there:
        run = Run(checkpoint.path.parent, (checkpoint,))
        resources = Resources(server=find_server(there.url, run, named={}))
        load_backend.load_backend("server", checkpoint, resources).close()
