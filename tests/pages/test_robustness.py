"""The robustness page."""

import pytest

from tests.helpers.shown import show, tables, text


def test_robustness_is_shown_for_every_perturbation_of_the_demo(demo_store, monkeypatch):
    app = show("robustness.py", demo_store.path, monkeypatch, t="-2.3")
    [[head, *rows], [compared, *controls]] = tables(app)
    assert len(rows) == len(controls) == 5
    for row in rows:
        before, after, lost = (float(row[at].split()[0].replace("−", "-")) for at in (2, 3, 4))
        assert head[2:5] == ["Original", "Perturbed", "Drop, points"]
        assert before - after == pytest.approx(lost, abs=0.11)
    assert compared[1:4] == ["Training questions", "Test questions", "Difference"]
    for row in controls:
        train, test, difference = (float(row[at].split()[0].replace("−", "-")) for at in (1, 2, 3))
        assert train - test == pytest.approx(difference, abs=0.11)
    assert "a change of" in text(app)
    assert "became wrong" in text(app)
