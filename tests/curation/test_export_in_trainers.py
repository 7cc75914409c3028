"""What is exported is what a trainer loads: every kind and shape, one step of TRL's SFTTrainer."""

from dataclasses import replace

import pytest

from premem_core.curation import export
from premem_core.curation.recipe import Criterion, Recipe
from premem_core.curation.selection import build_selection, reasons
from premem_core.curation.shapes import KINDS, SHAPES
from premem_core.records import Conversation, Example
from tests.helpers import planned, tiny
from tests.helpers.stores import scored

RECIPE = Recipe("toy", ("slow", "fast"), planned.T, (Criterion("premem", below=0.75),))
N = 60


@pytest.fixture(scope="module")
def selection(tmp_path_factory):
    store = planned.store(tmp_path_factory.mktemp("trainer"), "full", N)
    _, found, chosen = build_selection(store, RECIPE)
    return store, chosen, found


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    from datasets import load_dataset

    return lambda *asked, **options: load_dataset(
        *asked, split="train", cache_dir=str(tmp_path / "cache"), **options
    )


@pytest.mark.parametrize("kind", KINDS)
def test_datasets_loads_a_file(kind, selection, load, tmp_path):
    store, chosen, _ = selection
    file = tmp_path / f"chosen{kind}"
    export.export_file(store, chosen, RECIPE, file)
    builder = {".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}[kind]
    loaded = load(builder, data_files=str(file))
    assert [str(each) for each in loaded["id"]] == chosen["id"].tolist()


@pytest.mark.parametrize("shape", SHAPES)
def test_datasets_loads_a_folder(shape, selection, load, tmp_path):
    store, chosen, found = selection
    folder = tmp_path / "chosen"
    export.export_folder(store, chosen, replace(RECIPE, shape=shape), found, N, folder)
    loaded = load(str(folder))
    assert loaded["id"] == chosen["id"].tolist()
    assert loaded["reasons"] == reasons(chosen, RECIPE)


@pytest.mark.parametrize("shape", ["prompt-completion", "messages"])
def test_a_model_is_trained_one_step_on_it(shape, selection, load, tmp_path):
    store, chosen, _ = selection
    file = tmp_path / "chosen.jsonl"
    export.export_file(store, chosen, replace(RECIPE, shape=shape), file)
    fields = {"prompt-completion": ["prompt", "completion"], "messages": ["messages"]}[shape]
    rows = load("json", data_files=str(file)).select_columns(fields)
    assert loss_of_a_step(rows, tmp_path) > 0


@pytest.mark.parametrize("kind", [".jsonl", ".parquet"])
def test_a_model_is_trained_one_step_on_chats_with_tools_and_reasoning(kind, load, tmp_path):
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    turns = (
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "4", "name": "add"},
    )
    target = {"role": "assistant", "content": "#### 4", "reasoning_content": "2 and 2"}
    tools = ({"type": "function", "function": {"name": "add", "parameters": {}}},)
    chats = [Conversation(turns, target, tools), Conversation(turns[:1], target)]
    examples = [Example(str(n), "2+2?", "#### 4", "4", {}, chats[n % 2]) for n in range(8)]
    store = scored(tmp_path / "store", examples)
    recipe = Recipe("t0", ("r0",), planned.T, (Criterion("random"),), shape="messages")
    file = tmp_path / f"chosen{kind}"
    export.export_file(store, build_selection(store, recipe)[2], recipe, file)
    builder = {".jsonl": "json", ".parquet": "parquet"}[kind]
    rows = load(builder, data_files=str(file)).select_columns(["messages", "tools"])
    assert loss_of_a_step(rows, tmp_path) > 0


def loss_of_a_step(rows, folder) -> float:
    """The loss in one step of TRL's trainer on these rows."""
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    model = AutoModelForCausalLM.from_pretrained(tiny.save_base(folder / "base"))
    tokenizer = tiny.byte_tokenizer(bos=True)
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    )
    config = SFTConfig(
        output_dir=str(folder / "out"), max_steps=1, per_device_train_batch_size=4,
        report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False,
    )  # fmt: skip
    trainer = SFTTrainer(model, args=config, train_dataset=rows, processing_class=tokenizer)
    return float(trainer.train().training_loss)
