"""Runs as various trainers leave them: which folders are checkpoints, and at which steps."""

import itertools
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from premem_core.errors import CheckpointError
from premem_core.models.checkpoints import check_checkpoint, find_runs, read_run, run_names
from premem_core.records import Checkpoint
from tests.helpers import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save_base(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture
def add(model, tmp_path):
    """Function that puts a checkpoint into a folder of the run, with what the Trainer logs.

    The weights of each differ in one value, unless they are to be those of another folder.
    """
    made = itertools.count(1)

    def add(folder, *rates, weights_of=None, **state):
        path = tmp_path / "run" / folder
        path.mkdir(parents=True, exist_ok=True)
        for file in model.iterdir():
            if file.name != "model.safetensors":
                os.link(file, path / file.name)
        if weights_of:
            shutil.copy(tmp_path / "run" / weights_of / "model.safetensors", path)
        else:
            tensors = load_file(model / "model.safetensors")
            tensors["model.norm.weight"][0] = next(made)
            save_file(tensors, path / "model.safetensors", {"format": "pt"})
        if rates or state:
            logs = [{"step": step, "learning_rate": rate} for step, rate in rates]
            content = {"log_history": logs} | state
            (path / "trainer_state.json").write_text(json.dumps(content))
        return path

    (tmp_path / "run").mkdir()
    return add


@pytest.fixture
def run(tmp_path):
    return tmp_path / "run"


def steps(run, **options):
    """Step → where its checkpoint is in the run."""
    found = read_run(run, **options)
    return {c.step: str(c.path.relative_to(run)) for c in found.checkpoints}


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["checkpoint-9", "checkpoint-100"], {9: "checkpoint-9", 100: "checkpoint-100"}),
        (["step_500", "step_1000"], {500: "step_500", 1000: "step_1000"}),
        (["epoch-1-step-50", "epoch-2-step-90"], {50: "epoch-1-step-50", 90: "epoch-2-step-90"}),
        (["global_step_20/actor/huggingface"], {20: "global_step_20/actor/huggingface"}),
        (["global_step_20/huggingface"], {20: "global_step_20/huggingface"}),
        (["epoch-1", "epoch-10"], {1: "epoch-1", 10: "epoch-10"}),
        (["checkpoint-9", "notes", "base", "runs/checkpoint-2"], {9: "checkpoint-9"}),
        (["checkpoint-9", "final"], {9: "checkpoint-9", 10: "final"}),
        (["checkpoint-9", "last-checkpoint"], {9: "checkpoint-9", 10: "last-checkpoint"}),
        (["checkpoint-9", "."], {9: "checkpoint-9", 10: "."}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_checkpoints_are_found_under_the_names_that_trainers_give_them(folders, expected, add, run):
    for folder in folders:
        add(folder)
    assert steps(run) == expected
    assert list(steps(run)) == sorted(expected)


def test_epochs_counted_from_0_are_the_epochs_trained_and_a_note_says_so(add, run):
    for folder in ("epoch_0", "epoch_1"):
        add(folder)
    found = read_run(run)
    assert [(c.path.name, c.step, c.epoch) for c in found.checkpoints] == [
        ("epoch_0", 1, 1),
        ("epoch_1", 2, 2),
    ]
    assert "counted from 0, so epoch_0 is epoch 1" in found.notes[0]


def test_a_folder_named_by_epoch_has_the_step_of_its_log(add, run):
    add("epoch-1", global_step=58, epoch=1.0)
    add("epoch-2", global_step=116, epoch=2.0)
    assert steps(run) == {58: "epoch-1", 116: "epoch-2"}
    assert read_run(run).notes == ()


def test_an_epoch_without_a_step_among_steps_is_left_out_until_the_user_says_it(add, run):
    add("checkpoint-50")
    add("epoch-2")
    [skipped] = read_run(run).skipped
    assert "say it: --step epoch-2=STEP" in skipped.reason
    assert steps(run, steps={"epoch-2": 80}) == {50: "checkpoint-50", 80: "epoch-2"}


@pytest.mark.parametrize(
    ("folder", "step"),
    [
        ("merged", "merged=STEP"),
        ("checkpoint-40-merged", "checkpoint-40-merged=40"),
        ("tmp-checkpoint-60", "tmp-checkpoint-60=60"),
        ("step_120_hf", "step_120_hf=120"),
        ("my model", "'my model=STEP'"),
    ],
)
def test_a_model_whose_name_is_not_understood_is_named_and_scored_once_its_step_is_said(
    folder, step, add, run
):
    add("checkpoint-40")
    add(folder)
    (run / "latest").symlink_to(run / "checkpoint-40")
    found = read_run(run)
    assert [c.step for c in found.checkpoints] == [40]
    [skipped] = found.skipped
    assert skipped.path == run / folder
    assert skipped.reason.endswith(f"if it is one, say its step: --step {step}")
    number = int(re.sub(r"\D", "", step.partition("=")[2]) or 7)
    assert steps(run, steps={folder: number}) == {40: "checkpoint-40"} | {number: folder}
    assert read_run(run, steps={folder: number}).skipped == ()
    with pytest.raises(CheckpointError, match=r"its name is not that of a checkpoint"):
        read_run(run, only=[folder])


def test_the_base_model_of_a_runs_adapters_is_not_named_as_left_out(add, run):
    tiny.save_adapter(add("first"), run / "checkpoint-5", seed=1)
    assert steps(run) == {5: "checkpoint-5"}
    assert read_run(run).skipped == ()


@pytest.mark.parametrize("folder", [".", "final"])
def test_a_final_model_that_is_the_last_checkpoint_is_not_scored_twice(folder, add, run):
    add("checkpoint-30", (30, 1e-5), global_step=30, max_steps=60)
    add("checkpoint-60", (60, 1e-5), global_step=60, max_steps=60)
    add(folder)
    assert steps(run) == {30: "checkpoint-30", 60: "checkpoint-60"}
    assert "is left out, because checkpoint-60 is the model at step 60" in read_run(run).notes[0]


@pytest.mark.parametrize("folder", [".", "final", "best_model"])
def test_a_final_model_with_the_weights_of_a_checkpoint_is_not_scored_twice(folder, add, run):
    for step in (30, 60):
        add(f"checkpoint-{step}", global_step=step, max_steps=90)
    path = add(
        folder, weights_of="checkpoint-30", global_step=90
    )  # the best one, loaded at the end
    assert steps(run) == {30: "checkpoint-30", 60: "checkpoint-60"}
    left_out = f"{path} is left out, because it holds the same weights as checkpoint-30"
    assert read_run(run).notes == (left_out,)
    name = "final" if folder == "." else folder
    assert list(steps(run, steps={name: 70})) == [30, 60, 70]
    assert list(steps(run, only=[name])) == [90]


def test_a_final_model_without_a_log_is_not_scored_twice_either(add, run):
    add("checkpoint-30")
    add(".", weights_of="checkpoint-30")
    assert steps(run) == {30: "checkpoint-30"}
    assert list(steps(run, check=False)) == [30, 31]  # as a job reads it that has scored both
    assert "holds the same weights as checkpoint-30" in read_run(run).notes[0]
    assert len(read_run(run).notes) == 1
    (run / "checkpoint-30" / "config.json").unlink()
    assert steps(run) == {31: "."}


def test_adapters_with_the_same_weights_are_one_unless_they_are_used_otherwise(add, model, run):
    add("base")
    tiny.save_adapter(run / "base", run / "checkpoint-5", seed=1)
    shutil.copytree(run / "checkpoint-5", run / "final")
    assert steps(run) == {5: "checkpoint-5"}
    config = json.loads((run / "final/adapter_config.json").read_text())
    config |= {"inference_mode": False, "target_modules": config["target_modules"][::-1]}
    (run / "final/adapter_config.json").write_text(json.dumps(config))
    assert steps(run) == {5: "checkpoint-5"}
    (run / "final/adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 1}))
    assert steps(run) == {5: "checkpoint-5", 6: "final"}


def test_a_final_model_has_the_step_of_its_own_log_or_the_last_one_planned(add, run):
    add("checkpoint-30", global_step=30, max_steps=64)
    add("final")
    assert steps(run) == {30: "checkpoint-30", 64: "final"}
    assert "at step 64, the last of the training (another one: --step" in read_run(run).notes[0]
    (run / "final" / "trainer_state.json").write_text('{"global_step": 50, "epoch": 2.5}')
    assert steps(run) == {30: "checkpoint-30", 50: "final"}
    assert steps(run, steps={"final": 70}) == {30: "checkpoint-30", 70: "final"}


def test_the_final_model_takes_the_place_of_a_last_checkpoint_that_is_broken(add, run):
    add("checkpoint-30", global_step=30, max_steps=60)
    (add("checkpoint-60", global_step=60, max_steps=60) / "model.safetensors").unlink()
    add("final", global_step=60)
    assert steps(run) == {30: "checkpoint-30", 60: "final"}


def test_a_model_in_which_adapters_lie_is_their_base_and_no_checkpoint(add, model, run, tmp_path):
    add(".")
    tiny.save_adapter(model, run / "checkpoint-5", seed=1)
    assert steps(run) == {5: "checkpoint-5"}


def test_a_merged_model_beside_the_adapter_it_was_made_of_is_what_is_scored(add, model, run):
    tiny.save_adapter(model, run / "epoch_0", seed=1)
    add("epoch_0")
    assert read_run(run).checkpoints[0].adapter_base is None


def test_empty_and_half_written_checkpoints_are_left_out_and_named(add, run):
    add("checkpoint-10")
    (run / "checkpoint-20").mkdir()
    half = add("checkpoint-30") / "model.safetensors"
    content = half.read_bytes()[:-100]
    half.unlink()
    half.write_bytes(content)
    found = read_run(run)
    assert [c.step for c in found.checkpoints] == [10]
    reasons = {s.path.name: s.reason for s in found.skipped}
    assert "holds no weights" in reasons["checkpoint-20"]
    assert "not a whole safetensors file" in reasons["checkpoint-30"]
    shutil.rmtree(run / "checkpoint-10")
    with pytest.raises(CheckpointError, match=r"none of the 2 checkpoints .*holds no weights"):
        read_run(run)


def test_only_the_checkpoints_that_are_asked_for_are_read(add, run):
    for folder in ("checkpoint-10", "checkpoint-20", "final"):
        add(folder)
    (run / "checkpoint-30").mkdir()
    assert list(steps(run, only={10, "final"})) == [10, 31]
    assert list(steps(run, only=["10", "checkpoint-20"])) == [10, 20]
    there = "it has: 10, 20, 30, 31"
    with pytest.raises(CheckpointError, match=rf"no checkpoint '40'; {there}"):
        read_run(run, only=["10", "40"])
    with pytest.raises(CheckpointError, match="holds no weights"):
        read_run(run, only=[10, 30])
    with pytest.raises(CheckpointError, match=r"no checkpoint named 'end'; it has: checkpoint-10"):
        read_run(run, steps={"end": 3})


def test_a_folder_of_runs_names_them_and_each_is_found(add, run):
    for folder in ("lr1/checkpoint-1", "deep/lr2/epoch_0", "lr3/checkpoint-2", "base"):
        add(folder)
    assert find_runs(run) == [run / "deep/lr2", run / "lr1", run / "lr3"]
    assert find_runs(run / "lr1") == [run / "lr1"]
    with pytest.raises(
        CheckpointError, match=r"holds 3: deep/lr2, lr1, lr3; give one of them, or score all"
    ):
        read_run(run)
    assert find_runs(run / "deep/lr2/epoch_0/nothing") == []


def test_each_run_below_a_folder_gets_a_name_of_its_own_that_it_keeps(run):
    runs = [run / "sft/lr1", run / "lr2"]
    assert run_names(run, runs) == {"sft-lr1": run / "sft/lr1", "lr2": run / "lr2"}
    alike = [run / "a/b-c", run / "a-b/c", run / "lr2"]
    names = run_names(run, alike)
    assert list(names.values()) == alike
    first, second, third = names
    assert third == "lr2"
    assert first != second
    assert first.startswith("a-b-c-")
    assert set(run_names(run, alike[1::-1])) == {first, second}  # in whatever order
    assert run_names(run, [run]) == {run.name: run}


def test_a_run_resumed_with_another_learning_rate_says_where_it_changed(add, run):
    first = [(1, 1e-5), (2, 2e-5), (3, 1e-5)]
    add("checkpoint-3", *first, global_step=3)
    add("checkpoint-5", *first, (4, 5e-6), (5, 1e-4), global_step=5)
    found = read_run(run)
    assert [c.learning_rate for c in found.checkpoints] == [1e-5, 1e-4]
    assert found.learning_rate == 1e-4
    assert "jumped at step 5, from 5e-06 to 0.0001" in found.notes[0]


@pytest.mark.parametrize(
    ("files", "command"),
    [
        (
            ["global_step5/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", "zero_to_fp32.py"],
            r"cd \S+checkpoint-5 && python zero_to_fp32\.py \. \. --safe_serialization$",
        ),
        (
            ["pytorch_model_fsdp_0/__0_0.distcp", "optimizer_0/__0_0.distcp"],
            r"accelerate merge-weights \S+/pytorch_model_fsdp_0 \S+checkpoint-5$",
        ),
        (["__0_0.distcp", ".metadata"], r"accelerate merge-weights \S+checkpoint-5 \S+"),
        (
            ["actor/model_world_size_2_rank_0.pt", "actor/huggingface/config.json"],
            r"python -m verl\.model_merger merge --backend fsdp --local_dir \S+checkpoint-5/actor "
            r"--target_dir \S+checkpoint-5/actor/huggingface$",
        ),
        (
            ["mp_rank_00_model_states.pt"],
            r"cd \S+run && python zero_to_fp32\.py \. checkpoint-5 -t",
        ),
    ],
    ids=["DeepSpeed", "FSDP", "DCP", "verl", "DeepSpeed alone"],
)
def test_weights_in_parts_are_refused_with_the_command_that_merges_them(files, command, run, add):
    for name in files:
        file = run / "checkpoint-5" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    with pytest.raises(CheckpointError, match=command) as caught:
        read_run(run)
    assert "\n" not in str(caught.value)


def test_the_parts_beside_whole_weights_are_no_checkpoint(add, run):
    path = add("checkpoint-5") / "global_step5"
    path.mkdir()
    (path / "zero_pp_rank_0_mp_rank_00_model_states.pt").touch()
    assert steps(run) == {5: "checkpoint-5"}
    assert [c.step for c in read_run(run / "checkpoint-5").checkpoints] == [5]
    assert find_runs(run / "checkpoint-5") == [run / "checkpoint-5"]


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt", "hf_model_0001_0.pt"])
def test_pickled_weights_are_refused_whoever_wrote_them(name, run, add):
    path = add("epoch_0")
    (path / "model.safetensors").rename(path / name)
    with pytest.raises(CheckpointError, match=rf"{re.escape(name)}, a pickle, which Premem never"):
        read_run(run)


def test_a_tokenizer_with_more_tokens_than_the_embedding_is_refused(add, run):
    path = add("checkpoint-5")
    file = path / "tokenizer.json"
    content = json.loads(file.read_text())
    file.unlink()  # it is shared with the other checkpoints

    def save(token):
        added = {"id": 258, "content": token, "special": True, "normalized": False}
        added |= {"lstrip": False, "rstrip": False, "single_word": False}
        file.write_text(json.dumps(content | {"added_tokens": [*content["added_tokens"], added]}))

    save("<think>")
    with pytest.raises(CheckpointError, match=r"'<think>' with the id 258, .* has only 258 rows"):
        check_checkpoint(Checkpoint(path, 5))
    save("<image_soft_token>")  # as in Gemma 3, whose text model of 1B lacks its row
    check_checkpoint(Checkpoint(path, 5))


def test_a_configuration_of_another_vocabulary_is_refused(add, run):
    path = add("checkpoint-5")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").unlink()
    (path / "config.json").write_text(json.dumps(config | {"vocab_size": 300}))
    with pytest.raises(CheckpointError, match=r"says 300 tokens, but the embedding has 258 rows"):
        check_checkpoint(Checkpoint(path, 5))


def test_weights_that_the_index_names_and_no_file_holds_are_refused(add, run):
    path = add("checkpoint-5")
    tensors = load_file(path / "model.safetensors")
    shard = "model-00001-of-00001.safetensors"
    (path / "model.safetensors").unlink()
    save_file(tensors, path / shard)
    with pytest.raises(CheckpointError, match=rf"holds {shard} and no model\.safetensors\.index"):
        check_checkpoint(Checkpoint(path, 5))
    index = {"weight_map": dict.fromkeys([*tensors, "model.layers.9.up_proj.weight"], shard)}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"lacks 1 weights .*layers\.9\.up_proj"):
        check_checkpoint(Checkpoint(path, 5))


def test_what_cannot_be_read_is_no_run_and_a_checkpoint_left_out(add, tmp_path, monkeypatch):
    add("checkpoint-5")
    (tmp_path / "run" / "checkpoint-9").mkdir()
    add("../locked/checkpoint-5")
    add("secret")  # a name that is not a checkpoint's
    locked = {tmp_path / "locked", tmp_path / "run" / "checkpoint-9", tmp_path / "run" / "secret"}
    iterdir = Path.iterdir

    def refused(path):
        if path in locked:
            raise PermissionError
        return iterdir(path)

    monkeypatch.setattr(os, "access", lambda path, _: path not in locked)
    monkeypatch.setattr(Path, "iterdir", refused)
    assert find_runs(tmp_path) == [tmp_path / "run"]
    run = read_run(tmp_path / "run", check=False)
    assert [c.step for c in run.checkpoints] == [5]
    assert [s.reason for s in run.skipped] == [
        f"{tmp_path / 'run' / 'checkpoint-9'}: it cannot be read (permission denied); ask for the "
        "right to"
    ]
    assert find_runs(tmp_path / "locked") == []
    with pytest.raises(CheckpointError, match=r"locked cannot be read \(permission denied\); ask"):
        read_run(tmp_path / "locked")


def test_a_path_that_is_too_long_is_not_a_folder(add, tmp_path):
    add("checkpoint-5")
    long = tmp_path / ("a" * 300)
    assert find_runs(long) == []
    with pytest.raises(CheckpointError, match="is not a folder; give a run's folder"):
        read_run(long)
    with pytest.raises(CheckpointError, match=r"the base model .* is not a folder"):
        read_run(tmp_path / "run", base=long)
