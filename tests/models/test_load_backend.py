"""Backends by name."""

import importlib.util

import pytest

from premem_core.errors import CheckpointError, UsageError
from premem_core.models import load_backend
from premem_core.models.backend import Resources
from premem_core.models.transformers_backend import TransformersBackend
from premem_core.records import Checkpoint
from tests.helpers import texts, tiny


def test_the_transformers_backend_is_loaded_with_its_resources(tmp_path):
    checkpoint = Checkpoint(tiny.save_base(tmp_path), 0)
    whole, quarter = (
        load_backend.load_backend("hf", checkpoint, Resources(batch_divisor=divisor))
        for divisor in (1, 4)
    )
    assert isinstance(whole, TransformersBackend)
    assert isinstance(quarter, TransformersBackend)
    assert quarter.rows == whole.rows // 4
    [score] = texts.target_scores(whole, ["1+1?"], [" 2"])
    assert score.tokens == 2


@pytest.mark.parametrize(("installed", "name"), [(True, "vllm"), (False, "hf")])
def test_vllm_is_the_default_where_it_is_installed(installed, name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: installed or None)
    assert load_backend.default_backend() == name


def test_an_unknown_backend_is_refused_with_the_names_of_the_others(tmp_path):
    with pytest.raises(UsageError, match="'tpu' is unknown; choose one of: vllm, hf"):
        load_backend.load_backend("tpu", Checkpoint(tmp_path, 0))


def test_a_checkpoint_that_cannot_be_loaded_is_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_backend.load_backend("hf", Checkpoint(tmp_path, 0))
