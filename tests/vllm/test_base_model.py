"""The real engine on a run's base model, beside whole models and beside adapters."""

import pytest

from premem_core.analysis.base_model import read_base_model
from premem_core.models import checkpoints
from premem_core.records import Example, Sampling
from premem_core.scoring import job_process, jobs
from premem_core.scoring.job_files import Execution
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.database import Store
from premem_core.store.runs import read_checkpoints
from tests.helpers import tiny

pytestmark = pytest.mark.vllm

TRAIN = [
    Example(
        str(i),
        f"{name} has {i + 3} red pens and buys {2 * i + 5} more of these pens at a shop beside "
        f"the old bridge. How many pens does {name} have in all now?",
        f"#### {3 * i + 8}",
        str(3 * i + 8),
    )
    for i, name in enumerate(("Ann", "Bob", "Cleo", "Dan"))
]


@pytest.mark.parametrize("kind", ["whole models", "adapters"])
def test_the_engine_scores_the_base_model_as_transformers_does(kind, tmp_path):
    base = tiny.save_base(tmp_path / "base")
    tiny.learn_texts(base, [example.question for example in TRAIN[:2]])
    for step in (10, 20):
        folder = tmp_path / "run" / f"checkpoint-{step}"
        if kind == "adapters":
            tiny.save_adapter(base, folder, seed=step)
        else:
            tiny.save_base(folder, seed=step)
    run = checkpoints.read_run(tmp_path / "run")
    found = {}
    for backend in ("vllm", "hf"):
        spec = ScoringSpec(
            "r",
            "gsm8k",
            backend=backend,
            sampling=Sampling(samples=2, max_new_tokens=6),
            score_base=True,
        )
        store = Store(tmp_path / backend)
        jobs.create_job(store, spec, run, "pens", TRAIN, (), execution=Execution(base=str(base)))
        assert job_process.run_job(store, "r").state == "done"
        assert (read_checkpoints(store, "r")["state"] == "scored").all()
        found[backend] = read_base_model(store, "r").questions
    assert found["vllm"]["known"].tolist() == found["hf"]["known"].tolist()
    assert found["vllm"]["known"].sum() == 2
    assert found["vllm"]["nll"].tolist() == pytest.approx(found["hf"]["nll"].tolist(), rel=1e-3)
