"""Two graders on the same completions: where they differ, and how."""

import numpy as np
import pandas as pd
import pytest

from premem_core.grading import grader_comparison, regrade
from premem_core.grading.built_in.gsm8k_grader import Gsm8kGrader
from premem_core.grading.built_in.paper_grader import PaperGrader
from premem_core.grading.grader import Grader
from premem_core.grading.grader_comparison import Comparison
from premem_core.grading.run_graders import AS_SCORED
from premem_core.records import Grade
from premem_core.store.database import Store
from premem_core.store.examples import example_of, read_task_examples
from premem_core.store.grades import DISAGREEMENT_COLUMNS
from tests.helpers.demo import COMPLETIONS, RUN, completions, old_store


@pytest.fixture
def store(tmp_path) -> Store:
    return old_store(tmp_path / "store")


def test_math_grades_the_demo_as_it_was_scored_but_for_one_completion_with_two_answers(store):
    grade = regrade.grade_again(store, RUN, "math")
    assert grade == COMPLETIONS
    compared = grader_comparison.compare_graders(store, RUN, AS_SCORED, "math")
    assert (compared.completions, compared.disagreements) == (COMPLETIONS, 1)
    [row] = grader_comparison.disagreements(store, RUN, AS_SCORED, "math").to_dict("records")
    assert row["completion"].endswith("The answer is 2.\n#### 22")
    assert (row["extracted_one"], row["extracted_other"], row["answer"]) == ("22", "2", "2")
    assert (row["grade_one"], row["grade_other"]) == ("INCORRECT", "CORRECT")


def test_the_grader_that_scored_a_run_is_found_in_its_own_completions_again(store):
    regrade.grade_again(store, RUN, "gsm8k")
    assert grader_comparison.compare_graders(store, RUN, AS_SCORED, "gsm8k").disagreements == 0


def test_the_disagreements_are_those_of_a_direct_computation(store):
    for grader in ("gsm8k", "paper"):
        regrade.grade_again(store, RUN, grader)
    compared = grader_comparison.compare_graders(store, RUN, "gsm8k", "paper")
    rows = grader_comparison.disagreements(store, RUN, "gsm8k", "paper")
    assert list(rows.columns) == list(DISAGREEMENT_COLUMNS)

    texts = completions(store)
    examples = pd.concat(read_task_examples(store, "demo", split) for split in ("train", "test"))
    texts = texts.merge(examples, on="example")
    graders: dict[str, Grader] = {"one": Gsm8kGrader(), "other": PaperGrader()}
    for name, made in graders.items():
        references = [made.reference(example_of(row)) for row in texts.to_dict("records")]
        graded = made.grade(texts["completion"].tolist(), references)
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
    assert compared.cross["INCORRECT"]["CORRECT"] == cross["INCORRECT"]["CORRECT"]
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


COUNTS = pd.DataFrame(
    [
        ("test", "", "CORRECT", "CORRECT", 30),
        ("train", "", "CORRECT", "CORRECT", 50),
        ("train", "", "CORRECT", "INCORRECT", 8),
        ("train", "", "UNPARSED", "CORRECT", 4),
        ("train", "", "UNPARSED", "INCORRECT", 3),
        ("train", "first", "INCORRECT", "INCORRECT", 5),
    ],
    columns=["split", "perturbation", "grade_one", "grade_other", "completions"],
)


def test_disagreements_are_counted_and_those_about_correctness_among_them():
    compared = Comparison("gsm8k", "paper", COUNTS)
    assert (compared.completions, compared.disagreements) == (100, 15)
    assert compared.about_correctness == 12
    assert compared.share == 0.15


def test_the_cross_table_has_a_row_and_a_column_for_each_grade_that_occurs():
    cross = Comparison("gsm8k", "paper", COUNTS).cross
    assert cross.index.tolist() == cross.columns.tolist() == ["CORRECT", "INCORRECT", "UNPARSED"]
    assert cross.to_numpy().tolist() == [[80, 8, 0], [0, 5, 0], [4, 3, 0]]


def test_accuracies_are_by_split_and_perturbation():
    accuracies = Comparison("gsm8k", "paper", COUNTS).accuracies
    assert accuracies[["split", "perturbation"]].to_numpy().tolist() == [
        ["test", ""],
        ["train", ""],
        ["train", "first"],
    ]
    assert accuracies["one"].tolist() == pytest.approx([1, 58 / 65, 0])
    assert accuracies["other"].tolist() == pytest.approx([1, 54 / 65, 0])


def test_a_kind_is_a_pair_of_different_grades_that_occurs():
    kinds = Comparison("gsm8k", "paper", COUNTS).kinds
    assert kinds == {
        "correct, incorrect": (Grade.CORRECT, Grade.INCORRECT),
        "unparsed, correct": (Grade.UNPARSED, Grade.CORRECT),
        "unparsed, incorrect": (Grade.UNPARSED, Grade.INCORRECT),
    }


def test_of_no_completions_the_share_is_not_known():
    nothing = Comparison("gsm8k", "paper", COUNTS.head(0))
    assert (nothing.completions, nothing.disagreements, nothing.kinds) == (0, 0, {})
    assert np.isnan(nothing.share)
