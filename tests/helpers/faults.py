"""A scoring job whose workers have a fault: python tests/helpers/faults.py FAULT STORE RUN.

The workers are forked from a server that has loaded certain modules. This file is loaded there
too, as `faults`, and puts the fault named by $FAULT in place. Where it struck is in $FAULT_LOG.
"""

import os
import signal
import sys
from pathlib import Path

DIES_AT = 216


def struck(what: object) -> None:
    with Path(os.environ["FAULT_LOG"]).open("a") as log:
        log.write(f"{os.getpid()} {what}\n")


def memory_for_few() -> None:
    """Batches of more than a few sequences are refused, by torch's own allocator."""
    import torch

    from premem_core.models import transformers_backend

    engine = transformers_backend.TransformersBackend
    generate, measure = transformers_backend.generate, engine._batch_scores

    def allocate(sequences: int, most: int) -> None:
        if sequences > most:
            struck(sequences)
            torch.empty(1 << 50)

    def small_generate(backend, requests, sampling, stopper):
        allocate(sum(len(request.numbers) for request in requests), 10)
        return generate(backend, requests, sampling, stopper)

    def measure_few(backend, targets):
        allocate(len(targets), 5)
        return measure(backend, targets)

    transformers_backend.generate = small_generate
    engine._batch_scores = measure_few  # type: ignore[method-assign]


def memory_for_a_smaller_engine() -> None:
    """Nothing can be sampled until a worker was started with a quarter of the batches."""
    from premem_core.models import transformers_backend

    generate = transformers_backend.generate

    def late_generate(backend, *arguments):
        if backend.batch_divisor < 4:
            struck(backend.batch_divisor)
            raise MemoryError
        return generate(backend, *arguments)

    transformers_backend.generate = late_generate


def killed_while_loading() -> None:
    """The worker of one checkpoint gets SIGKILL, each time."""
    from premem_core.scoring.executors import worker

    load = worker.Worker._load

    def deadly_load(self, checkpoint, assignment):
        if checkpoint.step == DIES_AT:
            struck(checkpoint.step)
            os.kill(os.getpid(), signal.SIGKILL)
        return load(self, checkpoint, assignment)

    worker.Worker._load = deadly_load  # type: ignore[method-assign]


def killed_between_adapters() -> None:
    """A worker that has two adapters gets SIGKILL once, done with the first."""
    from premem_core.scoring.executors import worker

    work = worker.Worker.work

    def deadly_work(self, assignment, report):
        def deadly_report(event):
            log = Path(os.environ["FAULT_LOG"])
            if event.kind == "loading" and event.step == DIES_AT and not log.exists():
                struck(event.step)
                os.kill(os.getpid(), signal.SIGKILL)
            report(event)

        return work(self, assignment, deadly_report)

    worker.Worker.work = deadly_work  # type: ignore[method-assign]


if __name__ == "faults" and "FAULT" in os.environ:
    globals()[os.environ["FAULT"]]()

if __name__ == "__main__":
    from premem_core.scoring import job_process
    from premem_core.scoring.executors import local
    from premem_core.store.database import Store

    os.environ["FAULT"], store, run = sys.argv[1:]
    local.PRELOADED.append("faults")
    end = job_process.run_job(Store(store), run)
    print(end.state)
    print(end.message)
