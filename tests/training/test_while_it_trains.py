"""Training and watching in processes of their own, as people run them; one is killed."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from premem_core.store.database import Store
from premem_core.store.runs import read_checkpoints
from premem_core.store.scores import read_committed_shards
from tests.helpers import tiny
from tests.helpers.paths import ROOT

TRAIN = """
import sys
from pathlib import Path
from transformers import TrainerCallback
from tests.helpers.trainers import make_trainer

class Slow(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        import time
        time.sleep(0.15)

make_trainer(Path(sys.argv[1]), Path(sys.argv[2]), [Slow()], save_total_limit=2, save_steps=8,
             max_steps=80).train()
"""

TRL = """
import json, sys
from pathlib import Path
from datasets import Dataset
from trl import SFTConfig, SFTTrainer
from premem_core.training import PrememCallback

base, out, store, data, tracker = sys.argv[1:]
rows = [json.loads(line) for line in open(data)]
rows = [{"prompt": r["question"] + "\\nAnswer:", "completion": " " + r["answer"] + "\\nDone."} for r in rows]
trainer = SFTTrainer(
    model=base,
    train_dataset=Dataset.from_list(rows),
    args=SFTConfig(output_dir=out, per_device_train_batch_size=16, learning_rate=5e-3,
                   max_steps=60, save_steps=20, logging_steps=10, save_total_limit=1,
                   report_to=[tracker] if tracker else [], use_cpu=True, bf16=False,
                   disable_tqdm=True, run_name="sums"),
)
trainer.add_callback(PrememCallback(trainer, store, train=data, examples=30, log_log_threshold=-1.0))
trainer.train()
print(json.dumps([row for row in trainer.state.log_history if "premem/checkpoint" in row]))
"""


def start(*arguments: object, **options) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        text=True,
        cwd=ROOT,
        env=environment | options.pop("env", {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.slow
def test_every_checkpoint_of_a_training_is_scored_although_the_watch_is_killed(data, tmp_path):
    base, out, store = tiny.save_base(tmp_path / "base"), tmp_path / "run", tmp_path / "store"
    watch = (
        *("-m", "premem_core", "watch", out, "--store", store, "--train", data[0]),
        *("--samples", 1, "--max-new-tokens", 16, "--backend", "hf"),
    )
    trainer = start("-c", TRAIN, base, out)
    first = start(*watch)
    deadline = time.monotonic() + 120
    while not (scored := list(store.glob("completions/*/*"))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert scored
    first.send_signal(signal.SIGKILL)
    first.wait()
    again = start(*watch)
    assert trainer.wait(timeout=120) == 0
    said, _ = again.communicate(timeout=300)
    checkpoints = read_checkpoints(Store(store), "run")
    named = {int(step) for step in re.findall(r"not scored: checkpoint.(\d+)", said)}
    every = set(range(8, 81, 8))
    assert set(checkpoints["step"]) | named == every, said
    assert (checkpoints["state"] == "scored").all()
    assert again.returncode == (1 if named else 0), said
    shards = read_committed_shards(Store(store), "run")
    assert len(shards) == len(set(shards)) == 2 * len(checkpoints)
    assert len(list(out.glob("checkpoint-*"))) == 2
    print(f"{len(checkpoints)} of {len(every)} checkpoints scored, {len(named)} named")
