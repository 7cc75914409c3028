"""Requests to an endpoint: each is answered once and kept; refusals are one sentence."""

import socket
import sqlite3
import subprocess
import sys

import pytest

from premem_core.errors import EndpointError, UsageError
from premem_core.model_endpoint import Endpoint, Request
from tests.helpers.endpoints import served
from tests.helpers.paths import ROOT

SOME = [Request("a", "1"), Request("a", "2"), Request("b", "1"), Request("a", "1")]


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.001)


def test_every_request_is_answered_once_and_kept(tmp_path):
    file = tmp_path / "replies"
    answered: list[int] = []
    with served(lambda text: f"said {text}") as there:
        with Endpoint(there.url, "m", file) as asked:
            replies = asked.ask(SOME, answered.append)
            assert [each.content for each in replies] == ["said a", "said a", "said b", "said a"]
            assert (replies[0].prompt_tokens, replies[0].completion_tokens) == (100, 10)
            assert len(there.asked) == 3
            assert answered == [1, 2, 3]
            asked.ask(SOME)
        with Endpoint(there.url, "m", file) as asked:
            assert asked.ask(SOME) == replies
        assert len(there.asked) == 3
        with Endpoint(there.url, "m", file, temperature=0.5, max_tokens=7) as asked:
            asked.ask(SOME[:1])  # another temperature: another reply
        assert there.asked[-1]["temperature"] == 0.5
        assert there.asked[-1]["max_tokens"] == 7
        assert not {"temperature", "max_tokens"} & set(there.asked[0])
        with Endpoint(there.url, "another", file) as asked:
            asked.ask(SOME[:1])
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
            assert asked.ask(SOME[:1])[0].content == "yes"
        assert len(there.asked) == 3


def test_the_key_is_shown_to_the_endpoint_and_written_nowhere(tmp_path):
    with served(lambda text: "yes") as there:
        with Endpoint(there.url, "m", tmp_path / "replies", key="sk-very-secret") as asked:
            asked.ask(SOME)
        assert {each["authorization"] for each in there.headers} == {"Bearer sk-very-secret"}
    for file in tmp_path.rglob("*"):
        assert b"very-secret" not in file.read_bytes()


def test_a_key_that_the_endpoint_says_again_is_neither_kept_nor_told(tmp_path):
    key = "sk-very-secret"
    with served(lambda text: f"You are {key}.") as there:
        with Endpoint(there.url, "m", tmp_path / "replies", key=key) as asked:
            assert asked.ask(SOME[:1])[0].content == "You are …."
        assert b"very-secret" not in (tmp_path / "replies").read_bytes()
    with (
        served(lambda text: (401, 265 * "x" + key)) as there,
        Endpoint(there.url, "m", tmp_path / "r", key=key) as asked,
    ):
        with pytest.raises(EndpointError) as caught:
            asked.ask(SOME)
        assert "sk-" not in str(caught.value)


def test_what_is_asked_goes_nowhere_else(tmp_path):
    with served(lambda text: "yes") as elsewhere:
        with (
            served(lambda text: (307, "over there"), headers={"Location": elsewhere.url}) as there,
            Endpoint(there.url, "m", tmp_path / "r") as asked,
            pytest.raises(EndpointError, match="it redirects to another URL: give that one"),
        ):
            asked.ask(SOME[:1])
        assert elsewhere.asked == []


@pytest.mark.parametrize(
    ("url", "model", "sentence"),
    [
        ("http://localhost/v1", "\udcff", "the model's name contains characters"),
        ("http://localhost/v1", "", "the model's name contains characters"),
        ("http://é..x/v1", "m", "URL cannot be used"),
    ],
)
def test_a_model_or_a_url_that_cannot_be_is_one_sentence(tmp_path, url, model, sentence):
    with pytest.raises(UsageError, match=sentence):
        Endpoint(url, model, tmp_path / "r")


def test_what_the_environment_says_of_an_openai_account_is_not_sent(tmp_path, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "very-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://example.org/v1")
    with served(lambda text: "yes") as there, Endpoint(there.url, "m", tmp_path / "r") as asked:
        asked.ask(SOME)
    assert "very-secret" not in str(there.headers)


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        ((401, "no key"), "refuses the request: .*no key.*environment variable that holds its key"),
        ((404, "no such model"), "refuses the request: .*no such model.*is its model called 'm'"),
        (
            (400, "too\nlong\x1b[2J, sk-very-secret" + 999 * "x"),
            "refuses the request: .*too long .*, …x{9,}$",
        ),
    ],
)
def test_a_refusal_is_one_sentence(tmp_path, reply, sentence):
    with (
        served(lambda text: reply) as there,
        Endpoint(there.url, "m", tmp_path / "r", key="sk-very-secret") as asked,
    ):
        with pytest.raises(EndpointError, match=sentence) as caught:
            asked.ask(SOME)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 600


def test_one_request_that_is_refused_does_not_stop_the_others(tmp_path):
    with (
        served(lambda text: (400, "not this one") if text == "b" else "yes") as there,
        Endpoint(there.url, "m", tmp_path / "r", at_once=1) as asked,
    ):
        assert [each.content for each in asked.ask(SOME)] == ["yes", "yes", "", "yes"]


def test_an_endpoint_that_is_not_there_is_one_sentence(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with (
            Endpoint(url, "m", tmp_path / "r") as asked,
            pytest.raises(EndpointError, match=r"does not answer.*give the same command again"),
        ):
            asked.ask(SOME)


BODY = '{"choices": [{"message": {"content": %s}}], "usage": %s}'


@pytest.mark.parametrize(
    ("body", "content", "tokens"),
    [
        (BODY % ('"half \\ud83d here"', '{"prompt_tokens": 3}'), "half ? here", (3, 0)),
        (BODY % ('"a\\u0000b"', "null"), "a\0b", (0, 0)),
        (BODY % ("null", '{"prompt_tokens": -3, "completion_tokens": "many"}'), "", (0, 0)),
        (BODY % ("[1]", '{"prompt_tokens": 1e99, "completion_tokens": 9999999999}'), "", (0, 0)),
        ('{"choices": []}', "", (0, 0)),
        ('{"choices": [null], "usage": []}', "", (0, 0)),
        (BODY.replace("}]", ', "finish_reason": "length"}]') % ('"cut"', "{}"), "", (0, 0)),
    ],
)
def test_what_was_paid_for_is_kept_whatever_it_lacks(tmp_path, body, content, tokens):
    with served(lambda text: body.encode()) as there:
        for _ in range(2):
            with Endpoint(there.url, "m", tmp_path / "r") as asked:
                [reply] = asked.ask(SOME[:1])
            assert reply.content == content
            assert (reply.prompt_tokens, reply.completion_tokens) == tokens
        assert len(there.asked) == 1


@pytest.mark.parametrize("body", ["<html>Log in</html>", "{", "null", "[" * 100_000, '{"ok": 1}'])
def test_what_is_no_chat_completion_is_one_sentence(tmp_path, body):
    with (
        served(lambda text: body.encode()) as there,
        Endpoint(there.url, "m", tmp_path / "r") as asked,
        pytest.raises(
            EndpointError, match="like an OpenAI-compatible endpoint, but with:"
        ) as caught,
    ):
        asked.ask(SOME)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "url",
    [
        *(
            "localhost:8000",
            "",
            "ftp://host/v1",
            "http://me:secret@host/v1",
            "http://:secret@host/v1",
        ),
        *(
            "http://host/v1?key=secret",
            "http://[::1/v1",
            "http://host:abc/v1",
            "http://host:99999/v1",
        ),
        *("http://ho st/v1", "http://host/v1\0"),
    ],
)
def test_what_is_no_endpoint_is_said(tmp_path, url):
    with pytest.raises(UsageError, match="must be a URL such as") as caught:
        Endpoint(url, "m", tmp_path / "r")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"key": "sk-né"}, "characters that no key has"),
        ({"key": "sk\nsecret"}, "characters that no key has"),
        ({"temperature": float("nan")}, "a number from 0"),
        ({"temperature": -1}, "a number from 0"),
    ],
)
def test_what_cannot_be_asked_with_is_one_sentence(tmp_path, given, sentence):
    with pytest.raises(UsageError, match=sentence) as caught:
        Endpoint("http://localhost/v1", "m", tmp_path / "r", **given)
    assert "secret" not in str(caught.value)


def test_a_file_of_something_else_or_in_use_is_left_alone(tmp_path):
    other = tmp_path / "notes"
    other.write_text("not replies, but kept")
    with pytest.raises(UsageError, match="the replies cannot be stored in"):
        Endpoint("http://localhost/v1", "m", other)
    assert other.read_text() == "not replies, but kept"
    with (
        Endpoint("http://localhost/v1", "m", tmp_path / "r"),
        pytest.raises(UsageError, match="locked"),
    ):
        Endpoint("http://localhost/v1", "m", tmp_path / "r")
    with pytest.raises(UsageError, match="the replies cannot be stored in"):
        Endpoint("http://localhost/v1", "m", tmp_path / "none" / "r")
    with sqlite3.connect(tmp_path / "s") as strange:
        strange.execute("CREATE TABLE replies (some TEXT)")
    strange.close()
    with pytest.raises(UsageError, match="the replies cannot be stored in"):
        Endpoint("http://localhost/v1", "m", tmp_path / "s")


STOPPED = """
import signal, sys, threading, time
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]  # ppi-python installs a package `tests`
from helpers.endpoints import served
from premem_core.model_endpoint import Endpoint, Request
from premem_core.errors import EndpointError

def reply(text):
    if len(there.asked) == 4:
        threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
    time.sleep(0.05 if len(there.asked) < 4 else 1)
    return "yes"

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
with served(reply) as there, Endpoint(there.url, "m", sys.argv[2], at_once=2) as asked:
    try:
        asked.ask([Request("q", str(n)) for n in range(30)])
    except EndpointError as error:
        print(error, len(there.asked))
"""


def test_stopped_by_a_person_it_keeps_what_is_under_way(tmp_path):
    """In a process of its own, whose main thread the interrupt reaches."""
    command = [sys.executable, "-c", STOPPED, str(ROOT), str(tmp_path / "r")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "waiting for the replies to requests that were sent" in printed
    asked = int(printed.split()[-1])
    assert asked < 10
    kept = sqlite3.connect(tmp_path / "r")
    assert kept.execute("SELECT count(*) FROM replies").fetchone() == (asked,)
    kept.close()
