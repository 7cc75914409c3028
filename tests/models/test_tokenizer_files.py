"""The tokenizer that is used is the one in `tokenizer.json`, whatever class is named beside it."""

import json

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from premem_core.errors import CheckpointError
from premem_core.models import loading, tokenizer_files, vllm_options
from premem_core.records import Checkpoint
from tests.helpers import tiny, tokenizer_kinds
from tests.helpers.tokenizer_kinds import CLASSES, HARD


@pytest.mark.parametrize("kind", CLASSES)
def test_token_ids_are_those_of_the_file_for_every_class_that_is_named(kind, tmp_path):
    expected = [e.ids for e in tokenizer_kinds.make(kind).encode_batch(list(HARD))]
    for number, name in enumerate([*CLASSES.values(), "PreTrainedTokenizerFast", "NoSuchClass"]):
        folder = tokenizer_kinds.save(kind, tmp_path / str(number), tokenizer_class=name)
        (folder / "config.json").write_text('{"model_type": "llama"}')
        tokenizer = loading.load_tokenizer(folder)
        assert tokenizer(list(HARD))["input_ids"] == expected, name
        assert tokenizer_files.file_ids(folder, HARD) == expected
        tokenizer_files.check_ids(tokenizer, folder, HARD)
        assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")


def test_the_files_own_post_processor_decides_whether_a_bos_comes_first(tmp_path):
    with_bos = tokenizer_kinds.save("llama-3", tmp_path / "with", add_bos_token=False)
    without = tokenizer_kinds.save("gpt2", tmp_path / "without", add_bos_token=True)
    assert loading.load_tokenizer(with_bos)("low")["input_ids"][0] == 1
    assert loading.load_tokenizer(without)("low")["input_ids"][0] != 1


def test_the_chat_template_the_length_and_added_tokens_of_the_configuration_are_kept(tmp_path):
    folder = tokenizer_kinds.save(
        "qwen2", tmp_path, model_max_length=77, pad_token="<pad>", extra_special_tokens=["<t>"]
    )
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}!")
    tokenizer = loading.load_tokenizer(folder)
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": "1"}], tokenize=False)
    assert (rendered, tokenizer.model_max_length, tokenizer.pad_token) == ("1!", 77, "<pad>")
    before = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    assert tokenizer("a<t>b")["input_ids"][1] >= before
    tokenizer_files.check_ids(tokenizer, folder, ["a<t>b", *HARD])


def test_an_eos_that_only_the_models_configuration_names_is_known(tmp_path):
    folder = tokenizer_kinds.save("gpt2", tmp_path)
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 64}')
    (folder / "config.json").write_text('{"model_type": "gpt2", "eos_token_id": 2}')
    tokenizer = loading.load_tokenizer(folder)
    assert (tokenizer.eos_token, tokenizer.bos_token) == ("</s>", None)


def test_other_ids_than_the_files_are_refused_with_the_text_that_gets_them(tmp_path):
    one, other = (tokenizer_kinds.save(k, tmp_path / k) for k in ("gpt2", "qwen2"))
    with pytest.raises(CheckpointError, match=r"gives other token ids to '12345678901"):
        tokenizer_files.check_ids(loading.load_tokenizer(one), other, HARD[3:4])


def test_truncation_and_padding_that_a_trainer_left_in_the_file_change_no_ids(tmp_path):
    folder = tokenizer_kinds.save("gpt2", tmp_path)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    expected = [e.ids for e in tokenizer.encode_batch(list(HARD))]
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert tokenizer_files.file_ids(folder, HARD) == expected
    assert loading.load_tokenizer(folder)(list(HARD))["input_ids"] == expected


def test_a_folder_without_a_vocabulary_holds_no_tokenizer(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert not tokenizer_files.holds_tokenizer(tmp_path)
    assert tokenizer_files.file_ids(tmp_path, ["a"]) is None
    base = tiny.save_base(tmp_path / "base")
    assert loading.tokenizer_folder(tmp_path, str(base)) == str(base)


def test_a_file_that_is_no_tokenizer_is_one_sentence(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is no tokenizer"):
        tokenizer_files.file_ids(tmp_path, ["a"])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        loading.load_tokenizer(tmp_path)


def test_the_tokenizer_that_vllm_builds_from_the_folder_for_it_is_the_same(tmp_path):
    folder = tokenizer_kinds.save("llama-3", tmp_path)  # transformers makes another one of it
    (folder / "config.json").write_text('{"model_type": "llama"}')
    expected = loading.load_tokenizer(folder)(list(HARD))["input_ids"]
    assert AutoTokenizer.from_pretrained(folder)(list(HARD))["input_ids"] != expected
    plain = vllm_options.plain_tokenizer_folder(Checkpoint(folder, 0))
    assert AutoTokenizer.from_pretrained(plain)(list(HARD))["input_ids"] == expected
