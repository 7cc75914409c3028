"""Pages on a run whose completions and perplexities were all imported: nothing is known of it."""

import json
from dataclasses import replace

import pytest

from premem_core.importers.samples.imports import prepare_import
from premem_core.importers.samples.request import SampleRequest
from premem_core.problems.data_files import Split
from premem_core.records import Example
from premem_core.store.database import Store
from tests.helpers import tiny
from tests.helpers.shown import seen, show

TRAIN, TEST = (
    [replace(e, question=f"Add the numbers {e.question}") for e in tiny.sums(start, 12)]
    for start in (0, 48)
)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Two checkpoints whose NLLs fall, and whose train and test accuracies rise."""
    folder = tmp_path_factory.mktemp("imported")
    store = Store(folder / "store")
    splits: tuple[tuple[Split, list[Example]], ...] = (("train", TRAIN), ("test", TEST))
    for split, examples in splits:
        rows = []
        for step, right in ((10, 4), (20, 9)):
            for number, e in enumerate(examples):
                answer = e.answer if number < right else "-1"
                row = {"id": e.id, "step": step, "completion": f"#### {answer}"}
                rows.append(row | ({"nll": 0.9 / step, "tokens": 9} if split == "train" else {}))
        file = folder / f"{split}.jsonl"
        file.write_text("\n".join(map(json.dumps, rows)))
        request = SampleRequest([file], "r", split, TRAIN, TEST, task="sums", grader="gsm8k")
        prepare_import(store, request).write(store)
    return store.path


@pytest.mark.parametrize(
    "page",
    ["overview.py", "verdict.py", "curves.py", "fits.py", "map.py", "examples.py", "example.py",
     "curate.py", "compare.py", "grades.py", "robustness.py"],
)  # fmt: skip
def test_a_page_shows_an_imported_run(page, imported, monkeypatch):
    shown = seen(show(page, imported, monkeypatch, t="-2.6"))
    if page == "curves.py":
        assert "the test accuracies count 24 imported completions, sampled by plain" in shown
    if page == "example.py":
        assert "cut off" not in shown
