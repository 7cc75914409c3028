"""The robustness page."""

import pytest

from tests.helpers.shown import show, tables, text


def test_robustness_is_shown_for_every_perturbation_of_the_demo(demo_store, monkeypatch):
    app = show("robustness.py", demo_store.path, monkeypatch, t="-2.3")
    [[head, *rows]] = tables(app)
    assert len(rows) == 5
    for row in rows:
        before, after, lost = (float(row[at].split()[0].replace("−", "-")) for at in (2, 3, 4))
        assert head[2:5] == ["Original", "Perturbed", "Drop, points"]
        assert before - after == pytest.approx(lost, abs=0.11)
    assert "a change of" in text(app)
    assert "became wrong" in text(app)
