"""Pickers: controls whose choice the address holds by what the store calls it.

Not by Streamlit's `bind`: it writes a choice as it is displayed, leaves the default out, and shows
another option in silence where the address names one that is not there.
"""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from premem_core.analysis.study import THRESHOLDS
from premem_core.dashboard.cached_reads import SLIDER_STEP
from premem_core.dashboard.wording import perplexity, plain
from premem_core.metrics.estimators import ESTIMATORS, Estimator
from premem_core.metrics.thresholds import OBJECTIVES, Objective

SLIDER = THRESHOLDS
PAPER_GSM8K = -2.3  # the paper's threshold for GSM8K, where none can be fitted


def pick_name(
    label: str,
    names: Sequence[str],
    key: str,
    *,
    default: str | None = None,
    display: Mapping[str, str] | None = None,
    **options: Any,
) -> str:
    """One of the names the store has; the address holds the name itself as `key`.

    Args:
        default: without a choice; None: the first.
        display: what a name is shown as; itself where it is not in there.
        options: further arguments of `st.selectbox`.
    """
    shown_as = display or {}
    asked = _follow_address(key, lambda value: value if value in names else None)
    if st.session_state.get(key) not in names:
        kept = st.session_state.get(f"kept_{key}")
        st.session_state[key] = kept if kept in names else names[0] if default is None else default
    chosen: str = st.selectbox(
        label, names, format_func=lambda name: shown_as.get(name, name), key=key, **options
    )
    missing = [] if asked in names else [asked]
    _say_missing(key, asked, _not_in_store(label, missing, shown_as.get(chosen, chosen)), chosen)
    _keep(key, chosen, chosen)
    return chosen


def pick_names(
    label: str,
    names: Sequence[str],
    key: str,
    *,
    display: Mapping[str, str] | None = None,
    asked: list[str] | None = None,
    **options: Any,
) -> list[str]:
    """Some of the names the store has; the address holds the names themselves.

    Args:
        asked: what the address asked for, where the control is set already.
        options: further arguments of `st.multiselect`.
    """
    if key not in st.session_state or asked is None:
        asked = _set_names(names, key)
    shown_as = display or {}
    picked: list[str] = st.multiselect(
        label, names, format_func=lambda name: shown_as.get(name, name), key=key, **options
    )
    missing = [value for value in asked or [] if value not in names]
    sentence = _not_in_store(label, missing, "the rest" if picked else "all there are")
    _say_missing(key, asked, sentence, picked)
    _keep(key, picked, picked)
    return picked


def pick_shown_runs(names: Sequence[str], labels: Mapping[str, str]) -> list[str]:
    """Which runs a page shows; all when none is chosen."""
    asked = _set_names(names, "runs")
    n = len(st.session_state["runs"]) or len(names)
    some = f"all {len(names)}" if n == len(names) else f"{n} of {len(names)}"
    with st.popover(f"Runs: {some}", width=150):
        chosen = pick_names("Runs", names, "runs", display=labels, asked=asked, placeholder="all")
    return [name for name in names if name in chosen] or list(names)


def _set_names(names: Sequence[str], key: str) -> list[str] | None:
    """Set a control of several names before it is drawn; what the address asks for, if it does."""

    def there(values: Sequence[str]) -> list[str]:
        return [value for value in values if value in names]

    asked: list[str] | None = _follow_address(key, there, several=True)
    chosen = st.session_state.get(key, st.session_state.get(f"kept_{key}", []))
    st.session_state[key] = there(chosen)
    return asked


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
    """The R² that the default threshold is chosen by; identity by default."""
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
    st.session_state["kept_objective"] = objective
    return objective


def objective_in_force() -> Objective:
    """The objective that was chosen on the page of fits; other pages have no control for it."""
    kept = st.session_state.get("kept_objective", st.query_params.get("objective"))
    return "linear" if kept == "linear" else "identity"


def pick_threshold(default: float, of: tuple[str, ...]) -> float:
    """t = log log PPL from a slider, to a hundredth; the address always holds it.

    Args:
        default: the best threshold of what is looked at.
        of: what that default belongs to, the task first. When it changes, a threshold that was the
            default stays the default; one that the reader chose stays too, within its task.
    """
    asked = _follow_address("t", _threshold)
    kept, was_of = st.session_state.get("kept_t"), st.session_state.get("t_of", of)
    if "t" not in st.session_state:
        st.session_state["t"] = default if kept is None else float(kept)
    was_default = st.session_state.get("t_is_default", True)
    if asked is None and was_of != of and (was_default or was_of[0] != of[0]):
        st.session_state["t"] = default
    t = st.slider(
        f"Memorized below perplexity {perplexity(st.session_state['t'])} (slider: t = log log PPL)",
        *SLIDER,
        step=SLIDER_STEP,
        key="t",
        width=350,
    )
    low, high = SLIDER
    wrong = asked is not None and _threshold(asked) is None
    sentence = f"The address asks for a threshold of '{plain(asked)}', but t must be a number from "
    _say_missing("t", asked, f"{sentence}{low} to {high}; {t:.2f} is used." if wrong else "", t)
    st.session_state["t_of"] = of
    st.session_state["t_is_default"] = abs(t - default) < SLIDER_STEP / 2
    _keep("t", f"{t:.2f}", t)
    return t


def _threshold(text: str) -> float | None:
    """The number in an address, to a hundredth; None where it is none that the slider holds."""
    try:
        t = float(text)
    except ValueError:
        return None
    low, high = SLIDER
    return round(t, 2) if isfinite(t) and low <= t <= high else None


def _follow_address(key: str, read: Callable[[Any], Any], several: bool = False) -> Any:
    """Set a control to what the address asks for, when a link or the way back brought the reader.

    What the reader has just chosen on the control itself comes before the address, which follows
    only when the page is drawn. Gives what the address asks for in that case, None otherwise.
    """
    state, address = st.session_state, st.query_params
    asked: Any = address.get_all(key) if several else address.get(key)
    changed = key in state and state[key] != state.get(f"chosen_{key}", state[key])
    if not asked or asked == state.get(f"kept_{key}") or changed:
        return None
    found = read(asked)
    if found is not None:
        state[key] = found
    else:
        state.pop(key, None)
    return asked


def _keep(key: str, written: Any, chosen: Any) -> None:
    """Hold a choice, for the other pages and in the address; no names stand for all of them."""
    st.session_state[f"kept_{key}"], st.session_state[f"chosen_{key}"] = written, chosen
    several = isinstance(written, list)
    there: Any = st.query_params.get_all(key) if several else st.query_params.get(key)
    if written and written != there:
        st.query_params[key] = written
    elif several and there and not written:
        del st.query_params[key]


def _not_in_store(label: str, missing: Sequence[str], shown: str) -> str:
    if not missing:
        return ""
    names = ", ".join(f"'{plain(name)}'" for name in missing)
    return (
        f"The address asks for {names} as “{label}”, which this store does not have; "
        f"{plain(shown)} is shown."
    )


def _say_missing(key: str, asked: Any, sentence: str, chosen: Any) -> None:
    """Remember what the address asked for in vain; `say_what_is_missing` says it.

    It is said until another choice is made.
    """
    notices: dict[str, tuple[str, Any]] = st.session_state.setdefault("missing", {})
    if asked is not None and sentence:
        notices[key] = (sentence, chosen)
    elif asked is not None or (key in notices and notices[key][1] != chosen):
        notices.pop(key, None)


def say_what_is_missing(place: DeltaGenerator) -> None:
    """Say, in an empty place, what the address asked for and the store does not have."""
    if notices := st.session_state.get("missing"):
        place.warning("  \n".join(sentence for sentence, _ in notices.values()))
