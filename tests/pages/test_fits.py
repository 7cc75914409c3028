"""The R² fits page."""

from tests.helpers.shown import numbers, show, text


def test_the_fit_follows_the_objective_in_the_address(demo_store, monkeypatch):
    identity = show("fits.py", demo_store.path, monkeypatch)
    linear = show("fits.py", demo_store.path, monkeypatch, objective="linear")
    assert "Linear R² at every threshold" in [each.value for each in linear.subheader]
    assert "Linear R² (plain estimator) is highest at t" in text(linear)
    r2 = [float(numbers(app)[1].replace("−", "-")) for app in (identity, linear)]
    assert r2[0] <= r2[1]
