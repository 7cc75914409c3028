"""The demo: a small but real study that fits two CPU cores.

A tiny Llama is pretrained on arithmetic and on the language of word problems, then fine-tuned on
them in settings that differ in learning rate, length and data size. All of it is made from seeds.
"""

import itertools
import json
import multiprocessing
import os
import random
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from premem_core import checkpoints, jobs, wordproblems
from premem_core.errors import JobError, StoreError
from premem_core.scoring import ScoringSpec
from premem_core.store import Store
from premem_core.training import finetune
from premem_core.types import Example, Sampling

Progress = Callable[[str], None]

TASK = "demo"
SHIPPED = Path(__file__).parents[1] / "data" / "demo"
SHIPPED_RUN = 0  # whose checkpoints are shipped, small enough to try the upload
SCORED_PROBLEMS = 500  # of each run's training problems, so that all runs answer the same ones
SAMPLING = Sampling(samples=5, temperature=0.8, top_p=0.95, max_new_tokens=128)
PERTURBATIONS = ("first", "we-know-that", "rename", "swap", "redraw")
TEST_PROBLEMS = 300
PRETRAINING_STEPS = 2_200
PRETRAINING_BATCH = 48
TRAIN_SEED, TEST_SEED = 101, 202


@dataclass(frozen=True, slots=True)
class Setting:
    """One fine-tuning of the study; `checkpoint_every` counts epochs."""

    learning_rate: float
    epochs: int
    problems: int
    checkpoint_every: int
    batch_size: int = 16

    @property
    def name(self) -> str:
        """Such as lr3e-3_ep24_n500."""
        rate = f"{self.learning_rate:.0e}".replace("e-0", "e-")
        return f"lr{rate}_ep{self.epochs}_n{self.problems}"


# Rate, length and data size all vary, so that no other quantity lines the runs up by accident: from
# hardly trained to every solution known by heart. The longest come first, to keep all cores busy.
SETTINGS = (
    Setting(learning_rate=3e-3, epochs=15, problems=1000, checkpoint_every=3),
    Setting(learning_rate=3e-3, epochs=24, problems=500, checkpoint_every=4),
    Setting(learning_rate=1e-3, epochs=5, problems=1000, checkpoint_every=1),
    Setting(learning_rate=3e-3, epochs=5, problems=2000, checkpoint_every=1),
    Setting(learning_rate=3e-4, epochs=5, problems=500, checkpoint_every=1),
)


def problems() -> tuple[list[Example], list[Example]]:
    """The largest training set, whose beginnings are the smaller ones, and the test set."""
    train = wordproblems.generate(
        max(setting.problems for setting in SETTINGS), TRAIN_SEED, prefix="train-"
    )
    seen = {example.question for example in train}
    return train, wordproblems.generate(TEST_PROBLEMS, TEST_SEED, exclude=seen, prefix="test-")


def install(store: Path) -> None:
    """Put the shipped study into a new store.

    Raises:
        StoreError: something is there already, or the study is not beside the package.
    """
    if store.exists() and (not store.is_dir() or any(store.iterdir())):
        raise StoreError(f"{store} is there already and not empty; give a new folder with --store")
    if not (SHIPPED / "store" / "premem.duckdb").exists():
        raise StoreError(f"{SHIPPED} holds no demo study; make one with demo --rebuild")
    unfinished = store.with_name(f"{store.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(SHIPPED / "store", unfinished).rename(store)


def rebuild(store: Store, progress: Progress = print) -> None:
    """Make the study from nothing in `store`; what an earlier call finished is kept.

    `<store>/demo/` gets `train_<n>.jsonl` and `test.jsonl` (id, question, and answer: the
    solution, ending in `#### <number>`, as in GSM8K's files), the base model in `base`, and one
    folder per setting in `runs`. Each setting is fine-tuned and scored in a process of its own,
    as many at a time as there are cores.
    """
    work = store.path / "demo"
    work.mkdir(exist_ok=True)
    train, test = problems()
    for size in sorted({setting.problems for setting in SETTINGS}):
        write_jsonl(work / f"train_{size}.jsonl", train[:size])
    write_jsonl(work / "test.jsonl", test)
    made_once(work / "base", lambda out: pretrain(out, progress=progress))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, one_thread) as pool:
        for made in [pool.submit(_finetune_and_score, store.path, setting) for setting in SETTINGS]:
            progress(made.result())


def ship(store: Store, folder: Path) -> None:
    """Copy what `install` needs, the problems and one run's checkpoints to `folder`.

    Raises:
        StoreError: the folder holds something else than a shipped study.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "store").is_dir():
        raise StoreError(f"{folder} holds something else than a demo study; give a new folder")
    work, setting = store.path / "demo", SETTINGS[SHIPPED_RUN]
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "store").mkdir(parents=True)
    store.copy_database(folder / "store" / store.database.name)
    shutil.copytree(store.path / "completions", folder / "store" / "completions")
    shutil.copytree(work / "runs" / setting.name, folder / "runs" / setting.name)
    for name in (f"train_{setting.problems}.jsonl", "test.jsonl"):
        shutil.copy(work / name, folder)


def one_thread() -> None:
    """Small models gain nothing from two threads; two processes are twice as fast."""
    import torch

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for the scoring job's workers


def _finetune_and_score(path: Path, setting: Setting) -> str:
    """In a process of its own: one run's checkpoints, then their scores; what was done."""
    store, (train, test) = Store(path), problems()
    work, started = path / "demo", time.monotonic()
    folder = made_once(work / "runs" / setting.name, _finetuning(work / "base", train, setting))
    made = time.monotonic() - started
    spec = ScoringSpec(
        run=setting.name,
        grader="gsm8k",
        sampling=SAMPLING,
        chunk_examples=SCORED_PROBLEMS,
        perturbations=PERTURBATIONS,
    )
    score(
        store,
        spec,
        folder,
        TASK,
        train[:SCORED_PROBLEMS],
        test,
        trained_on=setting.problems,
        execution=jobs.Execution(weights=True, base=str(path / "demo" / "base")),
    )
    scored = time.monotonic() - started - made
    return f"{setting.name}: fine-tuned in {made:.0f} s, scored in {scored:.0f} s"


def score(
    store: Store,
    spec: ScoringSpec,
    folder: Path,
    task: str,
    train: Sequence[Example],
    test: Sequence[Example],
    *,
    trained_on: int | None = None,
    execution: jobs.Execution = jobs.Execution(),
) -> None:
    """Score the run in a folder, or go on with it, in this process and beside others.

    Raises:
        JobError: it does not come to its end.
    """
    jobs.create(
        store,
        spec,
        checkpoints.read_run(folder),
        task,
        train,
        test,
        trained_on=trained_on,
        resume=(store.job_folder(spec.run) / "job.json").exists(),
        execution=execution,
    )
    end = jobs.execute(store, spec.run, queue=False)  # as many at once as there are cores
    if end.state != "done":
        raise JobError(f"{spec.run} could not be scored: {end.message}")


def write_jsonl(path: Path, examples: Iterable[Example]) -> None:
    """One example per line, with the fields id, question and answer of GSM8K's own files."""
    rows = ({"id": e.id, "question": e.question, "answer": e.solution} for e in examples)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _finetuning(base: Path, train: Sequence[Example], setting: Setting) -> Callable[[Path], Path]:
    return lambda out: finetune(
        base,
        train[: setting.problems],
        out,
        learning_rate=setting.learning_rate,
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        checkpoint_every=setting.checkpoint_every,
    )


def made_once(folder: Path, make: Callable[[Path], Path]) -> Path:
    """`folder`, made under another name and renamed at the end: it is there whole or not at all."""
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        make(unfinished).rename(folder)
    return folder


def build_tokenizer(texts: Iterable[str]) -> Any:
    """A fast tokenizer whose tokens are the words of `texts`, single digits and signs.

    A leading space belongs to its word, as in GPT-2. What is not in `texts` falls apart into
    bytes, so that every text survives encoding and decoding. No special token is ever added;
    `<|end|>` pads.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(r" ?\p{L}+| ?[0-9]| ?[^\s\p{L}0-9]+|\s"), behavior="isolated"
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    words = {piece for text in texts for piece, _ in pieces.pre_tokenize_str(text)}
    digits = {f"{space}{digit}" for space in ("", "Ġ") for digit in range(10)}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = ["<|end|>", *alphabet, *sorted((words | digits) - set(alphabet))]
    tokenizer = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(vocabulary)}, [], ignore_merges=True)
    )
    tokenizer.pre_tokenizer = pieces
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|end|>",
        clean_up_tokenization_spaces=False,
    )


def pretrain(
    out: Path,
    *,
    seed: int = 0,
    steps: int = PRETRAINING_STEPS,
    batch_size: int = PRETRAINING_BATCH,
    learning_rate: float = 3e-3,
    progress: Progress = print,
) -> Path:
    """Train the base model on `wordproblems.pretraining_texts` and save it in `out`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, get_linear_schedule_with_warmup

    torch.manual_seed(seed)
    tokenizer = build_tokenizer(itertools.islice(wordproblems.pretraining_texts(seed), 20_000))
    end = tokenizer.eos_token_id
    model: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=end,
            pad_token_id=end,
        )
    )
    # Muon on the hidden matrices learns in half the steps what AdamW alone learns late or never.
    matrices = {n: p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n}
    others = [p for n, p in model.named_parameters() if n not in matrices]
    optimizers = [
        torch.optim.Muon(
            matrices.values(), learning_rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    schedules = [get_linear_schedule_with_warmup(o, min(100, steps), steps) for o in optimizers]
    texts = wordproblems.pretraining_texts(seed + 1)
    rng = random.Random(seed)
    model.train()
    pending: list[list[list[int]]] = []
    for step in range(steps):
        if not pending:
            pending = _batches_by_length(tokenizer, texts, end, batch_size, rng)
        batch = pending.pop()
        width = max(map(len, batch))
        ids = torch.tensor([row + [end] * (width - len(row)) for row in batch])
        lengths = torch.tensor([len(row) for row in batch])
        labels = ids.masked_fill(torch.arange(width) >= lengths[:, None], -100)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for each in (*optimizers, *schedules):
            each.step()
        model.zero_grad()
        if (step + 1) % 200 == 0:
            progress(f"pretraining step {step + 1} of {steps}, loss {loss.item():.3f}")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def _batches_by_length(
    tokenizer: Any, texts: Iterable[str], end: int, batch_size: int, rng: random.Random
) -> list[list[list[int]]]:
    """Forty batches of documents of like length, in random order: little padding."""
    drawn = list(itertools.islice(texts, 40 * batch_size))
    rows = sorted(([*ids, end] for ids in tokenizer(drawn)["input_ids"]), key=len)
    batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    rng.shuffle(batches)
    return batches
