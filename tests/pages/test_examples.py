"""The table of examples."""

from premem_core.store.examples import read_task_examples
from tests.helpers import planned
from tests.helpers.shown import show


def test_examples_are_searched_and_filtered_by_the_address(demo_store, monkeypatch):
    def found(**query):
        app = show("examples.py", demo_store.path, monkeypatch, **query)
        return app.dataframe[0].value if len(app.dataframe) else None

    everything = found(t="-2.3")
    assert len(everything) == 500
    some = found(t="-2.3", q="STICKERS sells")
    assert 0 < len(some) < 100
    texts = read_task_examples(demo_store, "demo", "train").set_index("id").loc[some["id"]]
    words = texts["question"].str.cat(texts["solution"], sep=" ").str.lower()
    assert (words.str.contains("stickers") & words.str.contains("sells")).all()
    low = found(t="-2.3", pm=["0", "20"])
    assert 0 < len(low) < 500
    assert low["premem"].max() <= 20
    assert set(found(t="-2.3", since=["512"])["memorized"]) == {512}
    assert (found(t="-2.3", flips="2")["flips"] >= 2).all()
    assert found(t="-2.3", ids=["train-0003", "train-0001"])["id"].tolist() == [
        "train-0001",
        "train-0003",
    ]
    run = {"run": "lr1e-3_ep5_n1000", "t": "-2.3"}
    assert len(found(**run, grades=["incorrect"])) == (found(**run)["accuracy"] < 100).sum() > 0
    assert found(q="no such words").empty


def test_a_mean_over_the_examples_that_a_plan_completed_is_not_given(tmp_path, monkeypatch):
    home = planned.store(tmp_path, "last")
    app = show("examples.py", home.path, monkeypatch, t=f"{planned.T - 1}", run="fast")
    known = int(app.dataframe[0].value["premem"].notna().sum())
    assert 0 < known < 60
    headline = app.markdown[0].value
    assert f"Pre-memorization accuracy is known for {known} of them" in headline
    assert "mean pre-memorization accuracy is" not in headline
