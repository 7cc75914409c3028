"""The jobs of a store as the score page shows them: where each stands, what can be done with it."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta

import pandas as pd
import streamlit as st

from premem_core.analysis.curves import Curve
from premem_core.dashboard.cached_reads import plan_threshold, read, store
from premem_core.dashboard.score_form import PLAN_NAMES
from premem_core.dashboard.wording import PERTURB_CONTROLS, count, error_in_words, plain
from premem_core.errors import InstallationError, JobError, PrememError
from premem_core.problems.perturbations import KINDS, perturbation_label
from premem_core.scoring import job_files, jobs
from premem_core.scoring.progress import Progress, checkpoint_name
from premem_core.store.runs import read_runs

ROWS = 8  # of checkpoints in sight; a longer table scrolls
ROW_HEIGHT = 35


def jobs_panel() -> None:
    """Every job and where it stands; looks again each second while one is running."""
    st.subheader("Jobs")
    running = any(p.state in ("queued", "running") for p in jobs.all_job_progress(store()))
    st.fragment(_jobs_list, run_every="1s" if running else None)()


def offer_missing(curves: Sequence[Curve]) -> None:
    """Where a plan left out samples that the threshold in force needs: a button to draw them."""
    jobs_of = {progress.run for progress in jobs.all_job_progress(store())}
    lacking = [c for c in curves if c.unknown.any() and c.scores.run in jobs_of]
    if not lacking:
        return
    most = sum(c.missing.at_most for c in lacking)
    st.button(
        f"Draw the missing samples ({count(len(lacking), 'run')}, at most {most:,} completions)",
        on_click=_draw_missing,
        args=[lacking],
    )


def _draw_missing(curves: Sequence[Curve]) -> None:
    for c in curves:
        try:
            jobs.extend_job(
                store(),
                c.scores.run,
                plan="last" if c.estimator == "lu" else "lazy",
                log_log_threshold=c.log_log_threshold,
            )
            jobs.start_job(store(), c.scores.run)
        except PrememError as error:
            st.toast(error_in_words(error))
        else:
            st.toast(f"{plain(c.scores.run)} draws what is missing; watch it on the Score page.")


def _jobs_list() -> None:
    found = jobs.all_job_progress(store())
    if not found:
        st.caption("No job yet.")
    for progress in found:
        _job(progress)


def _job(progress: Progress) -> None:
    with st.container(border=True, key=f"job-{progress.run}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.text(f"{progress.run}: {progress.state}", width="stretch")
            _actions(progress)
        done, total = progress.completions_done, progress.completions_total
        st.progress(done / total if total else 0.0)
        st.caption(" · ".join(part for part in _figures(progress) if part))
        if progress.message and not any(row.reason for row in progress.checkpoints):
            st.text(progress.message)
        if progress.checkpoints:
            with st.expander("Checkpoints", expanded=progress.state != "done"):
                _checkpoints(progress)
        if progress.state in ("failed", "interrupted"):
            with st.expander("What its process printed"):
                st.code(jobs.log_tail(store(), progress.run), language=None, wrap_lines=True)


def _figures(progress: Progress) -> list[str]:
    left = progress.seconds_left
    saved = progress.completions_saved
    return [
        f"{progress.completions_done:,} of {progress.completions_total:,} completions",
        f"{saved:,} fewer than all samples of all problems" if saved else "",
        f"{progress.completions_per_second:,.0f} per second" if left is not None else "",
        f"{timedelta(seconds=round(left))} left" if left is not None else "",
    ]


def _checkpoints(progress: Progress) -> None:
    table = pd.DataFrame([asdict(row) for row in progress.checkpoints])
    table["share"] = 100 * table["completions_done"] / table["completions_total"]
    st.dataframe(
        table[["step", "state", "share", "completions_done", "completions_total"]],
        hide_index=True,
        height=ROW_HEIGHT * (min(len(table), ROWS) + 1) + 3,
        column_config={
            "step": st.column_config.NumberColumn("Checkpoint", format="%d", width="small"),
            "state": st.column_config.TextColumn("State", width="medium"),
            "share": st.column_config.ProgressColumn(
                "Progress", format="%.0f %%", min_value=0, max_value=100, width="medium"
            ),
            "completions_done": st.column_config.NumberColumn("Completions", format="localized"),
            "completions_total": st.column_config.NumberColumn("of at most", format="localized"),
        },
    )
    for row in progress.checkpoints:
        if row.reason:
            st.text(f"{checkpoint_name(row.step).capitalize()} failed: {row.reason}")


def _actions(progress: Progress) -> None:
    run = progress.run
    if progress.state in ("running", "queued"):
        st.button("Cancel", key=f"cancel-{run}", on_click=_cancel, args=[run])
        return
    if progress.state != "done":
        st.button("Resume", key=f"resume-{run}", type="primary", on_click=_start, args=[run])
    with st.popover("Extend", key=f"more-{run}"):
        _more(run)


def _more(run: str) -> None:
    """More samples, another plan, perturbed queries: only what is missing is done."""
    spec = job_files.read_job_spec(store(), run)
    value, source = spec.log_log_threshold, "The threshold of this job's plan."
    if value is None:
        runs = read(read_runs).set_index("run")
        value, source = plan_threshold(str(runs["task"][run]), spec.segment, spec.plan)
    with st.form(f"form-{run}", border=False):
        samples = st.number_input(
            "Samples per problem", spec.sampling.samples, 1000, spec.sampling.samples
        )
        plan = st.selectbox(
            "Purpose",
            PLAN_NAMES,
            index=list(PLAN_NAMES).index(spec.plan),
            format_func=PLAN_NAMES.__getitem__,
        )
        threshold = st.number_input(
            "Memorized below t = log log PPL (when not everything is sampled)",
            value=value,
            step=0.05,
            format="%.3f",
            help=source,
        )
        perturbed = st.multiselect(
            "Perturbed training queries",
            list(dict.fromkeys([*KINDS, *spec.perturbations])),
            default=list(spec.perturbations),
            format_func=perturbation_label,
        )
        controls = st.checkbox(
            PERTURB_CONTROLS,
            value=spec.perturb_controls,
            disabled=bool(spec.perturb_controls and spec.perturbations),
        )
        if st.form_submit_button("Draw what is missing", type="primary"):
            try:
                jobs.extend_job(
                    store(),
                    run,
                    samples=int(samples),
                    plan=plan,
                    log_log_threshold=None if plan == "full" else threshold,
                    perturbations=tuple(perturbed),
                    perturb_controls=controls,
                )
                jobs.start_job(store(), run)
                st.rerun()
            except PrememError as error:
                st.error(error_in_words(error))


def _cancel(run: str) -> None:
    with suppress(JobError):  # it ended meanwhile
        jobs.cancel_job(store(), run)


def _start(run: str) -> None:
    with suppress(JobError, InstallationError):  # the page says above what is not installed
        jobs.start_job(store(), run)
