"""Pickers: controls whose choice stands in the address, by the names in the store.

Streamlit's `bind` cannot do this; `streamlit_workarounds.follow_address` says why.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from premem_core.analysis.studies.study import THRESHOLDS
from premem_core.dashboard.cached_reads import SLIDER_STEP
from premem_core.dashboard.streamlit_workarounds import follow_address, keep_in_address
from premem_core.dashboard.wording import perplexity, plain
from premem_core.metrics.estimators import ESTIMATORS, Estimator
from premem_core.metrics.thresholds import OBJECTIVES, Objective
from premem_core.records import SEGMENTS, Segment

SLIDER = THRESHOLDS


def pick_name(
    label: str,
    names: Sequence[str],
    key: str,
    *,
    default: str | None = None,
    display: Mapping[str, str] | None = None,
    **options: Any,
) -> str:
    """One of the names in the store; the address holds the name itself as `key`.

    Args:
        default: the name before the reader has chosen; None: the first one.
        display: name → the text shown for it; a name that is not a key is shown itself.
        options: further arguments of `st.selectbox`.
    """
    shown_as = display or {}
    requested = follow_address(key, lambda value: value if value in names else None)
    if st.session_state.get(key) not in names:
        kept = st.session_state.get(f"kept_{key}")
        st.session_state[key] = kept if kept in names else names[0] if default is None else default
    chosen: str = st.selectbox(
        label, names, format_func=lambda name: shown_as.get(name, name), key=key, **options
    )
    missing = [] if requested in names else [requested]
    sentence = _not_in_store(label, missing, shown_as.get(chosen, chosen))
    _note_missing(key, requested, sentence, chosen)
    keep_in_address(key, chosen, chosen)
    return chosen


def pick_names(
    label: str,
    names: Sequence[str],
    key: str,
    *,
    display: Mapping[str, str] | None = None,
    requested: list[str] | None = None,
    **options: Any,
) -> list[str]:
    """Some of the names in the store; the address holds the names themselves.

    Args:
        display: name → the text shown for it; a name that is not a key is shown itself.
        requested: the names in the address, where the control is already set.
        options: further arguments of `st.multiselect`.
    """
    if key not in st.session_state or requested is None:
        requested = _set_names(names, key)
    shown_as = display or {}
    picked: list[str] = st.multiselect(
        label, names, format_func=lambda name: shown_as.get(name, name), key=key, **options
    )
    missing = [value for value in requested or [] if value not in names]
    sentence = _not_in_store(label, missing, "the rest" if picked else "everything")
    _note_missing(key, requested, sentence, picked)
    keep_in_address(key, picked, picked)
    return picked


def pick_shown_runs(names: Sequence[str], labels: Mapping[str, str]) -> list[str]:
    """The runs that a page shows; all of them when none is chosen."""
    requested = _set_names(names, "runs")
    n = len(st.session_state["runs"]) or len(names)
    how_many = f"all {len(names)}" if n == len(names) else f"{n} of {len(names)}"
    with st.popover(f"Runs: {how_many}", width=150):
        chosen = pick_names(
            "Runs", names, "runs", display=labels, requested=requested, placeholder="all"
        )
    return [name for name in names if name in chosen] or list(names)


def _set_names(names: Sequence[str], key: str) -> list[str] | None:
    """Set a control of several names before it is drawn.

    Returns:
        The names in the address, if the control follows it; None otherwise.
    """

    def existing(values: Sequence[str]) -> list[str]:
        return [value for value in values if value in names]

    requested: list[str] | None = follow_address(key, existing, several=True)
    chosen = st.session_state.get(key, st.session_state.get(f"kept_{key}", []))
    st.session_state[key] = existing(chosen)
    return requested


def pick_estimator(default: Estimator) -> Estimator:
    """The chosen estimator; by default the one that the runs' samples are for."""
    estimator: Estimator = st.segmented_control(
        "Estimator",
        ESTIMATORS,
        default=default,
        required=True,
        key="estimator",
        bind="query-params",
        help="plain: the paper's formula. jackknife: removes most of the upward bias that a "
        "maximum over few samples has. It makes means more accurate and the PM of a single "
        "example less accurate. lu: last-unmasked accuracy, the accuracy at the last checkpoint at "
        "which an example was not memorized; one sample per example is enough for a checkpoint.",
    )
    return estimator


def pick_segment(draw: bool) -> Segment:
    """The part of a solution whose perplexity the threshold is for; by default all of it.

    Args:
        draw: whether the task has solutions with more than one part.
    """
    if not draw:
        return "target"
    segment: Segment = st.segmented_control(
        "Threshold is for",
        SEGMENTS,
        default="target",
        required=True,
        key="segment",
        bind="query-params",
        help="The part of a solution by whose perplexity it counts as memorized: the whole target, "
        "its thinking trace, or the answer after the trace.",
    )
    return segment


def pick_objective(draw: bool) -> Objective:
    """The R² that the default threshold maximizes: the one in the address, or identity.

    Args:
        draw: whether the page has the control for it; the address keeps the choice on all pages.
    """
    key, default = "objective", "identity"
    follow_address(key, lambda value: value if value in OBJECTIVES else None)
    if st.session_state.get(key) not in OBJECTIVES:
        st.session_state[key] = st.session_state.get(f"kept_{key}", default)
    if draw:
        st.segmented_control(
            "Best by R²",
            OBJECTIVES,
            required=True,
            key=key,
            help="The best threshold has the highest R² of this kind. identity: PM itself is the "
            "prediction of test accuracy. linear: the prediction is the best straight line through "
            "PM.",
        )
    objective: Objective = st.session_state[key]
    keep_in_address(key, objective, objective)
    return objective


def pick_threshold(default: float, source: tuple[str, ...]) -> float:
    """The threshold t = log log PPL from a slider, to a hundredth; the address always holds it.

    Args:
        default: the best threshold.
        source: what the default was fitted with, the task first. When it changes, a slider at the
            default moves to the new default. A threshold that the reader chose stays, unless the
            task changes.
    """
    requested = follow_address("t", _threshold)
    kept, last_source = st.session_state.get("kept_t"), st.session_state.get("t_of", source)
    if "t" not in st.session_state:
        st.session_state["t"] = default if kept is None else float(kept)
    was_default = st.session_state.get("t_is_default", True)
    other_task = last_source[0] != source[0]
    if requested is None and last_source != source and (was_default or other_task):
        st.session_state["t"] = default
    t = st.slider(
        f"Threshold: memorized below PPL {perplexity(st.session_state['t'])} (t = log log PPL)",
        *SLIDER,
        step=SLIDER_STEP,
        key="t",
        width=350,
    )
    low, high = SLIDER
    sentence = ""
    if requested is not None and _threshold(requested) is None:
        sentence = (
            f"The address asks for a threshold of '{plain(requested)}', but t must be a number "
            f"from {low} to {high}; {t:.2f} is used instead."
        )
    _note_missing("t", requested, sentence, t)
    st.session_state["t_of"] = source
    st.session_state["t_is_default"] = abs(t - default) < SLIDER_STEP / 2
    keep_in_address("t", f"{t:.2f}", t)
    return t


def _threshold(text: str) -> float | None:
    """The threshold in an address, to a hundredth; None if it is no number within the slider."""
    try:
        t = float(text)
    except ValueError:
        return None
    low, high = SLIDER
    return round(t, 2) if isfinite(t) and low <= t <= high else None


def _not_in_store(label: str, missing: Sequence[str], shown: str) -> str:
    if not missing:
        return ""
    names = ", ".join(f"'{plain(name)}'" for name in missing)
    return (
        f"The address gives {names} for “{label}”, which this store does not have; "
        f"{plain(shown)} is shown instead."
    )


def _note_missing(key: str, requested: Any, sentence: str, chosen: Any) -> None:
    """Keep a notice for `show_missing`, until the reader makes another choice.

    Args:
        sentence: the notice; "" where nothing is missing.
    """
    notices: dict[str, tuple[str, Any]] = st.session_state.setdefault("missing", {})
    if requested is not None and sentence:
        notices[key] = (sentence, chosen)
    elif requested is not None or (key in notices and notices[key][1] != chosen):
        notices.pop(key, None)


def show_missing(place: DeltaGenerator) -> None:
    """Show the notices about what the address asks for and the store does not have."""
    if notices := st.session_state.get("missing"):
        place.warning("  \n".join(sentence for sentence, _ in notices.values()))
