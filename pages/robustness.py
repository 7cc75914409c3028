"""Robustness: which answers hold when the training query is perturbed, and what foretells it."""

import streamlit as st

from premem_core.analysis import copied_text, robustness
from premem_core.analysis.robustness import Robustness
from premem_core.analysis.run_scores import RunScores
from premem_core.dashboard import cached_reads, elements, figures, pickers, wording
from premem_core.dashboard.view import pick_view
from premem_core.dashboard.wording import count, plain, signed
from premem_core.errors import PrememError
from premem_core.grading import graded_completions
from premem_core.problems.perturbations import perturbation_label
from premem_core.store.examples import read_perturbed_examples, read_task_examples

SHOWN = 1_000  # questions in the table; the numbers have them all

st.header("Robustness")
headline = st.empty()
asked: dict[str, dict[str, list[int]]] = {}


def was_perturbed(run: RunScores) -> bool:
    """Whether the run was sampled on perturbed queries; at which steps is kept in `asked`."""
    asked[run.run] = cached_reads.read(robustness.perturbed_steps, run.run)
    return bool(asked[run.run])


view = pick_view(
    "one",
    which=was_perturbed,
    otherwise="No run of this task was sampled on perturbed queries. Choose some on the Score page "
    "(of a job that is done: “Ask more of it”), or score with `--perturb`.",
)
scores, name = view.run, view.run.run
steps = sorted({step for of in asked[name].values() for step in of})
with view.controls:
    step = int(
        pickers.pick_name(
            "Checkpoint", [str(s) for s in steps], "step", default=str(steps[-1]), width=120
        )
    )
pickers.say_what_is_missing(view.notices)


def overview(step: int, found: list[Robustness]) -> None:
    """Accuracy by pre-memorization accuracy under every perturbation, and the numbers behind it."""
    table = robustness.summary(found)
    worst = table.sort_values("drop").iloc[-1]
    headline.markdown(
        f"At checkpoint {step}, **{wording.percent(worst['original'])}** of the answers to "
        f"{count(int(worst['examples']), 'training question')} are right; "
        f"{perturbation_label(worst['perturbation'])}: "
        f"**{wording.percent(worst['perturbed'])}**, a change of "
        f"{signed(-100 * worst['drop'], 1)} ± "
        f"{100 * worst['drop_half']:.1f} points."
    )
    left, right = st.columns([1, 1.1], gap="large")
    with left:
        st.subheader("Accuracy by pre-memorization accuracy")
        elements.chart(
            figures.robustness_figure(found, elements.palette()),
            "robustness",
            view.with_settings(robustness.bins(found)),
            alt="Accuracy on perturbed training queries by pre-memorization accuracy",
        )
        st.caption(
            "Training questions in bins of pre-memorization accuracy, to the nearest fifth; bars "
            "are 90 % intervals over questions. Grey: the questions as they are. "
            + view.threshold_note()
        )
    with right:
        st.subheader("By perturbation")
        elements.small_table(
            table.assign(kind=[perturbation_label(each) for each in table["perturbation"]]),
            {
                "kind": "Perturbation",
                "examples": ("Examples", "{:,}".format),
                "original": ("As it is", wording.percent),
                "perturbed": ("Perturbed", wording.percent),
                "drop": ("Lost, points", lambda drop: signed(100 * drop, 1)),
                "auroc_premem": ("AUROC of PM", lambda area: signed(area, 2)),
            },
            alt="Accuracy under every perturbation, and the area under the ROC curve",
        )
        st.caption(
            "AUROC: how well pre-memorization accuracy tells answers that hold from those that "
            "break; 0.5 is chance."
        )


def what_foretells_it(one: Robustness) -> None:
    """How well PM and simpler signals tell the answers that hold from those that do not."""
    brittle, robust = int(one.brittle.sum()), int((~one.brittle).sum())
    st.markdown(
        f"Of {count(brittle + robust, 'question')} answered right as they are, "
        f"**{brittle:,} broke**. An area of 1 tells them from the others, of 0.5 does not."
    )
    elements.chart(
        figures.auroc_figure(one.auroc, elements.palette()),
        "auroc",
        view.with_settings(one.auroc),
        alt="Area under the ROC curve of each signal, with its 90 % interval",
    )


def pick_question(task: str, name: str, step: int, one: Robustness) -> tuple[int, str, str]:
    """One of the questions, those that lost most first: its number, question and solution."""
    texts = cached_reads.read(read_task_examples, task, "train").set_index("example")
    rows = one.examples.join(texts[["id", "question", "solution"]])
    rows["lost"] = rows["train_accuracy"] - rows["perturbed_accuracy"]
    every = rows.sort_values(["lost", "premem"], ascending=[False, False], kind="stable")
    rows = every.head(SHOWN)
    percent, text = st.column_config.NumberColumn, st.column_config.TextColumn
    chosen = elements.pick_question(
        rows.assign(**100 * rows[["train_accuracy", "perturbed_accuracy", "premem"]]),
        {
            "id": text("Problem", width=85),
            "question": text("Question", width=250) if rows["question"].any() else None,
            "premem": percent("PM", format="%.0f %%", width=60),
            "train_accuracy": percent("As it is", format="%.0f %%", width=65),
            "perturbed_accuracy": percent("Perturbed", format="%.0f %%", width=75),
        },
        key=f"brittle-{name}-{step}-{one.perturbation}",
        height=330,
    )
    st.download_button(
        "Numbers as CSV",
        lambda: view.with_settings(every.drop(columns="solution")).to_csv(index=False),
        file_name=f"premem-{name}-{one.perturbation}.csv",
        mime="text/csv",
        type="tertiary",
        on_click="ignore",
    )
    notes = []
    if len(every) > SHOWN:
        notes.append(f"The first {SHOWN:,} of {len(every):,}; all are in the numbers.")
    if one.left_out:
        notes.append(f"{count(one.left_out, 'question')} left out: it does not apply to them.")
    if notes:
        st.caption(" ".join(notes))
    row = rows.iloc[chosen]
    return int(rows.index[chosen]), str(row["question"]), str(row["solution"])


def answers(
    task: str, name: str, step: int, kind: str, example: int, question: str, solution: str
) -> None:
    """What was answered to a question as it is, and perturbed."""
    perturbed = cached_reads.read(read_perturbed_examples, task, kind).set_index("example")
    now = perturbed["question"].get(example, question)
    left, right = st.columns(2, gap="large")
    for column, title, query, other, under in (
        (left, "As it is", question, now, ""),
        (right, perturbation_label(kind), now, question, kind),
    ):  # fmt: skip
        with column:
            note = (
                "; what differs is marked" if now != question else " (unchanged)" if under else ""
            )
            asked = copied_text.matched(query, other)
            elements.passages([(f"{title}: the question{note}", asked)], mark=False)
            drawn = cached_reads.drawn(name, "train", example, under, step)
            texts = []
            for answer in drawn.to_dict("records"):
                told = copied_text.copied(answer["completion"], solution)
                said = (
                    f"Completion {answer['sample'] + 1}: {graded_completions.graded(answer)}, "
                    f"{100 * copied_text.copied_share(told):.0f} % copied from the solution"
                )
                texts.append((said, told))
            elements.passages(texts)
            if not texts:
                st.caption("Its scores were imported without completions.")


try:
    found = [
        robustness.measure_robustness(
            scores,
            cached_reads.read(robustness.read_answers, name, step, perturbation),
            view.threshold,
            view.estimator,
        )
        for perturbation, at in asked[name].items()
        if step in at
    ]
except PrememError as error:
    st.error(str(error))
    st.stop()
found = [each for each in found if len(each.examples)]
if not found:
    st.info("The sampling plan left samples out of every question that was perturbed.")
    st.stop()
if notes := robustness.caveats(found):
    st.warning("  \n".join(map(plain, notes)))
overview(step, found)
kinds = {each.perturbation: each for each in found}
with elements.controls():
    kind = st.selectbox(
        "Perturbation", list(kinds), format_func=perturbation_label, key="perturbation",
        bind="query-params", width=330,
    )  # fmt: skip
left, right = st.columns([1, 1.5], gap="large")
with left:
    st.subheader("What foretells a broken answer")
    what_foretells_it(kinds[kind])
with right:
    st.subheader("Questions, broken ones first")
    picked = pick_question(view.task, name, step, kinds[kind])
answers(view.task, name, step, kind, *picked)
