"""What scoring does on a GPU, in one run of at most ten minutes; `gpu.sh` calls it.

Each part is a process of its own with a time limit. Its figures are kept as soon as it has them.

    bash benchmarks/gpu.sh OUT.json                     # on a machine with a GPU; no network needed
    bash benchmarks/gpu.sh OUT.json --part speed        # one part
    bash benchmarks/gpu.sh OUT.json --toy               # tiny sizes on the CPU
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.gpu.sizes import FULL, TOY

# Each part is a module with a function of its name, and its limit in seconds.
PARTS = {"correctness": 120, "speed": 210, "memory": 60, "two_jobs": 150}
NOT_RUN = "not run: no GPU"
FINE = ("done", NOT_RUN)


def run_part(name: str, toy: bool) -> dict[str, Any]:
    """Run a part in a process of its own, and return its state and figures."""
    if toy and name == "memory":
        return {"state": NOT_RUN, "figures": []}
    started = time.perf_counter()
    with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as figures:
        # It ends the part's own children too.
        limit = ["timeout", "--kill-after", "5", str(PARTS[name])]
        command = [*limit, sys.executable, "-m", "benchmarks.gpu.run", figures.name]
        command += ["--only", name, *(["--toy"] if toy else [])]
        code = subprocess.run(command, check=False).returncode
        found = [json.loads(line) for line in figures]
    failed = "timed out" if code in (124, 137) else f"failed (exit {code})"
    wrong = not all(figure.get("passed", True) for figure in found)
    state = failed if code else "done, with a result that is not as expected" if wrong else "done"
    return {"state": state, "seconds": time.perf_counter() - started, "figures": found}


def write_figures(name: str, file: Path, toy: bool) -> None:
    """Run a part in this process; write a line for each of its figures."""
    measure = getattr(import_module(f"benchmarks.gpu.{name}"), name)
    with file.open("a") as out:
        for figure in measure(TOY if toy else FULL, "cpu" if toy else "cuda"):
            line = json.dumps({"figure": type(figure).__name__, **asdict(figure)})
            print(f"{name}: {line}", flush=True)
            print(line, file=out, flush=True)


def machine() -> dict[str, str]:
    """What the figures depend on."""
    packages = ("torch", "transformers", "numpy", "duckdb", "pyarrow")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the JSON file")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--toy", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--only", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        write_figures(options.only, options.out, options.toy)
        return
    import torch

    if not options.toy and not torch.cuda.device_count():
        raise SystemExit("there is no GPU here; --toy walks through the parts on the CPU")
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"), "toy": options.toy, "versions": machine(), "parts": {},
    }  # fmt: skip
    for name in options.part:
        report["parts"][name] = part = run_part(name, options.toy)
        options.out.write_text(json.dumps(report, indent=1) + "\n")  # what is known by then
        print(f"{name}: {part['state']}", flush=True)
    raise SystemExit(any(part["state"] not in FINE for part in report["parts"].values()))


if __name__ == "__main__":
    main()
