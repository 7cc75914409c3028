"""The Python API on the shipped demo study, and the page that documents it."""

import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import premem_core as premem
from premem_core.analysis import curves, run_scores
from premem_core.demo import demo_study
from premem_core.errors import DataError, StoreError, UsageError
from premem_core.grading import hand_grades, regrade
from premem_core.records import Grade, SampleKey
from premem_core.store.database import Store
from tests.helpers.paths import ROOT

TASK = demo_study.TASK
RUN, STEP = "lr1e-3_ep5_n1000", 315
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where a reader of the page works: the demo study is in `store`."""
    folder = tmp_path_factory.mktemp("api")
    demo_study.install(folder / "store")
    return folder


@pytest.fixture
def store(folder) -> premem.StoreReader:
    return premem.open_store(folder / "store")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)\n```", PAGE, re.DOTALL)


def test_every_example_of_the_python_page_runs_in_its_order(folder, monkeypatch):
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    assert len(blocks("python")) >= 10
    for block in blocks("python"):
        exec(compile(block, "docs/python.md", "exec"), names)
    assert (folder / "curves.html").stat().st_size > 100_000


def test_the_console_examples_of_the_python_page_print_what_it_says():
    names = {name: getattr(premem, name) for name in premem.__all__} | {"np": np}
    runner = doctest.DocTestRunner()
    for number, block in enumerate(blocks("pycon")):
        case = doctest.DocTestParser().get_doctest(f"{block}\n", names, f"block {number}", None, 0)
        runner.run(case, clear_globs=False)
    assert runner.tries >= 5
    assert runner.failures == 0


def test_the_first_example_has_ten_lines():
    code = [line for line in blocks("python")[0].splitlines() if line]
    assert len(code) <= 10


def test_importing_premem_loads_nothing_heavy_and_figures_load_no_streamlit():
    code = """
import sys
import premem_core as premem
assert not {"numpy", "pandas", "duckdb", "plotly", "typer"} & set(sys.modules)
premem.figures, premem.open_store
assert not {"streamlit", "torch"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_every_public_name_is_there_and_no_other():
    for name in premem.__all__:
        assert getattr(premem, name).__doc__, name
    assert set(premem.__all__) < set(dir(premem))
    with pytest.raises(AttributeError, match="no attribute 'open_shop'"):
        premem.open_shop  # noqa: B018


def documented_columns(method) -> list[str]:
    columns = inspect.getdoc(method).partition("Columns:\n")[2].partition("\n\n")[0]
    names = re.findall(r"^ {4}([\w, ]+): ", columns, re.MULTILINE)
    return [name for each in names for name in each.split(", ")]


def test_every_table_has_the_columns_that_its_docstring_says(store):
    tables = {
        "runs": store.runs(),
        "checkpoints": store.checkpoints(RUN),
        "examples": store.examples(TASK),
        "scores": store.scores(TASK),
        "completions": store.completions(RUN, STEP),
        "premem": store.premem(TASK),
        "solutions": store.solutions(RUN),
    }
    assert list(store.tokens(RUN, STEP).columns) == documented_columns(premem.StoreReader.tokens)
    for name, table in tables.items():
        assert list(table.columns) == documented_columns(getattr(premem.StoreReader, name)), name
        assert len(table), name


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_opening_a_folder_that_is_no_store_is_refused_and_makes_nothing(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match=r"is not a store \(no premem.duckdb in it\)"):
        premem.open_store(tmp_path / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_reading_leaves_the_store_as_it_was_but_for_its_lock(tmp_path):
    demo_study.install(tmp_path / "store")
    before = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    store = premem.open_store(tmp_path / "store")
    version = store.version
    store.premem(TASK)
    store.sql("SELECT count(*) FROM scores")
    after = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    assert after - before <= {Path("store/premem.lock")}
    assert store.version == version


def test_the_premem_table_is_at_the_threshold_that_commands_use(store):
    home = Store(store.path)
    runs = run_scores.read_task(home, TASK)
    best = curves.best_threshold(runs).log_log_threshold
    table = store.premem(TASK)
    assert set(table["log_log_threshold"]) == {best}
    expected = curves.table([curves.curve(run, best) for run in runs])
    assert table.equals(expected)
    given = store.premem(TASK, log_log_threshold=-2.5, estimator="jackknife")
    assert set(given["log_log_threshold"]) == {-2.5}
    assert not given["premem"].equals(table["premem"])


def test_a_study_at_its_optimum_is_what_fit_prints(store):
    done = premem.analyse(store.study(TASK))
    command = ["fit", "--store", str(store.path), "--task", TASK]
    printed = subprocess.run(
        [sys.executable, "-m", "premem_core", *command],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    for sentence in done.in_words():
        assert sentence in printed.stdout


def test_completions_have_the_grades_that_count(tmp_path):
    demo_study.install(tmp_path / "store")
    store, home = premem.open_store(tmp_path / "store"), Store(tmp_path / "store")

    def correct() -> tuple[int, int]:
        scores = store.scores(TASK).query("run == @RUN and step == @STEP and split == 'train'")
        grades = store.completions(RUN, STEP)["grade"]
        return int(scores["correct"].sum()), int((grades == "correct").sum())

    as_scored = correct()
    assert as_scored[0] == as_scored[1]
    wrong = store.completions(RUN, STEP).query("grade == 'incorrect'").iloc[0]
    key = SampleKey(STEP, "train", "", int(wrong["example"]), int(wrong["sample"]))
    hand_grades.set_grade(home, RUN, key, Grade.CORRECT, "read by a person")
    assert correct() == (as_scored[0] + 1, as_scored[1] + 1)
    by_hand = store.completions(RUN, STEP).query("by_hand")
    assert by_hand[["example", "sample", "grade"]].to_numpy().tolist() == [
        [key.example, key.sample, "correct"]
    ]
    regrade.regrade_run(home, RUN, "paper")
    by_paper = correct()
    assert by_paper[0] == by_paper[1] != as_scored[0] + 1


def test_sql_reads_tables_and_completions(store):
    tables = set(store.sql("SHOW TABLES")["name"])
    assert all(f"{name}" in tables for name in ("runs", "checkpoints", "examples", "scores"))
    described = inspect.getdoc(premem.StoreReader.sql)
    assert all(re.search(rf"\b{name}\b", described) for name in tables)
    best = store.sql("SELECT run FROM runs WHERE learning_rate > ? ORDER BY run", [2e-3])
    assert best["run"].tolist() == ["lr3e-3_ep15_n1000", "lr3e-3_ep24_n500", "lr3e-3_ep5_n2000"]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("DELETE FROM scores", "DELETE"),
        ("UPDATE runs SET task = 'other'", "UPDATE"),
        ("CREATE TABLE mine (x INTEGER)", "CREATE"),
        ("COPY runs TO 'runs.csv'", "COPY"),
        ("SELECT 1; DROP TABLE runs", "SELECT and DROP"),
        ("", "empty"),
        ("SELECT nextval('override_numbers')", "read-only mode"),
        ("SELECT nothing FROM runs", 'Referenced column "nothing" not found'),
        ("SELEC 1", "syntax error"),
    ],
)
def test_a_query_that_does_not_only_read_is_refused_in_one_sentence(
    store, query, reason, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    before = store.version
    with pytest.raises(StoreError, match=reason) as refused:
        store.sql(query)
    assert "\n" not in str(refused.value)
    assert store.version == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda s: s.checkpoints("lr1"), rf"no run 'lr1' in .*; choose one of: .*'{RUN}'"),
        (lambda s: s.examples("gsm8k"), r"no task 'gsm8k' in .*; choose one of: 'demo'"),
        (lambda s: s.examples(TASK, "dev"), r"no split 'dev' .*: 'train', 'test'"),
        (lambda s: s.scores("gsm8k"), "no task 'gsm8k'"),
        (lambda s: s.completions(RUN, 1), "no step 1 in .*63, 126, 189, 252, 315"),
        (lambda s: s.premem("gsm8k"), "task 'gsm8k' has no scored run"),
        (lambda s: s.solutions("lr1"), "no run 'lr1'"),
        (lambda s: s.solutions(RUN, segment="end"), "segment 'end' .* target, trace, answer"),
        (lambda s: s.solutions(RUN, first=0), "first 0 were given"),
        (lambda s: s.tokens(RUN, 1), "no step 1 in "),
        (lambda s: s.premem(TASK, estimator="best"), "no estimator 'best' .*: 'plain'"),
        (lambda s: s.premem(TASK, log_log_threshold=float("nan")), "must be a finite number"),
        (lambda s: s.study(TASK, objective="best"), "no objective 'best' .*: 'identity'"),
    ],
)
def test_an_unknown_name_is_refused_with_those_there_are(store, ask, says):
    with pytest.raises(UsageError, match=says):
        ask(store)


def test_the_best_threshold_of_arrays_is_that_of_the_study_they_are_from(store):
    study = store.study(TASK)
    fit = premem.best_threshold(
        [run.counts.correct for run in study.runs],
        5,
        [run.nll for run in study.runs],
        [run.test_accuracy.mean(axis=1) for run in study.runs],
    )
    assert fit.log_log_threshold == pytest.approx(study.fit.log_log_threshold)
    assert fit.r2 == pytest.approx(study.fit.r2)


def test_arrays_that_do_not_fit_each_other_are_refused():
    correct, nll = np.array([[3, 2], [5, 4]]), np.array([[0.9, 0.8], [0.02, 0.3]])
    with pytest.raises(DataError, match=r"test_accuracy \(3,\); expected \(C, N\)"):
        premem.best_threshold([correct], 5, [nll], [np.array([0.5, 0.7, 0.9])])
    with pytest.raises(DataError, match="at least two checkpoints"):
        premem.best_threshold([correct], 5, [nll], [np.array([0.5, 0.5])])
