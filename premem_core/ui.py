"""What pages share: the store, cached reads, the controls in the top row, number formats.

Of the core modules only this one, the forms, the jobs' panel and `folder_upload` import Streamlit.
"""

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from html import escape
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.errors import StreamlitAPIException

from premem_core import analysis, completions, curves, figures, fits, prediction
from premem_core import example_table as et
from premem_core.analysis import Analysis, Study
from premem_core.completions import Passage
from premem_core.curves import Curve, RunScores
from premem_core.errors import DataError
from premem_core.estimators import ESTIMATORS, Estimator
from premem_core.prediction import Calibration
from premem_core.store import Store
from premem_core.thresholds import OBJECTIVES, Objective, ThresholdFit

Read = TypeVar("Read")
WHAT_IT_IS = (
    "Pre-memorization accuracy (PM) is how often the model was right on its training questions "
    "*before* it began to copy their solutions; it estimates accuracy on new problems without a "
    "test set."
)
SLIDER = analysis.THRESHOLDS
SLIDER_STEP = 0.01
PICTURES = ("svg", "png")
PNG_SCALE = 3  # sharp in print
BEGINNING = 100  # characters of a text that a table has
PAPER_GSM8K = -2.3  # the paper's threshold for GSM8K


@st.cache_resource
def store() -> Store:
    """The store that this dashboard shows: $PREMEM_STORE, by default ./store."""
    return Store(Path(os.environ.get("PREMEM_STORE", "store")))


@st.cache_resource(max_entries=8, show_spinner="Reading scores…")
def _runs(path: str, version: int, task: str) -> list[RunScores]:
    return curves.read_task(store(), task)


def _chosen(path: str, version: int, task: str, names: tuple[str, ...]) -> list[RunScores]:
    return [run for run in _runs(path, version, task) if run.run in names]


class Asked(NamedTuple):
    """What a fit is of: runs of one task in a store at one version, and how it is made."""

    path: str
    version: int
    task: str
    names: tuple[str, ...]
    estimator: Estimator
    objective: Objective


@st.cache_data(max_entries=64, show_spinner=False)
def _best_threshold(of: Asked) -> ThresholdFit | None:
    runs = _chosen(of.path, of.version, of.task, of.names)
    try:
        return curves.best_threshold(runs, of.estimator, of.objective)
    except DataError:
        return None


@st.cache_resource(max_entries=16, show_spinner="Leaving runs out in turn…")
def _study(of: Asked) -> Study:
    runs = _chosen(of.path, of.version, of.task, of.names)
    return analysis.study(runs, analysis.read_baselines(store(), runs), of.estimator, of.objective)


@st.cache_resource(max_entries=64, show_spinner=False)
def _analysis(of: Asked, threshold: float) -> Analysis:
    study = _study(of)
    return analysis.analyse(study, threshold, is_best(threshold, study.fit))


@st.cache_data(max_entries=64, show_spinner=False)
def _calibration(
    path: str, version: int, task: str, names: tuple[str, ...], estimator: Estimator
) -> Calibration:
    runs = _chosen(path, version, task, names)
    return prediction.calibrate(task, runs, estimator)


@st.cache_resource(max_entries=8, show_spinner="Reading examples…")
def _described(path: str, version: int, task: str, run: str) -> pd.DataFrame:
    [scores] = _chosen(path, version, task, (run,))
    return et.described(scores, read(Store.examples, task, "train"))


@st.cache_resource(max_entries=16, show_spinner=False)
def _example_table(
    path: str, version: int, task: str, run: str, threshold: float, estimator: Estimator
) -> pd.DataFrame:
    [scores] = _chosen(path, version, task, (run,))
    described = _described(path, version, task, run)
    return et.example_table(scores, described, threshold, estimator)


@st.cache_resource(max_entries=4, show_spinner="Comparing questions…")
def _vectors(path: str, version: int, task: str) -> tuple[Any, pd.Index]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = read(Store.examples, task, "train").set_index("example")["question"]
    texts = texts[texts.str.strip() != ""]
    if texts.empty:
        return None, texts.index
    return TfidfVectorizer(sublinear_tf=True).fit_transform(texts), texts.index


@st.cache_resource(max_entries=128, show_spinner=False)
def _read(
    path: str, version: int, name: str, arguments: tuple[Any, ...], _function: Callable[..., Any]
) -> Any:
    return _function(store(), *arguments)


@st.cache_resource(max_entries=128, show_spinner=False)
def _completions(
    path: str,
    version: int,
    run: str,
    split: str,
    example: int,
    perturbation: str,
    step: int,
    _grades: Sequence[Path],
) -> pd.DataFrame:
    return completions.completions(store(), run, split, example, perturbation, step, _grades)


def key() -> tuple[str, int]:
    """The key of every cached read: which store, at which version."""
    home = store()
    return str(home.path), home.version()


def read(function: Callable[..., Read], *arguments: Any) -> Read:
    """What a function reads of the store, its first argument; kept until the store changes.

    It is shared: take parts of it, never change it.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    found: Read = _read(*key(), name, arguments, function)
    return found


def keep_choices() -> None:
    """Tell the browser again what was chosen on this page before; call before a page is drawn.

    A reader who comes back before the browser has finished the page between has it drop, a moment
    later, from the address and from the control, what that page did not show (Streamlit 1.67).
    """
    for name in list(st.query_params):
        if name in st.session_state:
            with suppress(StreamlitAPIException):  # the page between shows it too: nothing drops
                st.query_params[name] = st.query_params.get_all(name)
                st.session_state[name] = st.session_state[name]


def palette() -> figures.Palette:
    """The colours of the theme that the reader chose."""
    return figures.DARK if st.context.theme.type == "dark" else figures.LIGHT


def controls() -> AbstractContextManager[Any]:
    """The row of controls that change the whole page; wraps in a narrow window."""
    return st.container(horizontal=True, vertical_alignment="bottom", gap="small")


def pick_task() -> str | None:
    """The task in force; None when nothing is scored yet (said on the page)."""
    runs = read(Store.runs)
    tasks = sorted(runs[runs["scored"] > 0]["task"].unique())
    if not tasks:
        st.info(
            "Nothing is scored yet. Score a run on the Score page, or run `python -m premem_core "
            f"demo --store {store().path}` for the demo study."
        )
        return None
    task: str = st.selectbox("Task", tasks, key="task", bind="query-params", width=150)
    return task


def task_runs(task: str) -> list[RunScores]:
    """The scored runs of a task, ordered by learning rate, epochs and size."""
    return _runs(*key(), task)


def pick_runs(runs: Sequence[RunScores]) -> list[RunScores]:
    """Which runs a page shows; all by default, and all when none is chosen.

    The address keeps them by their labels, and they are kept from page to page. Not by `bind`: out
    of a closed popover Streamlit writes nothing to a new page's address.
    """
    labels = curves.labels(runs)
    names = {label: name for name, label in labels.items()}
    asked = st.query_params.get_all("runs")
    kept = st.session_state.get("kept_runs", [])
    if asked and asked != kept:  # by a link, or on the way back
        kept = asked
        st.session_state.pop("runs", None)
    chosen = st.session_state.get("runs", [names.get(each, each) for each in kept])
    st.session_state["runs"] = [name for name in chosen if name in labels] or list(labels)
    n = len(st.session_state["runs"])
    some = f"all {len(labels)}" if n == len(labels) else f"{n} of {len(labels)}"
    with st.popover(f"Runs: {some}", width=150):
        chosen = st.multiselect("Runs", list(labels), format_func=labels.__getitem__, key="runs")
    kept = [] if len(chosen) == len(labels) else [labels[name] for name in chosen]
    st.session_state["kept_runs"] = kept
    if kept and kept != asked:
        st.query_params["runs"] = kept
    elif asked and not kept:
        del st.query_params["runs"]
    return [run for run in runs if run.run in (chosen or labels)]


def pick_run(runs: Sequence[RunScores]) -> RunScores:
    """The run in force; the one with the most checkpoints by default."""
    labels = curves.labels(runs)
    longest = max(runs, key=lambda run: len(run.steps))
    name = st.selectbox(
        "Run",
        list(labels),
        index=list(labels).index(longest.run),
        format_func=labels.__getitem__,
        key="run",
        bind="query-params",
        width=330,
    )
    return next(run for run in runs if run.run == name)


def pick_estimator() -> Estimator:
    """The estimator in force; plain, the paper's, by default."""
    estimator: Estimator = st.segmented_control(
        "Estimator",
        ESTIMATORS,
        default="plain",
        required=True,
        key="estimator",
        bind="query-params",
        help="plain: the paper's formula. jackknife: corrects most of the upward bias that a "
        "maximum over few samples has; the mean is more accurate, one example's value less.",
    )
    return estimator


def pick_objective() -> Objective:
    """The R² that thresholds are chosen by; identity by default."""
    objective: Objective = st.segmented_control(
        "Best by R²",
        OBJECTIVES,
        default="identity",
        required=True,
        key="objective",
        bind="query-params",
        help="What the best threshold is chosen by. identity: PM comes nearest to the test "
        "accuracy itself. linear: some line through PM does.",
    )
    return objective


def lines(runs: Sequence[RunScores], threshold: float, estimator: Estimator) -> list[Curve]:
    """The runs' curves; where the estimator is not defined for one, a sentence and no page."""
    try:
        return [curves.curve(run, threshold, estimator) for run in runs]
    except DataError as error:
        st.error(str(error))
        st.stop()


def pick_threshold(
    task: str,
    runs: Sequence[RunScores],
    estimator: Estimator,
    objective: Objective = "identity",
) -> float:
    """t = log log PPL from a slider; by default the optimum over the given runs."""
    best = best_threshold(task, runs, estimator, objective)
    start = PAPER_GSM8K
    if best:
        # The samples that a plan left out are missing below its threshold, not above.
        nearest = np.ceil if best.restricted else np.round
        start = float(nearest(np.clip(best.log_log_threshold, *SLIDER) * 100)) / 100
    t = st.session_state.get("t", start)
    if "t" not in st.session_state:  # the first run of a page opened by its URL
        with suppress(ValueError):
            asked = float(st.query_params.get("t", start))
            t = asked if np.isfinite(asked) else start
    return st.slider(
        f"Memorized below perplexity {perplexity(t)} (slider: t = log log PPL)",
        *SLIDER,
        value=start,
        step=SLIDER_STEP,
        key="t",
        bind="query-params",
        width=350,
    )


def is_best(threshold: float, fit: ThresholdFit | None) -> bool:
    """Whether a threshold is the best one, as near as the slider comes."""
    return fit is not None and abs(threshold - fit.log_log_threshold) < SLIDER_STEP


def threshold_note(
    task: str,
    runs: Sequence[RunScores],
    estimator: Estimator,
    objective: Objective = "identity",
) -> str:
    """Where the best threshold of these runs lies, or why there is none."""
    best = best_threshold(task, runs, estimator, objective)
    if not best:
        return (
            f"Too few test accuracies or samples to fit t here with the {estimator} estimator; "
            f"{signed(PAPER_GSM8K, 1)} is the paper's."
        )
    t = best.log_log_threshold
    where = f"Where no sample is missing, {objective}" if best.restricted else objective.title()
    return (
        f"{where} R² ({estimator} estimator) is best at t = {signed(t)} "
        f"(perplexity {perplexity(t)}), with {signed(best.r2)}."
    )


def best_threshold(
    task: str,
    runs: Sequence[RunScores],
    estimator: Estimator,
    objective: Objective = "identity",
) -> ThresholdFit | None:
    """The exact optimum of R² over these runs; None where none can be fitted."""
    names = tuple(run.run for run in runs)
    return _best_threshold(Asked(*key(), task, names, estimator, objective))


def analysed(
    task: str,
    runs: Sequence[RunScores],
    estimator: Estimator,
    objective: Objective,
    threshold: float,
) -> Analysis:
    """The analysis of these runs; where the estimator is not defined, a sentence and no page."""
    names = tuple(run.run for run in runs)
    try:
        return _analysis(Asked(*key(), task, names, estimator, objective), threshold)
    except DataError as error:
        st.error(str(error))
        st.stop()


def calibration(task: str, runs: Sequence[RunScores], estimator: Estimator) -> Calibration:
    """`prediction.calibrate` of these runs.

    Raises:
        DataError: no threshold can be fitted to them.
    """
    return _calibration(*key(), task, tuple(run.run for run in runs), estimator)


def example_table(
    task: str, run: RunScores, threshold: float, estimator: Estimator
) -> pd.DataFrame:
    """`example_table.example_table`; where the estimator is not defined, a sentence and no page."""
    try:
        return _example_table(*key(), task, run.run, threshold, estimator)
    except DataError as error:
        st.error(str(error))
        st.stop()


def drawn(run: str, split: str, example: int, perturbation: str, step: int) -> pd.DataFrame:
    """`completions.completions` of one checkpoint."""
    grades = read(completions.regraded, run)
    return _completions(*key(), run, split, example, perturbation, step, grades)


def neighbours(task: str, example: int, n: int = 5) -> pd.Series:
    """The training examples with the most similar questions: example number → cosine."""
    vectors, numbers = _vectors(*key(), task)
    if vectors is None or example not in numbers:
        return pd.Series(dtype=float)
    near = (vectors @ vectors[numbers.get_loc(example)].T).toarray().ravel()
    return pd.Series(near, numbers).drop(example).nlargest(n)


def plain(text: object) -> str:
    """A text inside Markdown that means nothing but itself."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~$<>:&])", r"\\\1", str(text).replace("\n", " "))


def table_of(rows: pd.DataFrame, columns: list[str], beginning: int = BEGINNING) -> pd.DataFrame:
    """The columns that a table shows, long texts by their beginning: all of it is sent."""
    table = rows[columns]
    for name in {"question", "completion"}.intersection(columns):
        whole = rows[name]
        begun = whole.str.slice(0, beginning - 1) + "…"
        table = table.assign(**{name: whole.where(whole.str.len() <= beginning, begun)})
    return table


def small_table(
    rows: pd.DataFrame,
    columns: dict[str, str | tuple[str, Callable[[Any], str]]],
    alt: str,
    links: dict[str, str] | None = None,
) -> None:
    """A table of few rows that is only read: drawn at once, its cells wrapped.

    Args:
        columns: the columns shown, in order, with their titles; of numbers also how they are
            written, and they stand to the right.
        alt: what it shows, for screen readers.
        links: columns whose cells open this page anew, and the parameter that their value is of.
    """
    head, body = "", [""] * len(rows)
    for name, column in columns.items():
        title, write = (column, str) if isinstance(column, str) else column
        right = "" if isinstance(column, str) else ' class="premem-number"'
        head += f'<th scope="col"{right}>{escape(title)}</th>'
        for at, value in enumerate(rows[name]):
            cell = escape(write(value))
            if links and name in links:
                here = {key: st.query_params.get_all(key) for key in st.query_params}
                address = urlencode({**here, links[name]: value}, doseq=True)
                cell = f'<a href="?{escape(address)}" target="_self">{cell}</a>'
            body[at] += f"<td{right}>{cell}</td>"
    rest = "".join(f"<tr>{row}</tr>" for row in body)
    st.html(
        f'<div class="premem-table" tabindex="0" role="region" aria-label="{escape(alt)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rest}</tbody></table></div>"
    )


def numbers(*told: tuple[str, str, str]) -> None:
    """A few large numbers in a row, each a title, a value and a note, in one element."""
    each = [
        f"<div><dt>{escape(title)}</dt><dd>{escape(value)}</dd>"
        + (f'<dd class="premem-note">{escape(note)}</dd></div>' if note else "</div>")
        for title, value, note in told
    ]
    st.html(f'<dl class="premem-numbers">{"".join(each)}</dl>')


def pick_question(
    rows: pd.DataFrame, columns: dict[str, Any], key: str, height: int | Literal["auto"] = "auto"
) -> int:
    """A table of questions; the place of the row that is selected, which the address keeps.

    Args:
        rows: with a column `id`.
        columns: the columns shown, in order, with their configuration; None: not shown.
    """
    ids = rows["id"].tolist()
    wanted = st.query_params.get("question")
    first = ids.index(wanted) if wanted in ids else 0
    shown = {name: column for name, column in columns.items() if column is not None}
    event = st.dataframe(
        table_of(rows, list(shown), BEGINNING // 2),  # all of one stands beside it
        hide_index=True,
        height=height,
        column_config=shown,
        on_select="rerun",
        selection_mode="single-row",
        selection_default={"selection": {"rows": [first]}},
        key=key,
    )
    chosen: int = next(iter(event.selection.rows), first)
    if chosen != first:
        st.query_params["question"] = ids[chosen]
    return chosen


def verbatim(*texts: tuple[str, str]) -> None:
    """Texts as they are, never as Markdown, each under its title."""
    passages([(title, [Passage(text, marked=False)]) for title, text in texts])


def passages(
    texts: Sequence[tuple[str, Sequence[Passage]]], mark: bool = True, side_by_side: bool = False
) -> None:
    """Texts as they are, each under its title, in one element: a page may show a hundred.

    Args:
        mark: set off the passages that are marked; False: those that are not.
        side_by_side: in as many columns as there is room for.
    """
    html = []
    for title, parts in texts:
        text = "".join(
            f"<mark>{escape(p.text)}</mark>" if p.marked == mark else escape(p.text) for p in parts
        )
        html.append(
            f'<div><div class="premem-title">{escape(title)}</div>'
            f'<div class="premem-text" dir="auto">{text}</div></div>'
        )
    if html:
        columns = "premem-columns" if side_by_side else ""
        st.html(f'<div class="premem-texts {columns}">{"".join(html)}</div>')


def task_threshold(task: str) -> float | None:
    """The best threshold over a task's runs, None while none can be fitted."""
    runs = read(Store.runs)
    if not (runs[runs["task"] == task]["scored"] > 0).any():
        return None
    best = best_threshold(task, task_runs(task), "plain")
    return best.log_log_threshold if best else None


def count(n: int, noun: str) -> str:
    """'1 run', '13 runs'."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def percent(value: float, half: float | None = None) -> str:
    """'41.2 %' or '41.2 ± 1.6 %'; '–' for what is undefined."""
    if np.isnan(value):
        return "–"
    interval = "" if half is None or np.isnan(half) else f" ± {half * 100:.1f}"
    return f"{value * 100:.1f}{interval} %"


def perplexity(t: float) -> str:
    """The perplexity that t = log log PPL stands for."""
    return f"{np.exp(np.exp(t)):.4f}"


def signed(value: float, digits: int = 3) -> str:
    """A number with a real minus sign; '–' for what is undefined."""
    return "–" if np.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def interval(ends: tuple[float, float] | None) -> str:
    """'90 %: 0.882 to 0.959', or why there is none."""
    if ends is None:
        return "no interval: few runs, or samples missing"
    return f"90 %: {signed(ends[0])} to {signed(ends[1])}"


def train_r2(points: pd.DataFrame) -> str:
    """Identity R² of plain train accuracy, in the words that end a headline."""
    train = points["train_accuracy"].to_numpy()
    known = int((~np.isnan(train)).sum())
    among = "" if known == len(train) else f", known at {known} of them"
    r2 = fits.identity_r2(train, points["test_accuracy"].to_numpy())
    return f"plain train accuracy{among}: {signed(r2)}"


def best_checkpoint(shown: Sequence[Curve]) -> tuple[Curve, int] | None:
    """The checkpoint with the highest PM, and its place in its run; None where no PM is known."""
    known = [(curve, at) for curve in shown for at in np.flatnonzero(~np.isnan(curve.premem))]
    return max(known, key=lambda place: float(place[0].premem[place[1]]), default=None)


def pick_picture_format() -> None:
    """What the camera in a chart's corner saves."""
    st.segmented_control(
        "Charts saved as",
        PICTURES,
        default=PICTURES[0],
        required=True,
        key="pictures",
        format_func=str.upper,
        help="By the camera in a chart's corner.",
    )


def written(name: str, write: Callable[[Path], object]) -> bytes:
    """What a function writes to a file of this name, for a download button."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        write(file)
        return file.read_bytes()


def selected(key: str) -> Any:
    """What is selected in a chart or a table, before it is drawn; None where nothing is.

    Asked early by a page that a click leaves: what it would still draw would not be seen.
    """
    state = st.session_state.get(key)
    return state.selection if state else None


def chart(
    figure: figures.Chart, name: str, table: pd.DataFrame | None, alt: str, select: bool = False
) -> None:
    """A chart with its picture in the tool bar and its numbers as CSV below it.

    With `select`, what is clicked is what `selected` gives.
    """
    picture = st.session_state.get("pictures", PICTURES[0])
    st.plotly_chart(
        figure,
        key=f"chart-{name}",
        alt=alt,
        theme=None,  # Streamlit's would be applied, and the chart drawn, twice
        on_select="rerun" if select else "ignore",
        selection_mode="points",
        config={
            "displaylogo": False,
            "modeBarButtons": [["toImage"]],
            "toImageButtonOptions": {
                "format": picture,
                "scale": PNG_SCALE if picture == "png" else 1,
                "filename": f"premem-{name}",
            },
        },
    )
    if table is not None:
        st.download_button(
            "Numbers as CSV",
            lambda: table.to_csv(index=False),
            file_name=f"premem-{name}.csv",
            mime="text/csv",
            type="tertiary",
            key=f"csv-{name}",
            on_click="ignore",
        )
