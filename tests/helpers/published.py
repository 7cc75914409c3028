"""Published runs made here: folders in the layout of the published arrays."""

import zipfile
from pathlib import Path

import numpy as np

from tests.helpers.paths import GSM8K_RUNS

ROWS = np.array([4, 1, 3])  # that the run was trained on, of six


def make_run(root: Path, n: int = 6, k: int = 4, perplexities=None) -> Path:
    """A half run of one checkpoint with random grades; its folder."""
    run = root / "toy_orig_1epochs_half_lr0.001_bs2"
    checkpoint = run / "checkpoint-3"
    checkpoint.mkdir(parents=True)
    rng = np.random.default_rng(0)
    np.save(run / "subsample_idxs.npy", ROWS)
    np.save(checkpoint / f"train_answer_types{k}_seed2.npy", rng.integers(0, 3, (n, k)))
    np.save(checkpoint / "train_answer_types2_seed2.npy", np.zeros((n, 2), dtype=np.int64))
    np.save(checkpoint / f"test_answer_types{k}_seed2.npy", rng.integers(0, 3, (5, k)))
    np.save(checkpoint / "train_perplexities.npy",
            np.linspace(1, 2, n) if perplexities is None else perplexities)  # fmt: skip
    return run


def unpack_run(root: Path, name: str) -> Path:
    """The folder of one run of the GSM8K slice."""
    with zipfile.ZipFile(GSM8K_RUNS) as archive:
        archive.extractall(root, [n for n in archive.namelist() if n.startswith(f"{name}/")])
    return root / name
