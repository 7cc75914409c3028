"""What a store holds, as tables."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from premem_core.analysis.base_model import read_base_questions
from premem_core.analysis.measures import read_measures
from premem_core.analysis.repeated_answers import repeated_answers
from premem_core.analysis.solutions import solution_measures, token_table
from premem_core.errors import UsageError
from premem_core.grading.graded_completions import read_checkpoint_completions
from premem_core.records import BASE_STEP, Segment
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from premem_core.store.runs import read_checkpoints, read_runs, read_scored_base, read_tasks
from premem_core.store.sample_imports import read_sample_imports
from premem_core.store.scores import read_scores
from premem_core.store.sql import read_sql

SPLITS = ("train", "test")


class StoredTables:
    """What a store holds, as tables. `StoreReader` adds what is computed from it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __repr__(self) -> str:
        return f"premem.open_store({str(self.path)!r})"

    @property
    def path(self) -> Path:
        """The store's folder."""
        return self._store.path

    @property
    def version(self) -> int:
        """A counter that rises whenever the store changes: a key for caches of your own."""
        return self._store.version()

    def tasks(self) -> list[str]:
        """The tasks of which the store has a run. Runs of one task are analysed together.

        Example:
            store.tasks()
        """
        return read_tasks(self._store)

    def runs(self) -> pd.DataFrame:
        """One row per run.

        Columns:
            run, task: its name, and the task it belongs to.
            source: "scored" by a job of this store; "imported": completions of other tools only;
                or "published": imported score arrays.
            learning_rate, epochs, batch_size: of the fine-tuning; missing where not known.
            train_examples: how many examples it was trained on.
            grader, scored_by: whose grades count now, and who graded it when it was scored.
            checkpoints, scored, failed: how many checkpoints it has, how many of them are scored,
                and how many could not be scored.
            created: when it was added, UTC.

        Example:
            store.runs()[["run", "task", "learning_rate", "checkpoints", "scored"]]
        """
        return read_runs(self._store)

    def checkpoints(self, run: str) -> pd.DataFrame:
        """One row per checkpoint of a run, in training order.

        Columns:
            run, step: the run, and the update after which the checkpoint was saved.
            epoch, learning_rate: at that step; missing where not known.
            path: its folder, relative to the store where it lies in it; missing for an import.
            state, reason: "waiting", "scored" or "failed", and why it failed.
            samples: completions per example it was scored to; missing where each row has its own.

        Raises:
            UsageError: the store has no such run.

        Example:
            run = store.runs()["run"].iloc[-1]
            store.checkpoints(run)
        """
        self._check("run", run, read_runs(self._store)["run"].tolist())
        return read_checkpoints(self._store, run)

    def examples(self, task: str, split: str = "train") -> pd.DataFrame:
        """One row per example of a task.

        Columns:
            example: its number in the store, by which other tables name it.
            id: its name in the data file.
            question, solution, answer: the texts; empty where only scores were imported.
            metadata: the data file's other fields, as a JSON object.
            conversation: the turns of the chat that it comes from, as JSON; empty without one.

        Raises:
            UsageError: the store has no such task, or the split is neither "train" nor "test".

        Example:
            store.examples("demo", "test")[["id", "question", "answer"]]
        """
        self._check("task", task, self.tasks())
        self._check("split", split, SPLITS)
        return read_task_examples(self._store, task, split)

    def scores(self, task: str, perturbation: str = "") -> pd.DataFrame:
        """One row per run, checkpoint, split and example: all that accuracies are computed from.

        Only checkpoints that are scored to the end are in it.

        Args:
            perturbation: of the questions, such as "rename"; by default the original questions.

        Columns:
            run, step, split, example: what the row is about; the split is "train", "test", or
                "unseen" for training examples of the task that the run was not trained on.
            samples: completions that were drawn and graded.
            correct, unparsed, timeout: how many of them are correct, state no final answer, or
                could not be compared in time; the others are incorrect.
            nll: mean negative log-likelihood per token of the solution, nats; its exponential is
                the perplexity. Missing for test examples without a solution.
            tokens: how many tokens the solution has.

        Raises:
            UsageError: the store has no such task.

        Example:
            scores = store.scores("demo")
            scores = scores.assign(accuracy=scores["correct"] / scores["samples"])
            scores.groupby(["run", "step", "split"])["accuracy"].mean()
        """
        self._check("task", task, self.tasks())
        return read_scores(self._store, task, perturbation)

    def completions(
        self, run: str, step: int, split: str = "train", perturbation: str = ""
    ) -> pd.DataFrame:
        """One row per completion of a checkpoint; empty where the run is "published".

        Step 0 is the run's base model, if it is scored.

        Columns:
            example, sample: the question's number in the store, and which of its samples it is,
                from 0.
            completion: the text as it was sampled.
            extracted: the final answer that was found in it; missing where there is none.
            grade: "correct", "incorrect", "unparsed" or "timeout": the grade that counts.
            by_hand: whether a person set that grade.
            tokens, finished: its length in tokens, and whether it ended before the limit; missing
                where an imported file does not tell it.

        Raises:
            UsageError: the store has no such run, the run has no such checkpoint, or the split is
                neither "train" nor "test".

        Example:
            step = store.checkpoints(run)["step"].iloc[-1]
            completions = store.completions(run, step)
            completions["grade"].value_counts()
        """
        self._check("split", split, SPLITS)
        self._check_step(run, step)
        return read_checkpoint_completions(self._store, run, int(step), split, perturbation)

    def solutions(
        self, run: str, *, segment: Segment = "target", first: int | None = None
    ) -> pd.DataFrame:
        """NLL and token accuracy of a run's solutions; of test problems, the held-out NLL.

        `segment`, as in `premem`, and `first` choose a part of each, and its first tokens.

        Columns:
            step, split, solutions: the checkpoint, "train" or "test", and how many were measured.
            nll, nll_half: mean NLL per token, nats, over solutions, and its 90 % half-width.
            token_accuracy: the share of their tokens that the model finds most likely.

        Raises:
            UsageError: the store has no such run, or there is no such part.
        """
        self.checkpoints(run)
        return solution_measures(self._store, run, segment, first)

    def repeated_answers(self, run: str) -> pd.DataFrame:
        """pass@k and maj@k of a run's checkpoints, unbiased for every k that it has samples for.

        Columns:
            step, split, k, questions: the checkpoint, "train" or "test", and how many questions.
            pass_at_k, pass_half: how often one of k samples is correct, and its 90 % half-width.
            maj_at_k, maj_half: how often the most frequent answer of k samples is correct.
            entropy: of a question's answers, nats, in the mean; too low with few samples.

        Raises:
            UsageError: the store has no such run.
        """
        self.checkpoints(run)
        return repeated_answers(self._store, run)

    def measures(self, run: str) -> pd.DataFrame:
        """One row per scored checkpoint: what is measured beside pre-memorization accuracy.

        Columns:
            step: the checkpoint.
            train_nll, test_nll: of solutions, nats per token, with `_half`; test_nll is held out.
            train_token_accuracy, test_token_accuracy: as in `solutions`.
            finished, completion_tokens: share that ended before the limit, and mean length.
            k, pass_at_k, maj_at_k, entropy: as in `repeated_answers`, at the largest k; of test
                questions, or else of training questions (`repeated_of`).
            limem_<perturbation>: how often a right answer is lost under it.

        Raises:
            UsageError: the store has no such run.

        Example:
            store.measures(store.runs()["run"].iloc[-1])
        """
        self.checkpoints(run)
        return read_measures(self._store, run)

    def tokens(self, run: str, step: int, split: str = "train") -> pd.DataFrame:
        """One row per token of the solutions at a checkpoint; empty where none were kept.

        Columns:
            example, token, text: the example's number in the store; the token's place, from 0.
            log_probability, rank: nats; how many other tokens are at least as likely.
            in_trace: whether it is a part of a thinking trace.
        """
        self._check("split", split, SPLITS)
        self._check_step(run, step)
        return token_table(self._store, run, int(step), split)

    def imports(self, run: str | None = None) -> pd.DataFrame:
        """One row per file and checkpoint whose completions were imported.

        Args:
            run: only those of this run.

        Columns:
            run, step, split: what the completions are of.
            file, sha256, tool, version: where they come from, and the hash of the file.
            temperature, top_p, max_new_tokens: how they were sampled; missing where not known.
            grader: who graded them at the import.
            completions, correct, perplexities: how many there are, and how many examples got their
                NLL from the file.
            unmatched, ambiguous: rows that were left out, because no example has their question,
                or several have it.
            mixed: whether completions with other settings were accepted beside them.
            made: when they were imported, UTC.

        Raises:
            UsageError: the store has no such run.

        Example:
            store.imports()[["run", "step", "split", "tool", "temperature", "completions"]]
        """
        if run is not None:
            self._check("run", run, read_runs(self._store)["run"].tolist())
        return read_sample_imports(self._store, run)

    def base_model(self, run: str) -> pd.DataFrame:
        """One row per question of the base model; empty without `premem score --score-base`.

        Columns:
            split, example: the question, by its number in the store.
            samples, correct: completions that were drawn, and how many of them are correct.
            nll: as in `scores`; a checkpoint's NLL minus this is its base-relative NLL.
            known: whether it completes the question word by word; missing for short questions.
        """
        self.checkpoints(run)
        return read_base_questions(self._store, run)

    def sql(self, query: str, parameters: Sequence[object] = ()) -> pd.DataFrame:
        """What one SELECT gives, over a read-only connection to the store's DuckDB database.

        The tables are runs, checkpoints, examples, scores, bases, continuations, baselines,
        perturbed, overrides, alone, imports, shards and meta; `SHOW ALL TABLES` gives their
        columns. The completions are Parquet files in the store's folder, which a query can read
        too.

        Args:
            query: in DuckDB's dialect; `?` stands for a parameter.

        Raises:
            StoreError: it is no SELECT, more than one statement, or DuckDB refuses it.

        Example:
            store.sql("SELECT run, max(step) AS last FROM checkpoints GROUP BY run ORDER BY run")
            store.sql(
                "SELECT count(*) AS drawn FROM read_parquet(?) WHERE finished",
                [f"{store.path}/completions/*/*.samples.*.parquet"],
            )
        """
        return read_sql(self._store, query, parameters)

    def _check_step(self, run: str, step: int) -> None:
        base = [BASE_STEP] if read_scored_base(self._store, run) else []
        self._check("step", step, [*base, *self.checkpoints(run)["step"]])

    def _check(self, what: str, given: object, known: Sequence[object]) -> None:
        if given not in known:
            names = ", ".join(map(repr, known))
            then = f"choose one of: {names}" if names else "there is none yet"
            raise UsageError(f"there is no {what} {given!r} in {self.path}; {then}")
