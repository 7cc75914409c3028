"""A callback for transformers' Trainer and TRL, by which a run is scored while it trains."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers.trainer_callback import TrainerCallback
from transformers.utils import logging

from premem_core.analysis.gate import Rule
from premem_core.errors import CheckpointError, PrememError
from premem_core.models import checkpoints, loading
from premem_core.models.on_disk.kept_checkpoints import release_weights
from premem_core.models.transformers_backend import TransformersBackend
from premem_core.problems.data_files import Source
from premem_core.records import Sampling
from premem_core.scoring.executors.in_process import InProcessExecutor
from premem_core.scoring.job_process import run_job
from premem_core.scoring.preparation.prepare import prepare
from premem_core.scoring.preparation.request import (
    RequestedData,
    ScoreRequest,
    check_growing,
    read_data,
)
from premem_core.scoring.watching.keeper import Keeper
from premem_core.store.database import Store
from premem_core.store.job_folder import JobFolder
from premem_core.training.live_results import LiveResults

SECONDS = 5.0  # between two looks for results of a watcher
EXAMPLES = 128  # training problems that are scored in place

logger = logging.get_logger(__name__)


class PrememCallback(TrainerCallback):
    """Has each checkpoint scored when it is saved, and logs the results beside the loss.

    With `train`, a small sample of the problems is scored in place: the training waits while its
    model measures their perplexities and samples them. Without it, checkpoints are handed to a
    watcher, `premem watch RUN_DIR --store STORE`, in another process or on another GPU: each is
    kept for it also where `save_total_limit` deletes it, and what it finds is logged when it is
    there. Nothing that goes wrong here stops the training; it is said as a warning.

    What is logged, through `trainer.log`, has the names that `premem push` gives: `premem/premem`
    and `premem/premem_half`, `premem/memorized_share`, where they are known the accuracies and
    `premem/held_out_nll`, and `premem/checkpoint`, the step that they are of.

    Args:
        trainer: the trainer, whose `log` is used.
        store: the store's folder.
        train: the training problems, as `premem score --train` takes them; None to hand
            checkpoints to a watcher.
        test: the test problems, likewise; they are sampled at every checkpoint.
        run: the run's name in the store; None for the name of the output folder.
        examples: how many training problems are scored in place.
        log_log_threshold: t, below which a solution counts as memorized; None for that of the
            watcher. Scoring in place needs it.
        stop_when: rules of `premem check`; the training ends when one of them certainly fails:
            `Rule("max-memorized", 0.6)`, `Rule("no-drop")`.
        settings: further fields of a `ScoreRequest`, for scoring in place.

    Example:
        trainer.add_callback(
            PrememCallback(trainer, "store", train="train.jsonl", log_log_threshold=-2.3)
        )
    """

    def __init__(
        self,
        trainer: Any,
        store: str | Path,
        *,
        train: Source | str | None = None,
        test: Source | str | None = None,
        run: str | None = None,
        examples: int = EXAMPLES,
        log_log_threshold: float | None = None,
        stop_when: Sequence[Rule] = (),
        **settings: Any,
    ) -> None:
        self.trainer, self.store, self.stop_when = trainer, Store(Path(store)), tuple(stop_when)
        output = Path(trainer.args.output_dir)
        self.run = run or output.resolve().name
        self.results = LiveResults(self.store, self.run, log_log_threshold)
        self.request: ScoreRequest | None = None
        if train is not None:
            self.request = ScoreRequest(
                run_folder=output,
                train_file=_source(train),
                test_file=None if test is None else _source(test),
                run=self.run,
                backend="hf",
                plan="last",
                log_log_threshold=log_log_threshold,
                train_sample=examples,
                **{"sampling": Sampling(samples=1), **settings},
            )
            check_growing(self.request)
        self._data: RequestedData | None = None
        self._looked = 0.0

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Score the checkpoint that was just saved, or keep it for the watcher."""
        if not state.is_world_process_zero:
            return control
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        try:
            if self.request is None:
                self._keep(folder)
            else:
                self._score(self.request, folder, kwargs["model"])
        except Exception as error:  # whatever it is, the training goes on
            logger.warning(f"checkpoint {state.global_step} was not scored: {error}")
        return self._log(control)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Log what the watcher has found meanwhile."""
        if not state.is_world_process_zero or time.monotonic() - self._looked < SECONDS:
            return control
        self._looked = time.monotonic()
        return self._log(control)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Log what is known at the end."""
        return self._log(control) if state.is_world_process_zero else control

    def _keep(self, folder: Path) -> None:
        """Keep the checkpoint for the watcher.

        Raises:
            CheckpointError: it cannot be kept.
        """
        keeper = Keeper(folder.parent, JobFolder.of(self.store, self.run).kept)
        if folder.name not in keeper.names():
            keeper.keep(folder.name)
        if folder.name in keeper.refused:
            raise CheckpointError(keeper.refused[folder.name])

    def _log(self, control: Any) -> Any:
        try:
            for logs, broken in self.results.new(self.stop_when):
                self.trainer.log(dict(logs))
                for judgement in broken:
                    logger.warning(f"the training is ended: {judgement.sentence}")
                    control.should_training_stop = True
        except Exception as error:  # as in `on_save`
            logger.warning(f"no results of Premem can be logged: {error}")
        return control

    def _score(self, request: ScoreRequest, folder: Path, model: Any) -> None:
        """Score the checkpoint in a folder with the model that was just saved to it."""
        self._keep(folder)
        kept = JobFolder.of(self.store, self.run).kept
        run = checkpoints.read_run(kept, base=request.execution.base_folder, check=False)
        [checkpoint] = [c for c in run.checkpoints if c.path == kept / folder.name]
        self._data = read_data(request, run) if self._data is None else self._data
        job = prepare(request, replace(self._data, run=run))
        job = job.without(job.inspect().left_out)
        job.create(self.store, extend=True)
        tokenizer = loading.load_tokenizer(checkpoint.path, adapter_base=checkpoint.adapter_base)
        with _as_for_inference(model):
            backend = TransformersBackend.of_model(checkpoint, tokenizer, model)
            executor = InProcessExecutor(backend, checkpoint.step)
            end = run_job(self.store, self.run, queue=False, executor=executor)
        if end.state == "cancelled":  # Ctrl-C or SIGTERM, which are for the training too
            raise KeyboardInterrupt
        if end.state != "done":
            raise PrememError(end.message)
        release_weights(checkpoint.path)


def _source(given: Source | str) -> Source:
    return Path(given) if isinstance(given, str) else given


@contextmanager
def _as_for_inference(model: Any) -> Iterator[None]:
    """The model without dropout; afterwards each of its parts is as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
