"""Shared fixtures: one small run, fine-tuned here, that every test of the scorer reads."""

import fcntl
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from premem_core.dashboard.figures import style
from premem_core.demo import demo_study
from premem_core.files import flock
from premem_core.store.database import Store
from tests.helpers import planned, tiny
from tests.helpers.paths import GSM8K, SHARED

# Read when these trackers are imported, which any test may do.
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}
os.environ["WANDB_DISABLE_WEAVE"] = "true"  # it advertises itself where `openai` is imported
style.CHECKED = True
settings.register_profile("premem", deadline=None)  # no test is timed
settings.load_profile("premem")


@pytest.fixture(autouse=True)
def main_module():
    """Streamlit's AppTest puts a page in the place of `__main__`, which spawned processes run."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture(scope="session")
def published() -> Path:
    """The whole published score arrays; a slice of them is part of the repository."""
    folder = SHARED / "kang2024"
    if not folder.is_dir():
        pytest.skip(f"needs the whole published arrays, which are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory, worker_id) -> Path:
    """A run of three checkpoints that learned sums, the first hardly, the last by heart.

    The processes of one `pytest -n` share it, because it takes seconds to make.
    """
    from premem_core.training.finetune import finetune_model

    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "run"
    folder.mkdir(exist_ok=True)
    made, done = folder / "sums-lr5e-3", folder / "done"
    with flock(folder / "lock", fcntl.LOCK_EX):
        if not done.exists():
            base = tiny.save_base(folder / "base")
            finetune_model(
                base,
                tiny.sums(0, 48),
                made,
                learning_rate=5e-3,
                epochs=120,
                batch_size=16,
                checkpoint_every=40,
                warmup_steps=5,
            )
            done.touch()
    return made


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> tuple[Path, Path]:
    """Train and test problems of that run, as JSONL files."""
    folder = tmp_path_factory.mktemp("sums")
    return (
        tiny.write_jsonl(folder / "train.jsonl", tiny.sums(0, 48)),
        tiny.write_jsonl(folder / "test.jsonl", tiny.sums(48, 40)),
    )


@pytest.fixture(scope="session")
def gsm8k() -> Path:
    """All problems of GSM8K; a slice of them is part of the repository."""
    if not GSM8K.is_dir():
        pytest.skip(f"needs all of GSM8K, which is not at {GSM8K}")
    return GSM8K


@pytest.fixture(scope="session")
def demo_store(tmp_path_factory) -> Store:
    """The shipped study, for tests that only read it."""
    folder = tmp_path_factory.mktemp("demo") / "store"
    demo_study.install(folder)
    return Store(folder)


@pytest.fixture(scope="session")
def stores(tmp_path_factory) -> Path:
    """Stores of two small runs, sampled by each plan: the folders full, lazy and final."""
    folder = tmp_path_factory.mktemp("planned")
    planned.store(folder / "full", "full")
    planned.store(folder / "lazy", "lazy")
    planned.store(folder / "final", "final")
    return folder
