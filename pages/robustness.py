"""Robustness: accuracy on perturbed training queries, and signals that predict wrong answers."""

import streamlit as st

from premem_core.analysis import copied_text
from premem_core.analysis.perturbed import mixed_model, robustness
from premem_core.analysis.perturbed.robustness import Robustness
from premem_core.analysis.run_scores import RunScores
from premem_core.dashboard import cached_reads, elements, figures, pickers, wording
from premem_core.dashboard.view import pick_view
from premem_core.dashboard.wording import count, error_in_words, plain, signed
from premem_core.errors import PrememError
from premem_core.grading import graded_completions
from premem_core.problems.perturbations import perturbation_label
from premem_core.store.examples import read_perturbed_examples, read_task_examples

MIXED_MODEL = (
    "correct ~ perturbed × memorized + size of the numbers, with a random intercept per question. "
    "It takes some seconds per thousand questions."
)
SHOWN = 1_000  # questions in the table; the CSV file has them all

st.header("Robustness")
headline = st.empty()


def has_perturbed_samples(run: RunScores) -> bool:
    """Whether the run has samples of perturbed queries."""
    return bool(cached_reads.read(robustness.perturbed_steps, run.run))


view = pick_view(
    "one",
    eligible=has_perturbed_samples,
    if_none="No run of this task has samples of perturbed queries. Choose perturbations on the "
    "Score page (for a job that is done: “Extend”), or score with `--perturb`.",
)
scores, name = view.run, view.run.run
perturbed_steps = cached_reads.read(robustness.perturbed_steps, name)
steps = sorted({step for sampled in perturbed_steps.values() for step in sampled})
with view.controls:
    step = int(
        pickers.pick_name(
            "Checkpoint", [str(s) for s in steps], "step", default=str(steps[-1]), width=120
        )
    )
pickers.show_missing(view.notices)


def overview(step: int, results: list[Robustness]) -> None:
    """Accuracy by pre-memorization accuracy under every perturbation, and the numbers behind it."""
    table = robustness.summary(results)
    worst = table.sort_values("drop").iloc[-1]
    headline.markdown(
        f"At checkpoint {step}, **{wording.percent(worst['original'])}** of the answers to "
        f"{count(int(worst['examples']), 'training question')} are correct. Under the worst "
        f"perturbation ({plain(perturbation_label(worst['perturbation']))}), "
        f"**{wording.percent(worst['perturbed'])}** are: a change of "
        f"{signed(-100 * worst['drop'], 1)} ± "
        f"{100 * worst['drop_half']:.1f} points."
    )
    left, right = st.columns([1, 1.1], gap="large")
    with left:
        st.subheader("Accuracy by pre-memorization accuracy")
        elements.chart(
            figures.robustness_figure(results, elements.palette()),
            "robustness",
            view.with_settings(robustness.bins(results)),
            alt="Accuracy on perturbed training queries by pre-memorization accuracy",
        )
        st.caption(
            "Training questions are grouped by pre-memorization accuracy, to the nearest fifth; "
            "bars are 90 % intervals over questions. Grey: the original queries. "
            + view.threshold_note()
        )
    with right:
        st.subheader("By perturbation")
        elements.small_table(
            table.assign(kind=[perturbation_label(kind) for kind in table["perturbation"]]),
            {
                "kind": "Perturbation",
                "examples": ("Examples", "{:,}".format),
                "original": ("Original", wording.percent),
                "perturbed": ("Perturbed", wording.percent),
                "drop": ("Drop, points", lambda drop: signed(100 * drop, 1)),
                "auroc_premem": ("AUROC of PM", lambda area: signed(area, 2)),
            },
            alt="Accuracy under every perturbation, and the area under the ROC curve",
        )
        st.caption(
            "AUROC: how well pre-memorization accuracy separates answers that stay right from "
            "those that become wrong; 1 is perfect, 0.5 is chance."
        )


def controls_section(results: list[Robustness]) -> None:
    """What each perturbation costs on test questions and before anything was copied."""
    table = robustness.summary(results)
    early_step = results[0].controls.early_step
    columns: elements.Columns = {"kind": "Perturbation", "lost": ("Training questions", str)}
    if tested := table["test_lost"].notna().any():
        columns |= {
            "test_lost": ("Test questions", str),
            "beyond_test_lost": ("Difference", str),
        }
    if early := table["early_lost"].notna().any():
        columns |= {
            "early_lost": (f"Training questions at step {early_step}", str),
            "beyond_early_lost": ("Difference to these", str),
        }
    columns["limem"] = ("LiMem", str)
    written = {
        name: [
            wording.points(value, half)
            for value, half in zip(table[name], table[f"{name}_half"], strict=True)
        ]
        for name in columns.keys() - {"kind"}
    }
    st.subheader("What the perturbation itself costs")
    elements.small_table(
        table.assign(kind=[perturbation_label(n) for n in table["perturbation"]], **written),
        columns,
        alt="Right answers that are lost on training questions, on test questions, and at the "
        "first checkpoint",
    )
    missing = ""
    if early_step is None:
        missing = " Controls belong to a later checkpoint."
    elif not (tested or early):
        missing = (
            " No control is sampled yet: `premem jobs extend RUN --perturb-controls` asks test "
            "questions, and the training questions at the first checkpoint, under the same "
            "perturbations."
        )
    st.caption(
        "Right answers that are lost, in percent of those without the perturbation, ± half of the "
        "90 % interval over questions. A perturbation may make a question harder for any model: "
        "copied solutions show in what training questions lose more than test questions do, or "
        "more than they did at the first checkpoint. LiMem: how often, in percent, an answer is "
        f"right and that to the perturbed question is wrong (arXiv 2410.23123).{missing}"
    )
    st.download_button(
        "Numbers as CSV",
        lambda: view.with_settings(table).to_csv(index=False),
        file_name=f"premem-{name}-controls.csv",
        mime="text/csv",
        type="tertiary",
        key="csv-controls",
        on_click="ignore",
    )


def mixed_model_section(task: str, result: Robustness) -> None:
    """The mixed model of the answers under one perturbation, once someone asks for it."""
    if not st.toggle("Fit a mixed model", key="mixed-model", help=MIXED_MODEL):
        return
    texts = cached_reads.read(mixed_model.read_texts, task, result.perturbation)
    try:
        with st.spinner("Fitting…"):
            model = mixed_model.fit_mixed_model(result, texts)
    except PrememError as error:
        st.info(error_in_words(error))
        return
    elements.small_table(
        model.coefficients,
        {
            "label": "Term",
            "value": ("Accuracy, points", lambda value: signed(100 * value, 1)),
            "low": ("from", lambda value: signed(100 * value, 1)),
            "high": ("to", lambda value: signed(100 * value, 1)),
        },
        alt="Coefficients of the mixed model with their 90 % intervals",
    )
    st.caption(
        f"Over {model.questions:,} questions, {model.memorized:,} of them memorized. “perturbed × "
        "memorized” is how much more the perturbation changes the accuracy where the solution is "
        "memorized: below 0, copied answers break more. Intervals: 90 %, clustered by question. "
        f"{model.note}"
    )


def signals_section(result: Robustness) -> None:
    """How well PM and simpler signals predict which right answers become wrong."""
    brittle, robust = int(result.brittle.sum()), int((~result.brittle).sum())
    st.markdown(
        f"Of {count(brittle + robust, 'question')} answered right in the original form, "
        f"**{brittle:,} became wrong**. An area of 1 separates them from the others perfectly; 0.5 "
        "is chance."
    )
    elements.chart(
        figures.auroc_figure(result.auroc, elements.palette()),
        "auroc",
        view.with_settings(result.auroc),
        alt="Area under the ROC curve of each signal, with its 90 % interval",
    )


def pick_question(task: str, name: str, step: int, result: Robustness) -> tuple[int, str, str]:
    """A table of questions; returns number, question and solution of the selected one."""
    texts = cached_reads.read(read_task_examples, task, "train").set_index("example")
    examples = result.examples.join(texts[["id", "question", "solution"]])
    all_rows = robustness.sort_by_drop(examples)
    rows = all_rows.head(SHOWN)
    percent, text = st.column_config.NumberColumn, st.column_config.TextColumn
    chosen = elements.pick_question(
        rows.assign(**100 * rows[["train_accuracy", "perturbed_accuracy", "premem"]]),
        {
            "id": text("Example", width=85),
            "question": text("Question", width=250) if rows["question"].any() else None,
            "premem": percent("PM", format="%.0f %%", width=60),
            "train_accuracy": percent("Original", format="%.0f %%", width=65),
            "perturbed_accuracy": percent("Perturbed", format="%.0f %%", width=75),
        },
        key=f"brittle-{name}-{step}-{result.perturbation}",
        height=330,
    )
    st.download_button(
        "Numbers as CSV",
        lambda: view.with_settings(all_rows.drop(columns="solution")).to_csv(index=False),
        file_name=f"premem-{name}-{result.perturbation}.csv",
        mime="text/csv",
        type="tertiary",
        on_click="ignore",
    )
    notes = []
    if len(all_rows) > SHOWN:
        notes.append(f"The first {SHOWN:,} of {len(all_rows):,}; the CSV file has them all.")
    if result.left_out:
        notes.append(
            f"{count(result.left_out, 'question')} left out: the perturbation does not apply."
        )
    if notes:
        st.caption(" ".join(notes))
    row = rows.iloc[chosen]
    return int(rows.index[chosen]), str(row["question"]), str(row["solution"])


def completions_section(
    task: str, name: str, step: int, kind: str, example: int, question: str, solution: str
) -> None:
    """The completions of a question in the original form and under the perturbation."""
    perturbed = cached_reads.read(read_perturbed_examples, task, kind).set_index("example")
    perturbed_question = perturbed["question"].get(example, question)
    left, right = st.columns(2, gap="large")
    for column, title, shown, reference, perturbation in (
        (left, "Original", question, perturbed_question, ""),
        (right, perturbation_label(kind), perturbed_question, question, kind),
    ):  # fmt: skip
        with column:
            if perturbed_question != question:
                note = ", changes are marked"
            else:
                note = " (unchanged)" if perturbation else ""
            marked = copied_text.mark_matches(shown, reference)
            elements.passages([(f"{title}: the question{note}", marked)], mark=False)
            completions = cached_reads.completions(name, "train", example, perturbation, step)
            texts = []
            for completion in completions.to_dict("records"):
                marked = copied_text.mark_copied(completion["completion"], solution)
                grade = graded_completions.grade_label(completion)
                heading = (
                    f"Completion {completion['sample'] + 1}: {grade}, "
                    f"{100 * copied_text.copied_share(marked):.0f} % copied from the solution"
                )
                texts.append((heading, marked))
            elements.passages(texts)
            if not texts:
                st.caption("The scores were imported without completions.")


try:
    measured = [
        robustness.measure_robustness(
            scores,
            cached_reads.read(robustness.read_answers, name, step, perturbation),
            view.threshold,
            view.estimator,
        )
        for perturbation, sampled in perturbed_steps.items()
        if step in sampled
    ]
except PrememError as error:
    st.error(error_in_words(error))
    st.stop()
results = [result for result in measured if len(result.examples)]
if not results:
    st.info("The sampling plan left out samples of every perturbed question.")
    st.stop()
if notes := robustness.caveats(results):
    st.warning("  \n".join(map(plain, notes)))
overview(step, results)
controls_section(results)
kinds = {result.perturbation: result for result in results}
with elements.controls():
    kind = st.selectbox(
        "Perturbation", list(kinds), format_func=perturbation_label, key="perturbation",
        bind="query-params", width=330,
    )  # fmt: skip
left, right = st.columns([1, 1.5], gap="large")
with left:
    st.subheader("What predicts a wrong answer")
    signals_section(kinds[kind])
    mixed_model_section(view.task, kinds[kind])
with right:
    st.subheader("Questions, largest drop first")
    picked = pick_question(view.task, name, step, kinds[kind])
completions_section(view.task, name, step, kind, *picked)
