"""Requests to an endpoint: each answered once, kept, and told apart; refusals in one sentence."""

import socket

import pytest
from endpoints import served

from premem_core.endpoint import Endpoint, Request
from premem_core.errors import EndpointError, UsageError

SIX = [Request("a", "1"), Request("a", "2"), Request("b", "1"), Request("a", "1")]


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.001)


def test_every_request_is_answered_once_and_kept(tmp_path):
    file, told = tmp_path / "replies", []
    with served(lambda text: f"said {text}") as there:
        with Endpoint(there.url, "m", file) as asked:
            replies = asked.ask(SIX, told.append)
            assert [each.content for each in replies] == ["said a", "said a", "said b", "said a"]
            assert (replies[0].prompt_tokens, replies[0].completion_tokens) == (100, 10)
            assert len(there.asked) == 3
            assert told == [1, 2, 3]
            asked.ask(SIX)
        with Endpoint(there.url, "m", file) as asked:
            assert asked.ask(SIX) == replies
        assert len(there.asked) == 3
        with Endpoint(there.url, "m", file, temperature=0.5, max_tokens=7) as asked:
            asked.ask(SIX[:1])  # another temperature: another reply
        assert there.asked[-1]["temperature"] == 0.5
        assert there.asked[-1]["max_tokens"] == 7
        assert not {"temperature", "max_tokens"} & set(there.asked[0])
        with Endpoint(there.url, "another", file) as asked:
            asked.ask(SIX[:1])
        assert len(there.asked) == 5


def test_what_was_answered_before_a_failure_is_not_asked_again(tmp_path):
    requests = [Request(f"question {n}", "1") for n in range(40)]
    works = [True]

    def reply(text: str):
        works[0] = works[0] and len(there.asked) <= 25
        return "yes" if works[0] else (503, "busy")

    with served(reply) as there:
        with (
            Endpoint(there.url, "m", tmp_path / "replies", at_once=4) as asked,
            pytest.raises(EndpointError, match="busy"),
        ):
            asked.ask(requests)
        answered = {body["messages"][0]["content"] for body in there.asked[:25]}
        there.asked.clear()
        with Endpoint(there.url, "m", tmp_path / "replies", at_once=4) as asked:
            works[0] = True
            assert len(asked.ask(requests)) == 40
        again = [body["messages"][0]["content"] for body in there.asked]
        assert len(again) == 15
        assert not answered & set(again)


def test_a_busy_endpoint_is_asked_again(tmp_path):
    with served(lambda text: "yes" if len(there.asked) > 2 else (429, "slow down")) as there:
        with Endpoint(there.url, "m", tmp_path / "replies") as asked:
            assert asked.ask(SIX[:1])[0].content == "yes"
        assert len(there.asked) == 3


def test_the_key_is_shown_to_the_endpoint_and_written_nowhere(tmp_path):
    with served(lambda text: "yes") as there:
        with Endpoint(there.url, "m", tmp_path / "replies", key="sk-very-secret") as asked:
            asked.ask(SIX)
        assert set(there.keys) == {"Bearer sk-very-secret"}
    for file in tmp_path.rglob("*"):
        assert b"very-secret" not in file.read_bytes()


def test_an_openai_key_of_the_environment_is_not_sent_unasked(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://example.org/v1")
    with served(lambda text: "yes") as there, Endpoint(there.url, "m", tmp_path / "r") as asked:
        asked.ask(SIX)
        assert not any("secret" in (key or "") for key in there.keys)


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        ((401, "no key"), "refuses: .*no key.*--key-variable names the environment variable"),
        ((404, "no such model"), "refuses: .*no such model.*is its model called 'm'"),
        ((400, "too\nlong"), "refuses: .*too"),
    ],
)
def test_a_refusal_is_one_sentence(tmp_path, reply, sentence):
    with served(lambda text: reply) as there, Endpoint(there.url, "m", tmp_path / "r") as asked:
        with pytest.raises(EndpointError, match=sentence) as caught:
            asked.ask(SIX)
        assert "\n" not in str(caught.value)


def test_an_endpoint_that_is_not_there_is_one_sentence(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with (
            Endpoint(url, "m", tmp_path / "r") as asked,
            pytest.raises(EndpointError, match=r"does not answer.*give the same command again"),
        ):
            asked.ask(SIX)


def test_what_a_reply_lacks_or_holds_too_much_of(tmp_path):
    with (
        served(lambda text: "half \ud83d here") as there,
        Endpoint(there.url, "m", tmp_path / "r") as asked,
    ):
        assert asked.ask(SIX[:1])[0].content == "half ? here"
    with (
        served(lambda text: "yes", usage={"none": 1}) as there,
        Endpoint(there.url, "m", tmp_path / "s") as asked,
        pytest.raises(EndpointError, match="no usage"),
    ):
        asked.ask(SIX)


@pytest.mark.parametrize("url", ["localhost:8000", "http://me:secret@host/v1", "ftp://host/v1", ""])
def test_what_is_no_endpoint_is_said(tmp_path, url):
    with pytest.raises(UsageError, match="must be a URL such as") as caught:
        Endpoint(url, "m", tmp_path / "r")
    assert "secret" not in str(caught.value)


def test_a_file_of_something_else_or_in_use_is_left_alone(tmp_path):
    other = tmp_path / "notes"
    other.write_text("not replies, but kept")
    with pytest.raises(UsageError, match="cannot keep the replies"):
        Endpoint("http://localhost/v1", "m", other)
    assert other.read_text() == "not replies, but kept"
    with (
        Endpoint("http://localhost/v1", "m", tmp_path / "r"),
        pytest.raises(UsageError, match="locked"),
    ):
        Endpoint("http://localhost/v1", "m", tmp_path / "r")
    with pytest.raises(UsageError, match="cannot keep the replies"):
        Endpoint("http://localhost/v1", "m", tmp_path / "none" / "r")
