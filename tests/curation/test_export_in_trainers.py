"""What is exported is what a trainer loads: every kind and shape, one step of TRL's SFTTrainer."""

from dataclasses import replace

import pytest

from premem_core.curation import export
from premem_core.curation.recipe import Criterion, Recipe
from premem_core.curation.selection import build_selection, reasons
from tests.helpers import planned, tiny

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


@pytest.mark.parametrize("kind", export.KINDS)
def test_datasets_loads_a_file(kind, selection, load, tmp_path):
    store, chosen, _ = selection
    file = tmp_path / f"chosen{kind}"
    export.export_file(store, chosen, RECIPE, file)
    builder = {".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}[kind]
    loaded = load(builder, data_files=str(file))
    assert [str(each) for each in loaded["id"]] == chosen["id"].tolist()


@pytest.mark.parametrize("shape", export.SHAPES)
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
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    model = AutoModelForCausalLM.from_pretrained(tiny.save_base(tmp_path / "base"))
    tokenizer = tiny.byte_tokenizer(bos=True)
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    )
    config = SFTConfig(
        output_dir=str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=4,
        report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False,
    )  # fmt: skip
    trainer = SFTTrainer(model, args=config, train_dataset=rows, processing_class=tokenizer)
    assert trainer.train().training_loss > 0
