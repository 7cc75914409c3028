from importlib.util import find_spec

import pytest
import torch

from premem_core import errors
from premem_core.scoring.executors import local


@pytest.mark.parametrize(
    ("gpus", "visible", "workers", "tensor_parallel", "expected"),
    [
        (0, None, None, 1, [None]),
        (0, None, 3, 1, [None, None, None]),
        (0, None, 0, 1, []),
        (4, None, None, 1, ["0", "1", "2", "3"]),
        (4, None, 2, 1, ["0", "1"]),
        (4, None, None, 2, ["0,1", "2,3"]),
        (3, None, None, 2, ["0,1"]),
        (2, "5,7", None, 1, ["5", "7"]),
        (2, "GPU-a,GPU-b", None, 2, ["GPU-a,GPU-b"]),
    ],
)
def test_each_worker_gets_its_own_gpus(
    gpus, visible, workers, tensor_parallel, expected, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local.devices(workers, tensor_parallel) == expected


def test_more_gpus_per_worker_than_there_are_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(errors.JobError, match="needs 4 GPUs, but this machine has 2"):
        local.devices(None, 4)


@pytest.mark.parametrize("module", local.PRELOADED)
def test_what_workers_are_forked_from_can_be_loaded(module):
    assert find_spec(module)  # multiprocessing passes over in silence what cannot
