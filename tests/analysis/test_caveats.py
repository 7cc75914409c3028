"""Sentences about what the numbers of several runs cannot show."""

from premem_core.analysis import caveats, curves, run_scores
from premem_core.demo import demo_study
from premem_core.grading import regrade
from premem_core.store.database import Store
from tests.helpers.demo import RUN


def test_runs_of_different_graders_are_not_compared_without_a_word(tmp_path):
    demo_study.install(tmp_path / "store")
    store = Store(tmp_path / "store")

    def said() -> list[str]:
        lines = [curves.curve(run, -2.1) for run in run_scores.read_task(store, "demo")]
        return [each for each in caveats.caveats(lines, None) if "different graders" in each]

    assert said() == []
    regrade.regrade_run(store, RUN, "paper")
    assert said()[0].startswith("The runs are graded by different graders (gsm8k, paper)")
