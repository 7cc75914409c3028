"""The closed loop: its figures by hand, and a small one from first problems to the document."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from benchmarks.closed_loop import loop
from benchmarks.closed_loop.loop import Setting
from benchmarks.closed_loop.run import experiment
from premem_core.analysis import curves, run_scores
from premem_core.demo import demo_study
from premem_core.errors import UsageError
from premem_core.store.database import Store
from premem_core.store.runs import read_runs
from tests.helpers import planned


def outcome(**curves) -> pd.DataFrame:
    """A curve per strategy and seed, at 100, 150, 200, 250 problems."""
    return pd.DataFrame(
        [
            {"strategy": name, "seed": seed, "round": r, "problems": 100 + 50 * r,
             "chosen": 9, "test_accuracy": value}
            for name, seeds in curves.items()
            for seed, curve in enumerate(seeds)
            for r, value in enumerate(curve)
        ]
    )  # fmt: skip


def test_intervals_are_student_s_over_seeds():
    table = loop.summary(outcome(random=[[0.4, 0.5], [0.5, 0.5], [0.6, 0.5]]))
    assert table["problems"].tolist() == [100, 150]
    assert table["test_accuracy"].tolist() == pytest.approx([0.5, 0.5])
    # t of 2 degrees of freedom at .95: 2.91999
    assert table["half"].tolist() == pytest.approx([2.91999 * 0.1 / np.sqrt(3), 0], rel=1e-5)
    alone = loop.summary(outcome(random=[[0.4, 0.5]]))
    assert alone["half"].isna().all()


@pytest.mark.parametrize(
    ("own", "at", "ratio"),
    [
        ([0.4, 0.7, 0.8, 0.9], 0.7, 150 / 50),  # there after a round, not after three
        ([0.4, 0.5, 0.6, 0.7], 0.7, 1.0),
        ([0.4, 0.4, 0.5, 0.55], 0.55, 75 / 150),  # half of the data would have done
        ([0.4, 0.8, 0.1, 0.1], 0.7, 150 / 37.5),  # what was reached once counts
        ([0.4, 0.3, 0.2, 0.1], 0.4, np.nan),  # nothing new was of use
    ],
)
def test_efficiency_is_how_much_more_i_i_d_collection_needs(own, at, ratio):
    [row] = loop.efficiency(
        outcome(random=[[0.4, 0.5, 0.6, 0.7]] * 2, premem=[own, own])
    ).itertuples()
    assert row.strategy == "premem"
    assert (row.at_accuracy, row.ratio) == pytest.approx((at, ratio), nan_ok=True)
    assert row.above_iid == pytest.approx(np.mean(own[1:]) - 0.6)
    assert row.half == pytest.approx(0, abs=1e-12)


def test_what_cannot_be_tried_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="at least 1 seed"):
        loop.run(tmp_path / "x", Setting(seeds=0))
    with pytest.raises(UsageError, match="test problem"):
        loop.run(tmp_path / "x", Setting(test=0))
    assert not (tmp_path / "x").exists()
    (tmp_path / "setting.json").write_text("{}")
    with pytest.raises(UsageError, match="another setting"):
        loop.run(tmp_path, Setting())


def test_a_file_is_no_folder_for_an_experiment(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(UsageError, match="cannot be made or written to"):
        loop.run(tmp_path / "x", Setting())


@pytest.fixture
def scored(tmp_path, monkeypatch) -> Store:
    """A run of 60 problems whose ids end in their places."""
    home = planned.store(tmp_path / "store", "full")
    monkeypatch.setattr(loop, "_task", lambda seed: "toy")
    return home


SIZES = Setting(first=60, log_log_threshold=planned.T, share=0.5)


def test_premem_takes_the_problems_up_to_the_paper_s_bound(scored):
    chosen = loop._choose(scored, SIZES, "premem", 0, "slow")
    [run] = [each for each in run_scores.read_task(scored, "toy") if each.run == "slow"]
    value = curves.premem(run, planned.T, "plain")[-1]
    assert chosen == np.flatnonzero(value <= 0.75 + 1e-9).tolist()
    assert 0 < len(chosen) < 60
    of_fast = loop._choose(scored, SIZES, "premem", 0, "fast")
    assert of_fast != chosen  # by the run that it is told


def test_other_strategies_take_their_first_half_and_random_all(scored):
    assert loop._choose(scored, SIZES, loop.IID, 0, "slow") == list(range(60))
    with scored.writing() as connection:
        connection.execute(
            "UPDATE examples SET solution = solution || ' a' WHERE CAST(id AS INT) < 30"
        )
    assert loop._choose(scored, SIZES, "words", 0, "slow") == list(range(30))


def test_variants_are_new_and_of_no_test_problem():
    setting = Setting(first=8, test=6)
    seeds = loop._first_problems(setting, 0)
    known = [*seeds, *loop._test_problems(setting)]
    made = loop._variants(seeds * 5, setting, 0, 1, seeds)
    assert len({each.question for each in made}) == len({each.id for each in made}) == 40
    assert not {each.question for each in made} & {each.question for each in known}
    assert made == loop._variants(seeds * 5, setting, 0, 1, seeds)
    assert made != loop._variants(seeds * 5, setting, 0, 2, seeds)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_small_loop_from_first_problems_to_the_document(tmp_path):
    folder = tmp_path / "loop"
    shutil.copytree(
        demo_study.SHIPPED / "runs" / "lr3e-3_ep15_n1000" / "checkpoint-189", folder / "base"
    )
    command = [str(folder), "--seeds", "2", "--rounds", "2"]
    command += ["--first", "60", "--new", "20", "--test", "40"]
    app = typer.Typer()
    app.command()(experiment)
    result = CliRunner().invoke(app, [*command, "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    rows = pd.DataFrame(told["outcome"])
    assert len(rows) == 4 * 2 * 3
    assert set(rows["strategy"]) == set(loop.STRATEGIES)
    by_round = rows.groupby("round")["problems"].unique().map(list)
    assert by_round.to_dict() == {0: [60], 1: [80], 2: [100]}
    at_first = rows[rows["round"] == 0].groupby("seed")["test_accuracy"].nunique()
    assert at_first.tolist() == [1, 1]
    assert rows["test_accuracy"].between(0.01, 1).all()
    assert rows[rows["round"] > 0]["test_accuracy"].nunique() > 4
    assert {row["strategy"] for row in told["efficiency"]} == {"premem", "ifd", "words"}
    document = (folder / "experiment.html").read_text()
    assert "Plotly" in document
    assert len(pd.read_csv(folder / "outcome.csv")) == 24
    runs = read_runs(Store(folder / "store"))
    assert set(runs["task"]) == {"seed-0", "seed-1"}
    # Those that choose by a run choose by that of the round before.
    rounds = {f"seed-{seed}-{name}" for seed in (0, 1) for name in ("first-0", "premem-1", "ifd-1")}
    assert set(runs["run"]) == rounds

    again = CliRunner().invoke(app, [*command, "--json"])  # all of it is there
    assert json.loads(again.stdout[again.stdout.index("{") :]) == told
