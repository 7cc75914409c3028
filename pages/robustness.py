"""Robustness: which answers hold when the training query is perturbed, and what foretells it."""

import streamlit as st

from premem_core import completions, figures, robustness, ui
from premem_core.errors import PrememError
from premem_core.perturbations import label
from premem_core.robustness import Robustness
from premem_core.store import Store

SHOWN = 1_000  # questions in the table; the numbers have them all

st.header("Robustness")
headline = st.empty()
with ui.controls():
    task = ui.pick_task()
    if task is None:
        st.stop()
    everything = ui.task_runs(task)
    steps_of = {run.run: ui.read(robustness.perturbed_steps, run.run) for run in everything}
    asked = {run: at for run, at in steps_of.items() if at}
    if not asked:
        st.info(
            "No run of this task was asked perturbed queries. Choose some on the Score page (of a "
            "job that is done: “Ask more of it”), or score with `--perturb`."
        )
        st.stop()
    name = ui.pick_run([run for run in everything if run.run in asked]).run
    steps = sorted({step for of in asked[name].values() for step in of})
    step: int = st.selectbox(
        "Checkpoint", steps, index=len(steps) - 1, key="step", bind="query-params", width=120
    )
    estimator = ui.pick_estimator()
    threshold = ui.pick_threshold(task, everything, estimator)
scores = next(run for run in everything if run.run == name)


def overview(task: str, step: int, found: list[Robustness]) -> None:
    """Accuracy by pre-memorization accuracy under every perturbation, and the numbers behind it."""
    table = robustness.summary(found)
    worst = table.sort_values("drop").iloc[-1]
    headline.markdown(
        f"At checkpoint {step}, **{ui.percent(worst['original'])}** of the answers to "
        f"{ui.count(int(worst['examples']), 'training question')} are right; "
        f"{label(worst['perturbation'])}: "
        f"**{ui.percent(worst['perturbed'])}**, a change of {ui.signed(-100 * worst['drop'], 1)} ± "
        f"{100 * worst['drop_half']:.1f} points."
    )
    left, right = st.columns([1, 1.1], gap="large")
    with left:
        st.subheader("Accuracy by pre-memorization accuracy")
        ui.chart(
            figures.robustness_figure(found, ui.palette()),
            "robustness",
            robustness.bins(found),
            alt="Accuracy on perturbed training queries by pre-memorization accuracy",
        )
        st.caption(
            "Training questions in bins of pre-memorization accuracy, to the nearest fifth; bars "
            "are 90 % intervals over questions. Grey: the questions as they are. "
            + ui.threshold_note(task, everything, estimator)
        )
    with right:
        st.subheader("By perturbation")
        ui.small_table(
            table.assign(kind=[label(each) for each in table["perturbation"]]),
            {
                "kind": "Perturbation",
                "examples": ("Examples", "{:,}".format),
                "original": ("As it is", ui.percent),
                "perturbed": ("Perturbed", ui.percent),
                "drop": ("Lost, points", lambda drop: ui.signed(100 * drop, 1)),
                "auroc_premem": ("AUROC of PM", lambda area: ui.signed(area, 2)),
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
        f"Of {ui.count(brittle + robust, 'question')} answered right as they are, "
        f"**{brittle:,} broke**. An area of 1 tells them from the others, of 0.5 does not."
    )
    ui.chart(
        figures.auroc_figure(one.auroc, ui.palette()),
        "auroc",
        one.auroc,
        alt="Area under the ROC curve of each signal, with its 90 % interval",
    )


def pick_question(task: str, name: str, step: int, one: Robustness) -> tuple[int, str, str]:
    """One of the questions, those that lost most first: its number, question and solution."""
    texts = ui.read(Store.examples, task, "train").set_index("example")
    rows = one.examples.join(texts[["id", "question", "solution"]])
    rows["lost"] = rows["train_accuracy"] - rows["perturbed_accuracy"]
    every = rows.sort_values(["lost", "premem"], ascending=[False, False], kind="stable")
    rows = every.head(SHOWN)
    percent, text = st.column_config.NumberColumn, st.column_config.TextColumn
    chosen = ui.pick_question(
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
        lambda: every.drop(columns="solution").to_csv(index=False),
        file_name=f"premem-{name}-{one.perturbation}.csv",
        mime="text/csv",
        type="tertiary",
        on_click="ignore",
    )
    notes = []
    if len(every) > SHOWN:
        notes.append(f"The first {SHOWN:,} of {len(every):,}; all are in the numbers.")
    if one.left_out:
        notes.append(f"{ui.count(one.left_out, 'question')} left out: it does not apply to them.")
    if notes:
        st.caption(" ".join(notes))
    row = rows.iloc[chosen]
    return int(rows.index[chosen]), str(row["question"]), str(row["solution"])


def answers(
    task: str, name: str, step: int, kind: str, example: int, question: str, solution: str
) -> None:
    """What was answered to a question as it is, and perturbed."""
    perturbed = ui.read(Store.perturbed, task, kind).set_index("example")
    now = perturbed["question"].get(example, question)
    left, right = st.columns(2, gap="large")
    for column, title, query, other, under in (
        (left, "As it is", question, now, ""),
        (right, label(kind), now, question, kind),
    ):  # fmt: skip
        with column:
            note = (
                "; what differs is marked" if now != question else " (unchanged)" if under else ""
            )
            asked = completions.matched(query, other)
            ui.passages([(f"{title}: the question{note}", asked)], mark=False)
            drawn = ui.drawn(name, "train", example, under, step)
            texts = []
            for answer in drawn.to_dict("records"):
                told = completions.copied(answer["completion"], solution)
                said = (
                    f"Completion {answer['sample'] + 1}: {completions.graded(answer)}, "
                    f"{100 * completions.copied_share(told):.0f} % copied from the solution"
                )
                texts.append((said, told))
            ui.passages(texts)
            if not texts:
                st.caption("Its scores were imported without completions.")


try:
    found = [
        robustness.robustness(
            scores,
            ui.read(robustness.read_answers, name, step, perturbation),
            threshold,
            estimator,
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
    st.warning("  \n".join(map(ui.plain, notes)))
overview(task, step, found)
kinds = {each.perturbation: each for each in found}
with ui.controls():
    kind = st.selectbox(
        "Perturbation", list(kinds), format_func=label, key="perturbation",
        bind="query-params", width=330,
    )  # fmt: skip
left, right = st.columns([1, 1.5], gap="large")
with left:
    st.subheader("What foretells a broken answer")
    what_foretells_it(kinds[kind])
with right:
    st.subheader("Questions, broken ones first")
    picked = pick_question(task, name, step, kinds[kind])
answers(task, name, step, kind, *picked)
