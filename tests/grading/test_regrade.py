"""Re-grading the shipped study, which has real completions; the pages read what it leaves."""

import fcntl
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from premem_core.analysis import caveats, curves, run_scores
from premem_core.demo import demo_study
from premem_core.errors import JobError, StoreError, UsageError
from premem_core.files import flock
from premem_core.grading import grader_comparison, regrade, run_graders
from premem_core.grading.gsm8k_grader import Gsm8kGrader
from premem_core.grading.paper_grader import PaperGrader
from premem_core.grading.run_graders import AS_SCORED
from premem_core.records import Checkpoint, Example, Grade, RunRecord
from premem_core.store.completions import read_completions, samples_shards
from premem_core.store.database import Store
from premem_core.store.examples import read_perturbed_examples, read_task_examples
from premem_core.store.grades import DISAGREEMENT_COLUMNS, grades_folder
from premem_core.store.runs import add_scored_runs, read_checkpoints, read_runs
from tests.helpers.paths import ROOT
from tests.helpers.shown import verbatim

RUN = "lr1e-3_ep5_n1000"
COMPLETIONS = 5 * (500 + 300) * 5


@pytest.fixture
def store(tmp_path) -> Store:
    return old_store(tmp_path / "store")


def old_store(folder) -> Store:
    """The shipped study as old stores are: without perturbed queries, not saying who graded it."""
    demo_study.install(folder)
    store = Store(folder)
    for run in read_runs(store)["run"]:
        for shard in samples_shards(store, run):
            if shard.name.split(".")[2]:
                shard.unlink()
    with store.writing() as connection:
        connection.execute("DELETE FROM scores WHERE perturbation <> ''")
        connection.execute("UPDATE runs SET grader = NULL, scored_by = NULL")
    return store


def test_the_shipped_study_says_who_graded_it_also_after_another_did(tmp_path):
    demo_study.install(tmp_path / "store")
    store = Store(tmp_path / "store")
    before = counts(store)
    assert regrade.regrade_run(store, RUN, "paper").change.disagreements > 100
    rows = grader_comparison.disagreements(store, RUN, "gsm8k", "paper")
    redrawn = rows[rows["perturbation"] == "redraw"].iloc[0]
    asked = (
        read_perturbed_examples(store, "demo", "redraw")
        .set_index("example")
        .loc[redrawn["example"]]
    )
    assert redrawn[["question", "answer"]].tolist() == asked[["question", "answer"]].tolist()
    graders = run_graders.read_graders(store, RUN)
    assert (graders.original, graders.in_force) == ("gsm8k", "paper")
    regrade.regrade_run(store, RUN, "gsm8k")
    pd.testing.assert_frame_equal(counts(store), before)


def counts(store: Store) -> pd.DataFrame:
    with store.reading() as connection:
        return connection.execute("SELECT * FROM scores ORDER BY ALL").df()


def completions(store: Store) -> pd.DataFrame:
    return pd.concat(
        read_completions(store, RUN, step, split)
        for step in read_checkpoints(store, RUN)["step"]
        for split in ("train", "test")
    ).reset_index(drop=True)


def test_a_run_graded_by_another_grader_and_back_has_exactly_its_former_scores(store):
    before, texts, version = counts(store), completions(store), store.version()
    done = regrade.regrade_run(store, RUN, "paper")
    assert store.version() == version + 1
    assert done.newly_graded == COMPLETIONS
    assert run_graders.read_graders(store, RUN).in_force == "paper"
    after = counts(store)
    changed = after["correct"] != before["correct"]
    assert changed.sum() > 100
    assert set(after["run"][changed]) == {RUN}
    kept = [name for name in before if name not in ("correct", "unparsed", "timeout")]
    pd.testing.assert_frame_equal(after[kept], before[kept])
    row = done.change.accuracies.set_index("split").loc["train"]
    train = after.query("run == @RUN and split == 'train'")
    assert row["other"] == pytest.approx(train["correct"].sum() / train["samples"].sum())
    assert row["one"] > row["other"]
    pd.testing.assert_frame_equal(completions(store), texts)

    back = regrade.regrade_run(store, RUN, AS_SCORED)
    assert back.newly_graded == 0
    assert back.change.disagreements == done.change.disagreements
    pd.testing.assert_frame_equal(counts(store), before)
    assert read_runs(store)["grader"].isna().all()


def test_math_grades_the_demo_as_it_was_scored_but_for_one_completion_cut_short(store):
    grade = regrade.grade_again(store, RUN, "math")
    assert grade == COMPLETIONS
    compared = grader_comparison.compare_graders(store, RUN, AS_SCORED, "math")
    assert (compared.completions, compared.disagreements) == (COMPLETIONS, 1)
    [row] = grader_comparison.disagreements(store, RUN, AS_SCORED, "math").to_dict("records")
    assert row["completion"].endswith("The answer is 40.\n#### 4")
    assert (row["extracted_one"], row["extracted_other"], row["answer"]) == ("4", "40", "40")
    assert (row["grade_one"], row["grade_other"]) == ("INCORRECT", "CORRECT")


def test_the_grader_that_scored_a_run_is_found_in_its_own_completions_again(store):
    regrade.grade_again(store, RUN, "gsm8k")
    assert grader_comparison.compare_graders(store, RUN, AS_SCORED, "gsm8k").disagreements == 0


def test_a_killed_regrading_goes_on_where_it_stopped(store, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    class Mortal(PaperGrader):
        calls = 0

        def grade(self, completions, references):
            Mortal.calls += 1
            if Mortal.calls == 4:
                raise Killed
            return super().grade(completions, references)

    before = counts(store)
    monkeypatch.setattr(regrade, "make_grader", lambda name: Mortal())
    with pytest.raises(Killed):
        regrade.regrade_run(store, RUN, "paper")
    pd.testing.assert_frame_equal(counts(store), before)
    left = run_graders.ungraded(store, run_graders.read_graders(store, RUN), "paper")
    assert 0 < left < COMPLETIONS
    with pytest.raises(StoreError, match="run regrade again"):
        regrade.use(store, RUN, "paper")
    pd.testing.assert_frame_equal(counts(store), before)
    assert run_graders.read_graders(store, RUN).in_force == AS_SCORED
    (grades_folder(store, RUN, "paper") / "half.parquet.tmp").write_bytes(b"PAR1")
    seen = []
    done = regrade.regrade_run(store, RUN, "paper", lambda *progress: seen.append(progress))
    assert done.newly_graded == left
    assert (seen[0], seen[-1]) == ((0, left), (left, left))
    assert not list(grades_folder(store, RUN, "paper").glob("*.tmp"))

    whole = old_store(tmp_path / "whole")
    regrade.regrade_run(whole, RUN, "paper")
    pd.testing.assert_frame_equal(counts(store), counts(whole))


def test_the_disagreements_are_those_of_a_direct_computation(store):
    for grader in ("gsm8k", "paper"):
        regrade.grade_again(store, RUN, grader)
    compared = grader_comparison.compare_graders(store, RUN, "gsm8k", "paper")
    rows = grader_comparison.disagreements(store, RUN, "gsm8k", "paper")
    assert list(rows.columns) == list(DISAGREEMENT_COLUMNS)

    texts = completions(store)
    examples = pd.concat(read_task_examples(store, "demo", split) for split in ("train", "test"))
    texts = texts.merge(examples, on="example")
    for name, grader in (("one", Gsm8kGrader()), ("other", PaperGrader())):
        graded = grader.grade(texts["completion"].tolist(), texts[grader.grades_against].tolist())
        texts[f"grade_{name}"] = [g.grade.name for g in graded]
        texts[f"extracted_{name}"] = [g.extracted for g in graded]
    wanted = texts[texts["grade_one"] != texts["grade_other"]]
    keys = ["step", "split", "example", "sample"]
    pd.testing.assert_frame_equal(
        rows.sort_values(keys).reset_index(drop=True),
        wanted[list(DISAGREEMENT_COLUMNS)].sort_values(keys).reset_index(drop=True),
        check_dtype=False,
    )
    assert compared.disagreements == len(wanted) > 1000
    cross = pd.crosstab(texts["grade_one"], texts["grade_other"])
    assert compared.cross.loc["CORRECT", "INCORRECT"] == cross.loc["CORRECT", "INCORRECT"]
    assert compared.cross.to_numpy().sum() == len(texts)
    only = compared.about_correctness
    assert (rows[["grade_one", "grade_other"]] == "CORRECT").any(axis=1).tolist() == [
        n < only for n in range(len(rows))
    ]


def test_disagreements_can_be_of_one_kind_and_few(store):
    regrade.grade_again(store, RUN, "paper")
    kinds = grader_comparison.compare_graders(store, RUN, AS_SCORED, "paper").kinds
    assert kinds["unparsed, incorrect"] == (Grade.UNPARSED, Grade.INCORRECT)
    rows = grader_comparison.disagreements(
        store, RUN, AS_SCORED, "paper", kind=kinds["unparsed, incorrect"]
    )
    assert set(rows["grade_one"]) == {"UNPARSED"}
    assert rows["extracted_one"].isna().all()
    assert len(grader_comparison.disagreements(store, RUN, AS_SCORED, "paper", limit=7)) == 7


def test_samples_drawn_later_must_be_graded_before_they_count(store):
    shard = samples_shards(store, RUN)[0]
    regrade.grade_again(store, RUN, "paper")
    (grades_folder(store, RUN, "paper") / shard.name).unlink()
    with pytest.raises(StoreError, match="run regrade again"):
        regrade.use(store, RUN, "paper")
    assert 0 < regrade.regrade_run(store, RUN, "paper").newly_graded < COMPLETIONS


def test_the_grader_of_a_job_is_the_original_one_even_after_another_came_into_force(store):
    folder = store.path / "jobs" / RUN
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps({"run": RUN, "grader": "gsm8k"}))
    assert run_graders.read_graders(store, RUN).names == ["gsm8k", "math", "paper"]
    regrade.regrade_run(store, RUN, "paper")
    graders = run_graders.read_graders(store, RUN)
    assert (graders.original, graders.in_force) == ("gsm8k", "paper")
    before = counts(store)
    with flock(folder / "lock", fcntl.LOCK_EX), pytest.raises(JobError, match="being scored"):
        regrade.regrade_run(store, RUN, "gsm8k")
    pd.testing.assert_frame_equal(counts(store), before)
    regrade.regrade_run(store, RUN, "gsm8k")
    assert read_runs(store).set_index("run")["grader"][RUN] == "gsm8k"


def imported(store: Store) -> str:
    frame = pd.DataFrame(
        {"step": [1], "split": ["train"], "perturbation": [""], "id": ["0"],
         "samples": [5], "correct": [3], "unparsed": [0], "nll": [0.5], "tokens": [9]}
    )  # fmt: skip
    add_scored_runs(
        store,
        [(RunRecord("import", "t", "published", 1e-3, 1, 8, 1), [Checkpoint(Path("c"), 1)], frame)],
        [("t", "train", [Example("0", "", "", "")])],
    )
    return "import"


def test_what_cannot_be_graded_is_refused_and_nothing_changes(store):
    run = imported(store)
    version = store.version()
    with pytest.raises(StoreError, match="has no completions"):
        regrade.regrade_run(store, run, "math")
    with pytest.raises(UsageError, match="has no run 'nosuch'; it has: "):
        regrade.regrade_run(store, "nosuch", "math")
    with pytest.raises(UsageError, match="no grader 'magic'"):
        regrade.regrade_run(store, RUN, "magic")
    with pytest.raises(StoreError, match="not graded by 'math' yet"):
        grader_comparison.compare_graders(store, RUN, AS_SCORED, "math")
    assert store.version() == version
    assert not (store.path / "grades").exists()
    assert run not in run_graders.regradable_runs(store)


def premem(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "premem_core", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )


def test_the_commands_print_what_changed_and_where_graders_disagree(store, tmp_path):
    place = ("--store", store.path, "--run", RUN)
    found = premem("disagreements", *place, "--grader", "gsm8k", "--against", "math", "--json",
                   "--out", tmp_path / "rows.csv")  # fmt: skip
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    assert (result["completions"], result["disagreements"]) == (COMPLETIONS, 1)
    assert result["rows"][0]["completion"].endswith("#### 4")
    assert len(pd.read_csv(tmp_path / "rows.csv")) == 1
    done = premem("regrade", *place, "--grader", "math", "--json")
    result = json.loads(done.stdout)
    assert (result["grader_before"], result["changed"]) == (AS_SCORED, 1)
    train = next(row for row in result["accuracy"] if row["split"] == "train")
    assert train["after"] - train["before"] == pytest.approx(1 / 12_500)
    assert "1 of 20,000 grades differ" in premem("regrade", *place, "--grader", AS_SCORED).stdout

    for arguments, code, message in (
        (("regrade", *place, "--grader", "magic"), 2, "no grader 'magic'"),
        (("regrade", "--store", store.path, "--run", "x", "--grader", "math"), 2, "no run 'x'"),
    ):
        refused = premem(*arguments)
        assert refused.returncode == code
        assert message in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


@pytest.fixture
def page(store, monkeypatch) -> AppTest:
    monkeypatch.setenv("PREMEM_STORE", str(store.path))
    st.cache_resource.clear()
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app = app.run().switch_page("pages/grades.py")
    app.query_params["run"] = "lr 0.0003 · 5 epochs · 500 examples"
    return app


def shown(page: AppTest) -> str:
    assert not page.exception
    return " ".join(element.value for element in [*page.markdown, *page.caption])


def test_the_page_grades_compares_and_shows_a_disagreement_verbatim(page, store):
    page.run()
    assert "**math** has not graded 20,000 completions" in shown(page)
    first = run_graders.regradable_runs(store)[0]
    page.selectbox(key="against").select("paper").run()
    page.button[0].click().run()
    compared = grader_comparison.compare_graders(store, first, AS_SCORED, "paper")
    assert f"disagree on **{compared.disagreements:,}** of 20,000 completions" in shown(page)
    [table] = page.dataframe
    assert len(table.value) == 1000
    row = grader_comparison.disagreements(store, first, AS_SCORED, "paper", limit=1).iloc[0]
    texts = verbatim(page)
    assert texts == [
        *(row["question"], row["solution"], row["answer"]),
        *(row["completion"], row["extracted_one"], row["extracted_other"]),
    ]

    page.segmented_control(key="kind").set_value("unparsed, incorrect").run()
    assert set(page.dataframe[0].value["grade_one"]) == {"UNPARSED"}
    assert "(no answer found)" in verbatim(page)

    before = counts(store)
    page.button[0].click().run()
    assert "are those of **paper**" in shown(page)
    assert not counts(store).equals(before)
    page.button[0].click().run()
    assert f"are those of **{AS_SCORED}**" in shown(page)
    pd.testing.assert_frame_equal(counts(store), before)


def test_a_kind_that_another_pair_of_graders_does_not_have_is_forgotten(page, store):
    first = run_graders.regradable_runs(store)[0]
    for grader in ("math", "paper"):
        regrade.grade_again(store, first, grader)
    page.query_params["against"] = "paper"
    page.query_params["kind"] = "unparsed, incorrect"
    page.run()
    assert page.segmented_control(key="kind").value == "unparsed, incorrect"
    page.selectbox(key="against").select("math").run()
    assert "agree on all 20,000 completions" in shown(page)
    page.selectbox(key="grader").select("math").run()
    assert not page.exception


def test_a_completion_named_in_the_url_is_the_one_that_is_shown(page, store):
    first = run_graders.regradable_runs(store)[0]
    regrade.grade_again(store, first, "paper")
    row = grader_comparison.disagreements(store, first, AS_SCORED, "paper").iloc[41]
    page.query_params["against"] = "paper"
    page.query_params["completion"] = row.name
    page.run()
    assert row["completion"] in verbatim(page)


def test_an_unparsed_completion_among_others_says_that_no_answer_was_found(page, store):
    run = "lr3e-3_ep24_n500"
    regrade.grade_again(store, run, "math")
    rows = grader_comparison.disagreements(store, run, AS_SCORED, "math")
    assert len(set(rows["grade_one"])) == 3
    page.run()
    page.query_params["completion"] = rows.index[rows["grade_one"] == "UNPARSED"][0]
    page.selectbox(key="run").select(run).run()
    assert not page.exception
    assert "(no answer found)" in verbatim(page)


def test_a_task_of_imported_runs_says_that_there_is_nothing_to_grade(page, store):
    imported(store)
    page.run()
    page.selectbox(key="task").select("t").run()
    assert not page.exception
    assert "came without completions" in page.info[0].value


def test_runs_of_different_graders_are_not_compared_without_a_word(tmp_path):
    demo_study.install(tmp_path / "store")
    store = Store(tmp_path / "store")

    def said() -> list[str]:
        lines = [curves.curve(run, -2.1) for run in run_scores.read_task(store, "demo")]
        return [each for each in caveats.caveats(lines, None) if "different graders" in each]

    assert said() == []
    regrade.regrade_run(store, RUN, "paper")
    assert said()[0].startswith("The runs are graded by different graders (gsm8k, paper)")
