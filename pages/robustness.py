"""Robustness: accuracy on perturbed training queries, and signals that predict wrong answers."""

import streamlit as st

from premem_core.analysis import copied_text, robustness
from premem_core.analysis.robustness import Robustness
from premem_core.analysis.run_scores import RunScores
from premem_core.dashboard import cached_reads, elements, figures, pickers, wording
from premem_core.dashboard.view import pick_view
from premem_core.dashboard.wording import count, error_in_words, plain, signed
from premem_core.errors import PrememError
from premem_core.grading import graded_completions
from premem_core.problems.perturbations import perturbation_label
from premem_core.store.examples import read_perturbed_examples, read_task_examples

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
with right:
    st.subheader("Questions, largest drop first")
    picked = pick_question(view.task, name, step, kinds[kind])
completions_section(view.task, name, step, kind, *picked)
