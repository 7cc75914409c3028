"""Score a run: its checkpoints, its data, what the model will see, and the jobs."""

import streamlit as st

from premem_core.dashboard import cached_reads, data_file_picker, elements, score_form
from premem_core.dashboard.jobs_panel import jobs_panel
from premem_core.errors import PrememError
from premem_core.grading.graders import GRADERS
from premem_core.models import checkpoints, load_backend
from premem_core.problems import examples
from premem_core.problems.fields import likely_grader
from premem_core.problems.perturbations import KINDS
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Sampling
from premem_core.scoring import job_files, jobs, work_left
from premem_core.scoring.spec import ScoringSpec

st.header("Score a run")
st.markdown(
    "Give a run's checkpoints and the problems it was trained on. Premem samples every checkpoint "
    "on them, measures the perplexity of each training solution and keeps both."
)

left, right = st.columns(2, gap="large")
with left:
    st.subheader("Checkpoints")
    folder = score_form.pick_run_folder()
with right:
    st.subheader("Problems")
    train_file = data_file_picker.pick_data_file("Training problems", "train")
    test_file = data_file_picker.pick_data_file("Test problems (optional)", "test")

if folder and train_file:
    try:
        run = checkpoints.read_run(folder)
        with right, st.expander("How the fields are read"):
            fields = score_form.pick_fields(train_file)
        train = examples.read_examples(train_file, fields)
        test = examples.read_examples(test_file, fields).examples if test_file else ()
    except PrememError as error:
        st.error(str(error))
        jobs_panel()
        st.stop()

    st.subheader("What is measured")
    a, b, c, d = st.columns(4)
    name = a.text_input("Name of the run", run.path.resolve().name)
    task = b.text_input(
        "Task", score_form.likely_task(train_file), help="Runs of one task are fitted together."
    )
    grader = c.selectbox("Grader", GRADERS, index=GRADERS.index(likely_grader(train.fields)))
    samples = d.number_input("Samples per problem", 1, 100, 5)
    a, b, c = st.columns([1.4, 1, 1.6])
    plan, threshold = score_form.pick_plan(task, a, b)
    perturbed = c.multiselect(
        "Perturbed training queries, at the last checkpoint",
        list(KINDS),
        format_func=KINDS.__getitem__,
        help="Another form of the question, or of the response's beginning, in which a copied "
        "solution no longer fits. Where one does not apply, the problem is left out.",
    )
    with st.expander("Perturbed queries of your own"):
        own, wrong = {}, ""
        try:
            own = score_form.pick_own_queries(train.examples)
        except PrememError as error:
            wrong = str(error)
            st.error(wrong)
    with st.expander("Prompt template, sampling, engine"):
        a, b, c, d = st.columns(4)
        prompt = a.text_area("Prompt", PromptTemplate().prompt)
        target = b.text_area("Target", PromptTemplate().target)
        temperature = c.number_input("Temperature", 0.0, 2.0, 0.8, 0.1)
        top_p = c.number_input("Top p", 0.01, 1.0, 0.95, 0.01)
        tokens = d.number_input("Longest completion, tokens", 1, 8192, 512)
        stop = d.text_input("Ends a completion", repr(PromptTemplate().stop[0])[1:-1])
        installed = [
            b for b in load_backend.BACKENDS if b == "hf" or load_backend.default_backend() == b
        ]
        backend = a.selectbox("Engine", installed, help="vllm where it is installed, or hf.")
        weights = b.checkbox(
            "Then measure the weights",
            help="Distance from initialization and gradient variance: simpler predictors of test "
            "accuracy, for the R² fits page.",
        )
        base = c.text_input("Folder of the model that the run began with") if weights else ""
    template = PromptTemplate(prompt, target, (stop.replace("\\n", "\n"),) if stop else ())
    spec = ScoringSpec(
        run=name,
        grader=grader,
        backend=backend,
        template=template,
        sampling=Sampling(int(samples), temperature, top_p, int(tokens)),
        plan=plan,
        log_log_threshold=threshold,
        perturbations=(*perturbed, *own),
    )
    a, b = st.columns(2, gap="large")
    first_prompt, first_target = template.fill(train.examples[0])
    with a:
        elements.verbatim(("The first prompt, as the model sees it", first_prompt))
    with b:
        elements.verbatim(("Its target: the perplexity is that of this text", first_target))
    steps = [checkpoint.step for checkpoint in run.checkpoints]
    total = work_left.most_completions(spec, steps, train.examples, test)
    st.markdown(
        f"**{len(steps)} checkpoints** (steps {steps[0]} to {steps[-1]}), "
        f"**{len(train.examples):,} training** and **{len(test):,} test** problems: "
        f"**{'at most ' if plan != 'full' else ''}{total:,} completions** and "
        f"{len(steps) * len(train.examples):,} perplexities."
        f"{score_form.may_be_saved(spec, len(steps) * len(train.examples))}"
    )
    with elements.controls():
        if st.button("Start scoring", type="primary", disabled=bool(wrong)):
            try:
                how = job_files.Execution(weights=weights, base=base or None)
                jobs.create_job(
                    cached_reads.store(),
                    spec,
                    run,
                    task,
                    train.examples,
                    test,
                    execution=how,
                    own=own,
                )
                jobs.start_job(cached_reads.store(), spec.run)
                st.toast(f"Scoring {spec.run}; it goes on when you close this page.")
            except PrememError as error:
                st.error(str(error))
        score_form.show_estimate(spec, run, train.examples, test)
else:
    st.info("Choose a run's folder and its training problems to see what would be measured.")

jobs_panel()
