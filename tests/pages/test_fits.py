"""The R² fits page."""

from premem_core.analysis import run_scores
from tests.helpers.shown import numbers, show, text


def test_the_fit_follows_the_objective_in_the_address(demo_store, monkeypatch):
    identity = show("fits.py", demo_store.path, monkeypatch)
    linear = show("fits.py", demo_store.path, monkeypatch, objective="linear")
    assert "Linear R² at every threshold" in [each.value for each in linear.subheader]
    assert "Linear R² (plain estimator) is highest at t" in text(linear)
    r2 = [float(numbers(app)[1].replace("−", "-")) for app in (identity, linear)]
    assert r2[0] < r2[1]


def test_a_prediction_learns_from_the_chosen_runs_but_not_from_the_run_itself(
    demo_store, monkeypatch
):
    low, warm, *_ = (run.run for run in run_scores.read_task(demo_store, "demo"))

    def learned_from(*runs):
        page = {"predict": warm, "calibrate": list(runs)}
        return text(show("fits.py", demo_store.path, monkeypatch, **page))

    assert "fitted to 4 other runs of the task" in learned_from()
    assert "fitted to another run of the task" in learned_from(low, warm)
