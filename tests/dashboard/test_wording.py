"""How pages write numbers and texts."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from premem_core.analysis import curves
from premem_core.dashboard import wording
from premem_core.installation import PACKAGE
from premem_core.metrics.r2 import identity_r2
from tests.helpers import simulated
from tests.helpers.paths import PAGES


@given(st.text())
def test_escaped_text_shows_each_character_as_it_is(text):
    escaped = wording.plain(text)
    shown = text.replace("\n", " ")
    assert escaped.replace("\\", "") == shown.replace("\\", "")
    for character in "*_`[]#$<|~":
        assert escaped.count(f"\\{character}") >= shown.count(character)


def test_an_error_names_the_controls_of_the_page_but_leaves_commands_as_they_are():
    def said(text: str) -> str:
        return wording.error_in_words(text, wording.SCORE_CONTROLS).replace("\\", "")

    assert said("choose --chat or --plain") == "choose “Chat template” or “Plain text”"
    assert said("name them (--question, --solution)") == "name them (“Question”, “Solution”)"
    for command in ("`premem grade --grader 'x'`", "run regrade with --grader math", "(--resume)"):
        assert said(command) == command
    assert wording.error_in_words("(--run)") == wording.plain("(--run)")


def test_the_controls_that_errors_name_are_on_the_score_page():
    files = [*(PACKAGE / "dashboard").glob("*_form.py"), PAGES / "score.py"]
    source = "".join(file.read_text() for file in files)
    for label in wording.SCORE_CONTROLS.values():
        assert f'"{label}' in source, label


@pytest.mark.parametrize(
    ("n", "words"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs"), (12345, "12,345 runs")]
)
def test_a_number_of_things_has_their_plural(n, words):
    assert wording.count(n, "run") == words


def test_a_percentage_has_one_digit_and_its_half_width_where_that_is_known():
    assert wording.percent(0.4123) == "41.2 %"
    assert wording.percent(0.4123, 0.0164) == "41.2 ± 1.6 %"
    assert wording.percent(0.4123, np.nan) == "41.2 %"
    assert wording.percent(np.nan, 0.1) == "–"


def test_a_negative_number_has_a_minus_and_no_hyphen():
    assert wording.signed(-1.23456) == "−1.235"
    assert wording.signed(1.5, 1) == "1.5"
    assert wording.signed(np.nan) == "–"


def test_a_threshold_is_written_as_the_perplexity_it_stands_for():
    assert wording.perplexity(np.log(np.log(1.5))) == "1.5000"


def test_an_interval_is_written_with_its_ends_or_with_why_there_is_none():
    assert wording.interval((-0.1, 0.9593)) == "90 % interval −0.100 to 0.959"
    assert wording.interval(None) == "no interval: too few runs, or missing samples"


@pytest.fixture(scope="module")
def points():
    runs, _ = simulated.study(3, seed=1)
    return curves.weighted_points([curves.curve(run, -2.3) for run in runs])


def test_the_words_about_a_fit_have_the_r2_of_both_predictors(points):
    shown = wording.fit_in_words(points, "plain", "90 % interval 0.1 to 0.9")
    premem, train = (
        identity_r2(points[name].to_numpy(), points["test_accuracy"].to_numpy())
        for name in ("premem", "train_accuracy")
    )
    assert "Over 15 checkpoints of 3 runs" in shown
    assert f"**{wording.signed(premem)}** (90 % interval 0.1 to 0.9; plain estimator)" in shown
    assert wording.signed(train) in shown


def test_checkpoints_where_something_is_not_known_are_not_counted_and_said(points):
    partial = points.assign(
        premem=points["premem"].where(points["step"] > 1),
        train_accuracy=points["train_accuracy"].where(points["step"] > 2),
    )
    shown = wording.fit_in_words(partial, "plain")
    assert "Over 12 checkpoints of 3 runs" in shown
    assert "(known at 9 of them)" in shown


def test_of_one_run_no_r2_is_given(points):
    shown = wording.fit_in_words(points[points["run"] == "run 0"], "plain")
    assert "5 checkpoints of 1 run" in shown
    assert "several runs only" in shown
    assert "**" not in shown
    nothing = pd.DataFrame(columns=points.columns)
    assert "0 checkpoints of 0 runs" in wording.fit_in_words(nothing, "plain")
