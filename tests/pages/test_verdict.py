"""The Verdict page."""

from premem_core.analysis import run_scores
from premem_core.analysis.verdict.threshold import choose_threshold
from premem_core.analysis.verdict.verdict import read_verdict
from tests.helpers.shown import show, tables, text


def test_the_page_says_what_the_verdict_says(demo_store, monkeypatch):
    runs = run_scores.read_task(demo_store, "demo")
    for source in ("unseen", "other_runs", "this_run"):
        threshold = choose_threshold("demo", runs[1], runs, source=source)
        verdict = read_verdict(demo_store, "demo", runs[1], threshold)
        page = {"run": runs[1].run, "from": source}
        app = show("verdict.py", demo_store.path, monkeypatch, **page)
        said = text(app).replace("\\", "")
        for sentence in (*verdict.in_words(), *verdict.cautions):
            assert sentence in said
        [[head, *rows]] = tables(app)
        assert [int(row[0]) for row in rows] == runs[1].steps.tolist()
        expected = verdict.checkpoints["predicted"]
        assert [row[head.index("Predicted")] for row in rows] == [
            f"{100 * p:.1f} %" for p in expected
        ]


def test_a_prediction_learns_from_the_chosen_runs_but_not_from_the_run_itself(
    demo_store, monkeypatch
):
    low, warm, *_ = (run.run for run in run_scores.read_task(demo_store, "demo"))

    def learned_from(*runs):
        page = {"run": warm, "calibrate": list(runs), "from": "other_runs"}
        return text(show("verdict.py", demo_store.path, monkeypatch, **page))

    assert "fitted to 4 other runs of the task" in learned_from()
    assert "fitted to another run of the task" in learned_from(low, warm)
