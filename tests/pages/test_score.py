"""The Score page: the fields, the grader, and what the request says of a run that thinks."""

import gzip
import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from premem_core.dashboard import score_form
from premem_core.problems.prompts import ChatTemplate
from premem_core.problems.rows import ENDINGS
from premem_core.scoring.preparation.prepare import PreparedJob
from premem_core.store.database import Store
from tests.helpers import shown, tiny
from tests.helpers.chat_runs import messages
from tests.helpers.chat_templates import chat_tokenizer
from tests.helpers.shown import seen, show

ODD_COLUMNS = "prompt_text,completion_text\nhello,world\n"
BAD_ROW = '{"question":"q","answer":"a #### 1"}\n{"foo": 1}\n'
READ = "How the fields are read"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run of one checkpoint that is not trained, without a chat template."""
    run = tmp_path_factory.mktemp("runs") / "plain"
    tiny.save_base(run / "checkpoint-10")
    return run


@pytest.fixture(scope="module")
def chat_folder(tmp_path_factory) -> Path:
    """The same with a chat template."""
    run = tmp_path_factory.mktemp("runs") / "chat"
    tokenizer = chat_tokenizer()
    tiny.save_base(run / "checkpoint-10", vocab_size=len(tokenizer))
    tokenizer.save_pretrained(run / "checkpoint-10")
    return run


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The page of an empty store for a run and a file of training problems with this text."""

    def page(run: Path, name: str, content: str | bytes) -> AppTest:
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        home = Store(tmp_path / "store")
        return show("score.py", home.path, monkeypatch, folder=str(run), train=str(file))

    return page


@pytest.fixture
def job(monkeypatch):
    """The job that the page shows, as it was prepared last."""
    jobs: list[PreparedJob] = []
    show_job = score_form.show_job
    monkeypatch.setattr(score_form, "show_job", lambda job: (jobs.append(job), show_job(job)))
    return lambda: jobs[-1]


def control(page: AppTest, kind: str, label: str):
    found = (each for each in page.get(kind) if each.label.startswith(label))  # type: ignore[union-attr]
    return next(found)


def type_grader(page: AppTest, text: str) -> None:
    box = control(page, "selectbox", "Grader")
    box.options.append(text)  # AppTest knows the options of the list only
    box.select(text).run()


def errors(page: AppTest) -> str:
    assert not page.exception
    return shown.errors(page)


def can_start(page: AppTest) -> bool:
    buttons = [button for button in page.button if button.label == "Start scoring"]
    return bool(buttons) and not buttons[0].disabled


def test_fields_that_cannot_be_found_are_offered_and_choosing_them_makes_a_job(page, folder):
    app = page(folder, "oddcols.csv", ODD_COLUMNS)
    assert "it is not clear which one is the question" in errors(app)
    assert READ in errors(app)
    assert READ in [expander.label for expander in app.expander]
    question = control(app, "selectbox", "Question")
    assert question.options == ["prompt_text", "completion_text"]
    assert question.value is None

    question.select("prompt_text").run()
    control(app, "selectbox", "Solution").select("completion_text").run()
    assert not can_start(app)
    control(app, "text_input", "Final answer").input("solution").run()
    assert errors(app) == ""
    assert "**1 checkpoint** (step 10), **1 training**" in seen(app)
    assert can_start(app)


def test_a_bad_row_is_refused_with_its_line_and_may_be_left_out(page, folder):
    app = page(folder, "badrow.jsonl", BAD_ROW)
    assert "badrow.jsonl, line 2: there is no field 'question'" in errors(app)
    assert "leave bad rows out (“Leave bad rows out”)" in errors(app)
    assert not can_start(app)
    control(app, "checkbox", "Leave bad rows out").check().run()
    assert errors(app) == ""
    assert "**1 training**" in seen(app)
    assert can_start(app)


def test_a_compressed_file_is_uploaded_and_read(page, folder):
    app = page(folder, "empty.jsonl", "")
    uploader = app.file_uploader(key="train_upload")
    assert tuple(uploader.allowed_type) == ENDINGS
    content = gzip.compress(BAD_ROW.splitlines()[0].encode())
    uploader.upload("small.jsonl.gz", content, "application/gzip").run()
    assert errors(app) == ""
    assert app.text_input(key="train").value.endswith("/small.jsonl.gz")
    assert "**1 training**" in seen(app)


def test_messages_that_think_are_a_chat_whose_thinking_may_be_limited(page, chat_folder, job):
    rows = [{"messages": messages(a, b)} for a in (2, 3) for b in (4, 5)]
    app = page(chat_folder, "train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert errors(app) == ""
    assert can_start(app)
    assert control(app, "button_group", "Prompts").value == "chat"
    assert not control(app, "number_input", "Longest thinking").disabled
    assert [each for each in app.get("button_group") if each.label == "Threshold is for"] == []

    control(app, "button_group", "Purpose").set_value("lazy").run()
    control(app, "button_group", "Threshold is for").set_value("trace").run()
    control(app, "number_input", "Longest thinking").set_value(20).run()
    assert errors(app) == ""
    assert "**at most " in seen(app)
    spec = job().spec
    assert isinstance(spec.template, ChatTemplate)
    assert (spec.thinking, spec.segment) == ("<think>…</think>", "trace")
    assert spec.sampling.max_thinking_tokens == 20


def test_for_the_accuracy_of_checkpoints_one_control_says_what_its_precision_takes(
    page, folder, job
):
    app = page(folder, "train.jsonl", BAD_ROW.splitlines()[0])
    control(app, "button_group", "Purpose").set_value("last").run()
    control(app, "number_input", "Standard error").set_value(20.0).run()
    assert errors(app) == ""
    assert "samples each: a checkpoint's accuracy has a standard error of at most" in seen(app)
    assert [each for each in app.get("number_input") if each.label == "Samples per problem"] == []
    spec = job().spec
    assert (spec.plan, spec.share, spec.sampling.samples) == ("last", 1.0, 7)


def test_without_traces_nothing_is_asked_about_them(page, folder):
    app = page(folder, "train.jsonl", BAD_ROW.splitlines()[0])
    control(app, "button_group", "Purpose").set_value("lazy").run()
    assert control(app, "number_input", "Longest thinking").disabled
    assert [each for each in app.get("button_group") if each.label == "Threshold is for"] == []
    control(app, "text_input", "Marks of thinking").input("[T]…[/T]").run()
    assert not control(app, "number_input", "Longest thinking").disabled


def test_the_grader_is_the_one_that_reads_the_solutions_and_may_have_settings(page, folder, job):
    rows = [
        {"question": "Which?", "solution": f"So (B).\nThe answer is {x}.", "answer": x}
        for x in "AB"
    ]
    app = page(folder, "train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert control(app, "selectbox", "Grader").value == "choice"
    assert "It reads 2 of 2 training solutions." in seen(app)

    app = page(folder, "train.jsonl", BAD_ROW.splitlines()[0])
    type_grader(app, "number?tolerance=0.01")
    assert errors(app) == ""
    assert "It reads 1 of 1 training solutions." in seen(app)
    assert job().spec.grader == "number?tolerance=0.01"
    type_grader(app, "number?tolerance=much")
    assert "a tolerance must be a number from 0, not 'much'" in errors(app)
    assert not can_start(app)


def test_a_grader_that_cannot_read_the_solutions_is_refused_before_the_start(page, folder):
    rows = [{"question": x, "solution": f"The answer is {x}.", "answer": x} for x in "AB"]
    app = page(folder, "train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert can_start(app)
    type_grader(app, "number")
    assert "It reads 0 of 2 training solutions." in app.warning[0].value
    assert "calls only 0 of 2 training solutions correct" in errors(app)
    assert "give another “Grader”, or say where the answer is with “Final answer”" in errors(app)
    assert not can_start(app)

    row = {"question": "q", "solution": "[T]no\n#### 2[/T]#### 1", "answer": "1"}
    app = page(folder, "train.jsonl", json.dumps(row))
    control(app, "text_input", "Marks of thinking").input("[T]…[/T]").run()
    assert "It reads 1 of 1 training solutions." in seen(app)
    assert can_start(app)


def test_a_page_never_runs_a_function_of_a_file(page, folder, tmp_path):
    code = tmp_path / "mine.py"
    code.write_text("raise AssertionError('it ran')\ndef grade(completion, reference): return True")
    app = page(folder, "train.jsonl", BAD_ROW.splitlines()[0])
    for text in (f"{code}:grade", f"file?path={code}&function=grade"):
        type_grader(app, text)
        assert "only the command line may choose it" in errors(app)
        assert not can_start(app)


def test_a_template_that_cannot_be_read_is_one_sentence(page, chat_folder):
    rows = [{"messages": messages(2, 3)}]
    app = page(chat_folder, "train.jsonl", json.dumps(rows[0]))
    control(app, "text_input", "Another chat template").input("nowhere.jinja").run()
    assert "cannot read nowhere.jinja" in errors(app)
    assert not can_start(app)


PICTURE = "![i](http:/127.0.0.1:9/x.png)"  # a path has one slash; a browser reads it as two


def test_an_error_repeats_texts_of_files_and_addresses_as_they_are(
    page, folder, tmp_path, monkeypatch
):
    app = page(folder, "train.jsonl", BAD_ROW.replace("foo", PICTURE))
    assert PICTURE in errors(app)
    assert PICTURE not in "".join(error.value for error in app.error)

    app = show("score.py", tmp_path / "store", monkeypatch, folder=str(folder), train=PICTURE)
    assert PICTURE in errors(app)
    assert PICTURE not in "".join(error.value for error in app.error)

    app = page(folder, "train.jsonl", BAD_ROW.splitlines()[0])
    type_grader(app, PICTURE)
    assert PICTURE in errors(app)
    assert PICTURE not in "".join(error.value for error in app.error)


def test_what_was_typed_stays_while_an_error_hides_the_controls(page, folder, tmp_path, job):
    app = page(folder, "train.jsonl", BAD_ROW.splitlines()[0])
    file = app.text_input(key="train").value
    control(app, "text_input", "Name of the run").input("mine").run()
    control(app, "number_input", "Samples per problem").set_value(9).run()
    control(app, "button_group", "Purpose").set_value("final").run()
    control(app, "checkbox", "Leave bad rows out").check().run()
    app.text_input(key="train").input(str(tmp_path / "nowhere.jsonl")).run()
    assert "nowhere.jsonl" in errors(app)
    assert control(app, "checkbox", "Leave bad rows out").value
    app.run()
    app.text_input(key="train").input(file).run()
    assert errors(app) == ""
    assert control(app, "checkbox", "Leave bad rows out").value
    spec = job().spec
    assert (spec.run, spec.sampling.samples, spec.plan) == ("mine", 9, "final")


def test_both_forms_of_prompts_keep_what_was_typed(page, chat_folder):
    app = page(chat_folder, "train.jsonl", BAD_ROW.splitlines()[0])
    control(app, "button_group", "Prompts").set_value("chat").run()
    control(app, "text_input", "System prompt").input("Be brief.").run()
    control(app, "button_group", "Prompts").set_value("plain").run()
    control(app, "text_area", "Prompt").input("Q: {question} A:").run()
    control(app, "button_group", "Prompts").set_value("chat").run()
    assert control(app, "text_input", "System prompt").value == "Be brief."
    control(app, "button_group", "Prompts").set_value("plain").run()
    assert control(app, "text_area", "Prompt").value == "Q: {question} A:"
