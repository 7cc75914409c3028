import json
import re
import shutil

import pytest

from premem_core.errors import CheckpointError
from premem_core.models.checkpoints import read_run
from tests.helpers import tiny


@pytest.fixture
def run(run_dir, tmp_path):
    return shutil.copytree(run_dir, tmp_path / "run")


def last(run):
    return max(run.glob("checkpoint-*"), key=lambda p: int(p.name[11:]))


def test_checkpoints_come_in_training_order_with_what_the_trainer_logged(run):
    (run / "checkpoint-9").mkdir()
    shutil.copytree(last(run), run / "checkpoint-9", dirs_exist_ok=True)
    found = read_run(run)
    assert [c.step for c in found.checkpoints] == [9, 120, 240, 360]
    assert [c.epoch for c in found.checkpoints[1:]] == [40, 80, 120]
    assert found.learning_rate == pytest.approx(5e-3)
    assert (found.epochs, found.batch_size) == (120, 16)


def test_a_checkpoint_folder_by_itself_is_a_run_of_one(run):
    assert [c.step for c in read_run(last(run)).checkpoints] == [360]


def test_a_checkpoint_without_trainer_state_is_scored_all_the_same(run):
    for file in run.rglob("trainer_state.json"):
        file.unlink()
    found = read_run(run)
    assert found.learning_rate is None
    assert found.checkpoints[0].epoch is None


def test_an_adapter_is_recognised_and_its_base_found_beside_it(run):
    for checkpoint in run.glob("checkpoint-*"):
        (checkpoint / "model.safetensors").rename(checkpoint / "adapter_model.safetensors")
        (checkpoint / "adapter_config.json").write_text('{"base_model_name_or_path": "base"}')
    tiny.save_base(run / "base")
    assert read_run(run).checkpoints[0].adapter_base == str(run / "base")


def test_pickles_are_never_opened(run):
    for checkpoint in run.glob("checkpoint-*"):
        (checkpoint / "training_args.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert len(read_run(run).checkpoints) == 3


def break_bin(run):
    (last(run) / "model.safetensors").rename(last(run) / "pytorch_model.bin")


def break_truncated(run):
    file = last(run) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def break_header(run):
    (last(run) / "model.safetensors").write_bytes(b"\xff" * 64)


def break_no_weights(run):
    (last(run) / "model.safetensors").unlink()


def break_no_config(run):
    (last(run) / "config.json").unlink()


def break_config(run):
    (last(run) / "config.json").write_text("{")


def break_shard(run):
    (last(run) / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (last(run) / "model.safetensors.index.json").write_text(json.dumps(index))


def break_adapter(run):
    (last(run) / "model.safetensors").rename(last(run) / "adapter_model.safetensors")
    (last(run) / "adapter_config.json").write_text("{}")


def break_tokenizer(run):
    for file in last(run).glob("tokenizer*"):
        file.unlink()


def break_base(run):
    (last(run) / "model.safetensors").rename(last(run) / "adapter_model.safetensors")
    config = {"base_model_name_or_path": str(run / "nowhere")}
    (last(run) / "adapter_config.json").write_text(json.dumps(config))


def break_everything(run):
    shutil.rmtree(run)
    run.mkdir()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (break_bin, r"pytorch_model\.bin, a pickle, which Premem never opens"),
        (break_truncated, r"model\.safetensors is not a whole safetensors file"),
        (break_header, r"model\.safetensors is not a whole safetensors file"),
        (break_no_weights, r"holds no weights"),
        (break_no_config, r"holds no config\.json"),
        (break_config, r"config\.json is not readable JSON"),
        (break_shard, r"model-00001-of-00002\.safetensors is missing"),
        (break_adapter, r"names no base_model_name_or_path"),
        (break_tokenizer, r"holds no tokenizer"),
        (break_base, r"names the base model .*nowhere, which is not there"),
        (break_everything, r"holds no checkpoint"),
    ],
)
def test_what_cannot_be_scored_is_named_in_one_sentence(run, broken, message):
    usable = len(read_run(run).checkpoints) - 1
    broken(run)
    if broken is not break_everything:  # without the one that is broken, the run is scored
        found = read_run(run)
        assert len(found.checkpoints) == usable
        [skipped] = found.skipped
        assert re.search(message, skipped.reason)
        for other in found.checkpoints:
            shutil.rmtree(other.path)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_run(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("logged", "rewarded"),
    [
        ({"loss": 0.1, "reward": 0.4, "kl": 0.01}, True),  # GRPO
        ({"loss": 0.1, "rewards/chosen": -0.2, "rewards/margins": 0.1}, True),  # DPO
        ({"loss": 0.1, "mean_token_accuracy": 0.8}, False),  # SFT
    ],
)
def test_a_run_that_learned_from_rewards_is_told_by_its_log(run, logged, rewarded):
    for file in run.rglob("trainer_state.json"):
        state = json.loads(file.read_text())
        state["log_history"].append({"step": 1, **logged})
        file.write_text(json.dumps(state))
    assert read_run(run).rewarded == rewarded


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("trainer_state.json", '{"log_history": null}'),
        ("trainer_state.json", '{"log_history": 5}'),
        ("trainer_state.json", '{"log_history": [{"learning_rate": null}]}'),
        ("trainer_state.json", '{"epoch": "abc"}'),
        ("trainer_state.json", "[" * 200_000),
        ("model.safetensors.index.json", '{"weight_map": []}'),
        ("model.safetensors.index.json", '{"weight_map": {"a": "../model.safetensors"}}'),
    ],
)
def test_a_file_that_says_something_else_than_expected_is_one_sentence(run, name, content):
    (last(run) / name).write_text(content)
    [skipped] = read_run(run).skipped
    assert name in skipped.reason
    assert "\n" not in skipped.reason
