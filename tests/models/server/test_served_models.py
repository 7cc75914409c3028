"""Which model of a server holds which checkpoint."""

from pathlib import Path

import pytest

from premem_core.errors import EndpointError, UsageError
from premem_core.models.server.completions_client import ServedModel
from premem_core.models.server.served_models import find_server, match_models
from premem_core.records import Checkpoint, Run
from tests.helpers.endpoints import listening

RUN = Run(
    Path("/here/lr2e-5"),
    (
        Checkpoint(Path("/here/lr2e-5/checkpoint-100"), 100),
        Checkpoint(Path("/here/lr2e-5/global_step_200/actor/huggingface"), 200),
    ),
)
ITSELF = Run(Path("/here/final"), (Checkpoint(Path("/here/final"), 7),))


def models(*names: str, **roots: str) -> list[ServedModel]:
    rooted = [ServedModel(id=name, root=root) for name, root in roots.items()]
    return [*(ServedModel(id=name, root=name) for name in names), *rooted]


@pytest.mark.parametrize(
    ("run", "there", "named", "found"),
    [
        (RUN, models("/here/lr2e-5/checkpoint-100"), {}, {100: "/here/lr2e-5/checkpoint-100"}),
        (RUN, models("/there/lr2e-5/checkpoint-100"), {}, {100: "/there/lr2e-5/checkpoint-100"}),
        (RUN, models("/there/lr1e-4/checkpoint-100"), {}, {}),
        (RUN, models("lr2e-5/checkpoint-100"), {}, {100: "lr2e-5/checkpoint-100"}),
        (RUN, models("checkpoint-100", "base"), {}, {100: "checkpoint-100"}),
        (RUN, models("checkpoint-1000", "x-checkpoint-100"), {}, {}),
        (RUN, models(m="/there/lr2e-5/checkpoint-100"), {}, {100: "m"}),
        (RUN, models(m="/here/lr2e-5/global_step_200/actor/huggingface"), {}, {200: "m"}),
        (RUN, models("a", "b"), {"100": "b", "global_step_200": "a"}, {100: "b", 200: "a"}),
        # What is said outweighs a name.
        (RUN, models("checkpoint-100", "b"), {"100": "b"}, {100: "b"}),
        (RUN, models("checkpoint-100"), {"200": "checkpoint-100"}, {200: "checkpoint-100"}),
        (ITSELF, models("final"), {}, {7: "final"}),
        (ITSELF, models(m="/here/final"), {}, {7: "m"}),
    ],
)
def test_a_model_holds_the_checkpoint_whose_folder_it_is_named_after(run, there, named, found):
    matched = match_models(run, there, named)
    assert {step: model.name for step, model in matched.items()} == found


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        ({"300": "a"}, "--served 300=a names no checkpoint of /here/lr2e-5; give the name"),
        ({"100": "c"}, "names a model that the server does not have; it has: a, checkpoint-100"),
    ],
)
def test_what_is_said_of_something_that_is_not_there_is_refused(named, sentence):
    with pytest.raises(UsageError, match=sentence):
        match_models(RUN, models("a", "checkpoint-100"), named)


def test_two_models_for_one_checkpoint_are_refused_with_what_to_say():
    there = models("checkpoint-100", m="/there/lr2e-5/checkpoint-100")
    with pytest.raises(UsageError, match="could be the served model 'checkpoint-100' or 'm'; say"):
        match_models(RUN, there, {})


def test_an_adapter_takes_as_many_tokens_as_the_model_that_it_is_over():
    cards = (
        b'{"data": [{"id": "base", "max_model_len": 512},'
        b' {"id": "checkpoint-100", "parent": "base", "max_model_len": null}]}'
    )
    with listening(lambda path, body: (200, cards)) as there:
        server = find_server(there.url, RUN, named={})
    assert (server.positions, server.names) == (512, ("base", "checkpoint-100"))


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (200, b"<html>Log in</html>", r"but with: <html>Log in</html> \(does its URL end in /v1"),
        (401, b'{"error": {"message": "no key"}}', "holds its key with --key-variable"),
        (404, b"{}", "does its URL end in /v1"),
    ],
)
def test_what_is_no_server_of_models_is_one_sentence(status, body, sentence):
    with (
        listening(lambda path, asked: (status, body)) as there,
        pytest.raises(EndpointError, match=sentence),
    ):
        find_server(there.url, RUN, named={})
