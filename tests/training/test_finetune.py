import itertools
import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from premem_core.demo.pretraining import build_tokenizer, pretrain
from premem_core.demo.word_problems import make_problems, pretraining_texts
from premem_core.errors import CheckpointError, DataError, UsageError
from premem_core.models.checkpoints import base_checkpoint, read_run
from premem_core.models.encoding.encoder import make_encoder
from premem_core.models.encoding.training_batch import encode
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Example
from premem_core.training.finetune import finetune_model

EXAMPLES = make_problems(48, seed=1)
TEMPLATE = PromptTemplate()


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(itertools.islice(pretraining_texts(0), 2000))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return pretrain(
        tmp_path_factory.mktemp("base"), steps=20, batch_size=8, progress=lambda _: None
    )


@pytest.fixture(scope="module")
def run(base, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run")
    return finetune_model(base, EXAMPLES, out, learning_rate=1e-3, epochs=10, batch_size=16,
                    checkpoint_every=4)  # fmt: skip


def files(folder: Path) -> set[str]:
    return {p.name for p in folder.rglob("*") if p.is_file()}


def test_a_checkpoint_is_kept_every_so_many_epochs_and_after_the_last(run):
    checkpoints = read_run(run).checkpoints
    assert [c.epoch for c in checkpoints] == [4, 8, 10]
    assert [c.step for c in checkpoints] == [12, 24, 30]


def test_the_log_shows_the_peak_learning_rate_and_its_linear_decay(run):
    seen = read_run(run)
    assert seen.learning_rate == pytest.approx(1e-3)
    assert (seen.epochs, seen.batch_size) == (10, 16)
    state = json.loads((run / "checkpoint-30" / "trainer_state.json").read_text())
    rates = {e["step"]: e["learning_rate"] for e in state["log_history"] if "learning_rate" in e}
    assert rates[21] == pytest.approx(1e-3)
    assert rates[30] == pytest.approx(1e-4)


def test_training_lowers_the_loss(run):
    state = json.loads((run / "checkpoint-30" / "trainer_state.json").read_text())
    losses = [e["loss"] for e in state["log_history"] if "loss" in e]
    assert losses[-1] < losses[0] - 0.2


def test_a_checkpoint_holds_weights_and_tokenizer_but_no_pickle_and_no_optimizer(run):
    assert files(run / "checkpoint-30") == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json", "trainer_state.json",
    }  # fmt: skip
    assert not {name for name in files(run) if name.endswith((".bin", ".pt", ".pkl", ".pth"))}


def test_the_same_seed_gives_the_same_weights(base, tmp_path):
    weights = []
    for name in ("a", "b"):
        out = tmp_path / name
        finetune_model(
            base, EXAMPLES[:8], out, learning_rate=1e-3, epochs=2, batch_size=4, warmup_steps=2
        )
        tensors = load_file(tmp_path / name / "checkpoint-4" / "model.safetensors")
        weights.append({key: tensor.tobytes() for key, tensor in tensors.items()})
    assert weights[0] == weights[1]


def test_a_lora_run_writes_adapters_that_name_their_base(base, tmp_path):
    out = finetune_model(base, EXAMPLES[:8], tmp_path / "lora", learning_rate=1e-3, epochs=2,
                   batch_size=4, warmup_steps=2, lora_rank=2)  # fmt: skip
    assert {"adapter_config.json", "adapter_model.safetensors"} <= files(out / "checkpoint-4")
    assert "model.safetensors" not in files(out)
    assert {c.adapter_base for c in read_run(out).checkpoints} == {str(base)}
    assert not {name for name in files(out) if name.endswith((".bin", ".pt", ".pkl", ".pth"))}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"lora_rank": 0}, "lora_rank is 0"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0"),
        ({"warmup_steps": 200}, "a smaller batch size"),
    ],
)
def test_an_argument_out_of_range_is_refused_before_anything_is_loaded(tmp_path, bad, message):
    good = {"learning_rate": 1e-3, "epochs": 10, "batch_size": 4}
    with pytest.raises(UsageError, match=message):
        finetune_model(tmp_path / "nowhere", EXAMPLES, tmp_path / "out", **{**good, **bad})


def test_a_folder_with_checkpoints_is_not_written_into(base, run):
    with pytest.raises(UsageError, match="already holds checkpoints"):
        finetune_model(base, EXAMPLES, run, learning_rate=1e-3, epochs=10, batch_size=4)


def test_a_base_that_cannot_be_loaded_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere cannot be loaded"):
        finetune_model(
            *(tmp_path / "nowhere", EXAMPLES, tmp_path / "out"),
            learning_rate=1e-3,
            epochs=10,
            batch_size=4,
        )


def test_examples_that_cannot_be_trained_on_are_named(base, tmp_path, tokenizer):
    with pytest.raises(DataError, match="no example"):
        finetune_model(base, [], tmp_path / "out", learning_rate=1e-3, epochs=10, batch_size=4)
    nothing, plain = (
        make_encoder(template, tokenizer, frozenset())
        for template in (PromptTemplate(target="{solution}"), TEMPLATE)
    )
    with pytest.raises(DataError, match="example '7' cannot be trained on"):
        encode(nothing, Example("7", "2+2?", "", ""))
    with pytest.raises(DataError, match=r"Example 8 has \d+ tokens and the model takes 50"):
        encode(plain, Example("8", "2+2? " * 50, "4", "4"), longest=50)


def test_the_run_names_its_base_model(base, run):
    assert base_checkpoint(read_run(run)).path == base.resolve()
