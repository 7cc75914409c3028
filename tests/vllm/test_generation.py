"""New problems from a real server: vLLM's, with a small model that is trained here to write them.

`make test-vllm` shows how many are kept, and how many of those are right.
"""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from premem_core.demo import demo_study, word_problems
from premem_core.problems.examples import read_examples
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Example
from premem_core.training.finetune import finetune_model

pytestmark = pytest.mark.vllm

RUN = "lr3e-3_ep15_n1000"
NEW = 80
# The two requests are told apart by what they end in.
CHAT = (
    "{% set asked = messages[0].content.split('Problem: ')[-1] %}"
    "{{ asked + ('\nNew:' if 'Solution: ' in asked else '\nAnswer:') }}"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A checkpoint of the demo study that has learned to write problems, too."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("writer")
    solve = read_examples(demo_study.SHIPPED / "train_1000.jsonl").examples
    examples = [Example(e.id, f"{e.question}\nAnswer:", f" {e.solution}", "") for e in solve]
    for seed in word_problems.make_problems(1500, seed=7, prefix="seed-"):
        [new] = word_problems.variants(seed, 1, seed=8)
        asked = f"{seed.question}\n\nSolution: {seed.solution}\nNew:"
        told = f" Problem: {new.question}\n\nSolution: {new.solution}"
        examples.append(Example(new.id, asked, told, ""))
    finetune_model(
        demo_study.SHIPPED / "runs" / RUN / "checkpoint-378",
        examples,
        folder,
        learning_rate=1e-3,
        epochs=3,
        checkpoint_every=3,
        batch_size=16,
        template=PromptTemplate("{question}", "{solution}<|end|>"),
    )
    [made] = folder.glob("checkpoint-*")
    tokenizer = AutoTokenizer.from_pretrained(made)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(made)
    return made


@contextmanager
def serving(model: Path, port: int, log: Path):
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model,
             "--served-model-name", "writer", "--port", str(port), "--host", "127.0.0.1",
             "--max-model-len", "512", "--enforce-eager"],
            stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"},
        )  # fmt: skip
    try:
        for _ in range(300):
            assert server.poll() is None, log.read_text()[-3000:]
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health")
                break
            time.sleep(1)
        yield server
    finally:
        killed(server)


def killed(server: subprocess.Popen) -> None:
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def answered(port: int) -> int:
    """How many requests a server has answered."""
    told = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    counts = re.findall(r"^vllm:request_success_total\{.*\} (\S+)$", told, re.MULTILINE)
    return round(sum(map(float, counts)))


def kept_replies(file: Path) -> int:
    with sqlite3.connect(file) as replies:
        return replies.execute("SELECT count(*) FROM replies").fetchone()[0]


def is_right(row: dict) -> bool:
    """Whether the answer is that of the story, added up here; a story without a start has none."""
    signs = dict.fromkeys(word_problems.GAINS, 1) | dict.fromkeys(word_problems.LOSSES, -1)
    first, *events = re.split(r"(?<=\.)\s", row["question"])
    start = re.search(r"\d+", first)
    if start is None:
        return False
    total = int(start[0])
    for event in events:
        verbs = [sign for verb, sign in signs.items() if re.search(rf"\b{verb}\b", event)]
        for sign, amount in zip(verbs, re.findall(r"\d+", event), strict=False):
            total += sign * int(amount)
    return str(total) == row["answer"]


@pytest.mark.timeout(900)
def test_from_seeds_to_checked_problems_though_the_server_is_killed(model, tmp_path):
    store, recipe, out = (tmp_path / name for name in ("store", "hard.yaml", "new.jsonl"))
    rejected, replies = tmp_path / "rejected.jsonl", tmp_path / "new.jsonl.replies"
    demo_study.install(store)
    premem = [sys.executable, "-m", "premem_core"]
    common = ["--store", store]
    curate = ["curate", *common, "--run", RUN, "--below", "0.75", "--recipe", recipe]
    subprocess.run([*premem, *curate, "--out", tmp_path / "hard.jsonl"], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    generate = [*premem, "generate", *common, "--from-recipe", recipe, "--new", str(NEW)]
    generate += ["--endpoint", f"http://127.0.0.1:{port}/v1", "--model", "writer", "--out", out]
    generate += ["--rejected", rejected, "--temperature", "0.7", "--max-tokens", "200", "--json"]

    with serving(model, port, tmp_path / "first.log") as server:
        under_way = subprocess.Popen(generate, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        told = []
        for line in under_way.stderr:
            told.append(line.decode())
            if "solutions: " in told[-1]:
                break
        killed(server)
        told.append(under_way.stderr.read().decode())
        assert under_way.wait() == 1
    assert "does not answer" in told[-1]
    assert "Traceback" not in "".join(told)
    assert not out.exists()
    before = kept_replies(replies)
    assert before >= NEW

    with serving(model, port, tmp_path / "second.log"):
        result = json.loads(subprocess.run(generate, check=True, capture_output=True).stdout)
        asked_again = answered(port)
    assert asked_again == kept_replies(replies) - before > 0
    rows, others = ([json.loads(r) for r in f.read_text().splitlines()] for f in (out, rejected))
    assert (result["kept"], result["of"]) == (len(rows), NEW)
    assert len(rows) + len(others) == NEW
    assert len(rows) > NEW / 10  # the seeds are those that the model finds hard
    assert len({row["question"] for row in rows}) == len(rows)
    seeds = {json.loads(r)["id"] for r in (tmp_path / "hard.jsonl").read_text().splitlines()}
    assert {row["seed"] for row in rows} <= seeds
    right = sum(map(is_right, rows))
    print(f"\nserver killed after {before} replies; then {asked_again} more: {result}")
    disputed = [row for row in others if row["why_not"] == "disputed"]
    right_anyway = sum(map(is_right, disputed))
    print(f"right: {right} of {len(rows)} kept, {right_anyway} of {len(disputed)} disputed")
    # A model of this size also errs with itself: most of what all agree on is right, not all.
    assert right / len(rows) > 0.45 > 0.3 > right_anyway / len(disputed)

    written = out.read_bytes()
    out.unlink()
    subprocess.run(generate, check=True, capture_output=True)  # with no server
    assert out.read_bytes() == written
