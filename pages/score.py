"""Score a run: its checkpoints, its data, what the model will see, and the jobs."""

import streamlit as st

from premem_core import installation
from premem_core.dashboard import (
    cached_reads,
    data_file_picker,
    elements,
    fields_form,
    prompt_form,
    score_form,
)
from premem_core.dashboard.jobs_panel import jobs_panel
from premem_core.dashboard.wording import SCORE_CONTROLS, error_in_words, plain
from premem_core.errors import PrememError
from premem_core.scoring import jobs
from premem_core.scoring.job_files import Execution
from premem_core.scoring.preparation.prepare import prepare
from premem_core.scoring.preparation.request import ScoreRequest, read_requested_data

st.header("Score a run")
st.markdown(
    "Give a run's checkpoints and the problems it was trained on. Premem samples every checkpoint "
    "on them, measures the perplexity of each training solution and keeps both."
)
try:
    installation.require_extra("score")
except PrememError as error:
    st.warning(error_in_words(error, SCORE_CONTROLS))
    jobs_panel()
    st.stop()

left, right = st.columns(2, gap="large")
with left:
    st.subheader("Checkpoints")
    folder = score_form.pick_run_folder()
    base = score_form.pick_base_folder()
with right:
    st.subheader("Problems")
    train_file = data_file_picker.pick_data_file("Training problems", "train")
    test_file = data_file_picker.pick_data_file("Test problems (optional)", "test")

data = None
if folder and train_file:
    try:
        with right, st.expander("How the fields are read"):
            of_fields = st.container()
            skip_bad = st.checkbox("Leave bad rows out", **elements.kept("skip-bad"))
            with of_fields:
                fields = fields_form.pick_fields(train_file)
        execution = Execution(base=str(base.resolve()) if base else None)
        request = ScoreRequest(
            folder, train_file, test_file, fields, skip_bad=skip_bad, execution=execution
        )
        data = read_requested_data(request)
    except PrememError as error:
        st.error(error_in_words(error, SCORE_CONTROLS))
else:
    st.info("Choose a run's folder and its training problems to see what would be measured.")

if data:
    st.subheader("What is measured")
    job = None
    try:
        request = score_form.pick_request(request, data)
        if prompt_form.is_open(request, data):
            prompt_form.compare_templates(request, data)
        else:
            job = prepare(request, data)
            score_form.show_job(job)
    except PrememError as error:
        st.error(error_in_words(error, SCORE_CONTROLS))
    with elements.controls():
        start = st.button("Start scoring", type="primary", disabled=job is None)
        look = st.button("Show what the model sees", disabled=job is None)
        if job:
            score_form.show_estimate(job)
    if job and (start or look or prompt_form.is_inspected(job)):
        try:
            seen = prompt_form.inspect(job)
            prompt_form.show_inspection(seen)
            if start:
                job.without(seen.left_out).create(cached_reads.store())
                jobs.start_job(cached_reads.store(), job.spec.run)
                st.toast(f"Scoring {plain(job.spec.run)}; it goes on when you close this page.")
        except PrememError as error:
            st.error(error_in_words(error, SCORE_CONTROLS))

jobs_panel()
