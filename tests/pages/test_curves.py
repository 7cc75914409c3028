"""The curves page: the likelihood of solutions, where more is known than that of training."""

from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from premem_core.store.scores import commit_inbox
from tests.helpers import planned
from tests.helpers.shown import seen, show, tables
from tests.helpers.stores import write_targets


def test_held_out_nll_and_token_accuracy_are_shown_once_they_are_known(tmp_path, monkeypatch):
    store = planned.store(tmp_path, "full")
    before = show("curves.py", tmp_path, monkeypatch, run="slow")
    [repeated] = tables(before)
    assert repeated[0] == ["Step", "pass@1", "pass@5"]
    assert "held-out NLL" not in seen(before)
    numbers = read_task_examples(store, "toy", "test")["example"]
    rows = [{"example": n, "nll": 0.25, "tokens": 4, "top_tokens": 3} for n in numbers]
    write_targets(store, "slow", 20, rows, "test")
    commit_inbox(Store(tmp_path))
    [table, again] = tables(show("curves.py", tmp_path, monkeypatch, run="slow"))
    assert again == repeated
    assert table[0] == ["Step", "NLL: training", "NLL: test", "Token accuracy: test"]
    assert [row[2:] for row in table[1:]] == [["–", "–"], ["0.250", "75.0 %"], ["–", "–"]]
