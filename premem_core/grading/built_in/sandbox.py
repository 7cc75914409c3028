"""A sandbox: a stranger's Python program runs without network, and writes to one folder only.

The Linux kernel isolates it, by the tools of util-linux (`unshare`, `mount`, `setpriv`, `prlimit`):

- own namespaces: an empty network, no process but its own, no other mounts. All its processes end
  with it, and it ends with this process.
- a root folder of its own, in memory: this Python, its packages and the system's libraries,
  read-only, and an empty scratch folder. Nothing else of this machine is there to be read.
- an unprivileged user without capabilities, who cannot get any back (a process in a chroot cannot
  create a user namespace).
- limits on time, memory of each process, processes, and the size of files. Its output goes nowhere.

What does not hold: nothing limits the memory of all its processes together, and a program that
looks for the way in which its driver says "passed" can say so itself.

`protection` runs a program that tries to break out, and names what does not hold on this machine.
"""

import contextlib
import json
import os
import random
import secrets
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

Outcome = Literal["passed", "failed", "syntax", "limit"]
OUTCOMES: tuple[Outcome, ...] = ("passed", "failed", "syntax", "limit")

_TOOLS = ("unshare", "mount", "setpriv", "prlimit", "chroot")
_PROCESSES = 8  # of one program, threads included
_SCRATCH = 64 * 2**20  # bytes of all files together
_LONGEST_FILE = 16 * 2**20
_OPEN_FILES = 64
_SLOWEST_START = 30.0  # s until the program begins, on a machine under load

# It runs in the namespaces, as their root: $1 is the new root folder, and the lines of $2 are what
# is in it. A read-only bind must keep the options that it has, such as nosuid. The shell stays the
# first process: when it ends, the kernel ends all others, and none of them can end its ties to us.
_SET_UP = r"""
set -e
root=$1; places=$2; shift 2
mount -t tmpfs -o mode=0755,size=1m premem "$root"
while IFS= read -r place; do
  mkdir -p "$root${place%/*}"
  if [ -d "$place" ]; then mkdir -p "$root$place"; else : > "$root$place"; fi
  mount --rbind "$place" "$root$place"
done < "$places"
while read -r _ _ _ _ at options _; do
  case $at in "$root"/*) mount -o "remount,bind,ro,${options#r[wo],}" "$at";; esac
done < /proc/self/mountinfo
mkdir "$root/scratch"
mount -t tmpfs -o "mode=0777,size=$SCRATCH,nosuid,nodev" premem "$root/scratch"
mount -o remount,bind,ro "$root"
echo 0 2> /dev/null > /proc/sys/kernel/shmall || :
chroot "$root" "$@" || exit 1
exit 0
"""

# It runs in the sandbox, and reads what to do from its standard input. The program is a module of
# another name than __main__, as in other harnesses: what it does only as a script is not tested.
_DRIVER = r"""
import json, os, sys, types
job = json.loads(sys.stdin.buffer.read())
out = os.dup(1)
null = os.open("/dev/null", os.O_RDWR)
for stream in (0, 1, 2):
    os.dup2(null, stream)
def say(outcome):
    os.write(out, (job["token"] + outcome + "\n").encode())
def parse(code):
    for prefix in ("", *job["prefixes"]):
        try:
            compile(prefix + code, "program.py", "exec")
            return prefix + code
        except (SyntaxError, ValueError):
            pass
def run(code):
    module = types.ModuleType("program")
    sys.modules["program"], sys.argv = module, ["program.py"]
    exec(compile(code + "\n\n" + job["tests"], "program.py", "exec"), module.__dict__)
os.chdir("/scratch")
say("began")
outcome = "failed"
try:
    code = parse(job["code"])
    if code is None:
        outcome = "syntax"
    else:
        run(code)
        outcome = "passed"
except MemoryError:
    outcome = "limit"
except BaseException:
    pass
say(outcome)
os._exit(0)
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use: seconds, and bytes of memory of each of its processes."""

    seconds: float = 10.0
    memory: int = 1024 * 2**20


def run_python(
    code: str, tests: str, limits: Limits = Limits(), prefixes: Sequence[str] = ()
) -> Outcome:
    """Run a program and then its tests, in one namespace, in a sandbox.

    Args:
        prefixes: are put before the code, one after the other, where it is no Python alone.

    Returns:
        "passed" if it ran to its end, "failed" if it raised an error or ended early, "syntax" if
        it is no Python, "limit" if it ran out of time or memory.
    """
    return _run(code, tests, limits, prefixes)[0]


@cache
def protection() -> str:
    """What is missing here for a sandbox, in words; "" if it holds."""
    if sys.platform != "linux":
        return "a sandbox needs Linux"
    missing = [tool for tool in _TOOLS if not shutil.which(tool)]
    if missing:
        return f"a sandbox needs {', '.join(missing)} of util-linux and coreutils"
    limits = Limits(_SLOWEST_START, 256 * 2**20)
    outcome, printed = _run("", "", limits)
    if outcome != "passed":
        return (
            f"the sandbox cannot be set up ({printed}); the kernel and the container must allow "
            "namespaces and mounts (`unshare --user --net --mount true` must work, or this must be "
            "root with CAP_SYS_ADMIN), and Python must start in it"
        )
    broken = [
        what for what, attempt in _ATTEMPTS.items() if run_python(attempt, "", limits) != "passed"
    ]
    return f"the sandbox does not hold here: {', '.join(broken)}" if broken else ""


# Each passes if the attempt fails. "limit" is no pass either.
_ATTEMPTS = {
    "a program can reach the network": """
import errno, socket
try:
    socket.create_connection(("192.0.2.1", 9), 1)
except OSError as error:
    assert error.errno == errno.ENETUNREACH
else:
    raise AssertionError
""",
    "a program can write outside its folder": """
import os, sys
python = os.path.dirname(sys.executable), os.path.dirname(os.__file__)
for place in ("/", "/usr", "/etc", "/dev", *python):
    try:
        open(os.path.join(place, "premem-was-here"), "w")
    except OSError:
        continue
    raise AssertionError
""",
    "a program can start any number of processes": """
import os, time
for n in range(64):
    try:
        if os.fork() == 0:
            time.sleep(5)
            os._exit(0)
    except OSError:
        break
else:
    raise AssertionError
""",
    "a program can use any amount of memory": """
try:
    len(bytearray(1 << 32))
except MemoryError:
    pass
else:
    raise AssertionError
""",
    "a program can become root again": """
import ctypes
assert ctypes.CDLL(None).unshare(0x10000000) == -1
""",
}


def _run(
    code: str, tests: str, limits: Limits, prefixes: Sequence[str] = ()
) -> tuple[Outcome, str]:
    """How a program ended, and the last line that the sandbox printed before it began."""
    token = secrets.token_hex(16)
    job = {"code": code, "tests": tests, "prefixes": list(prefixes), "token": token}
    with tempfile.TemporaryDirectory(prefix="premem-sandbox-") as name:
        folder = Path(name)
        (folder / "root").mkdir()
        (folder / "places").write_text("\n".join(_places()) + "\n")
        (folder / "job").write_text(json.dumps(job))
        outcome = _run_job(folder, token, limits)
        printed = (folder / "printed").read_text(errors="replace").split("\n")
    lines = [line.strip() for line in printed if line.strip()]
    return outcome, lines[-1] if lines else "it printed nothing"


def _run_job(folder: Path, token: str, limits: Limits) -> Outcome:
    with (folder / "job").open("rb") as stdin, (folder / "printed").open("wb") as printed:
        process = subprocess.Popen(
            _command(folder, limits),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=printed,  # the driver closes it before the program begins
            env={"PATH": os.environ.get("PATH", os.defpath), "SCRATCH": str(_SCRATCH)},
            start_new_session=True,
        )
    with process:
        try:
            return _outcome(process, token, limits.seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _outcome(process: subprocess.Popen[bytes], token: str, seconds: float) -> Outcome:
    """Wait for what the driver says. The program's time counts from when it begins."""
    assert process.stdout
    said, deadline = b"", time.monotonic() + _SLOWEST_START
    began = f"{token}began\n".encode()
    # Who writes on and on is not heard: what the driver says fits in the first bytes.
    while len(said) < 1000:
        left = max(0.0, deadline - time.monotonic())
        if not select.select([process.stdout], [], [], left)[0]:
            return "limit"
        piece = os.read(process.stdout.fileno(), 200)
        if not piece:
            return "failed"
        if began in said + piece and began not in said:
            deadline = time.monotonic() + seconds
        said += piece
        for outcome in OUTCOMES:
            if f"{token}{outcome}\n".encode() in said:
                return outcome
    return "failed"


def _command(folder: Path, limits: Limits) -> list[str]:
    root = os.geteuid() == 0
    # Root's processes are not limited in number. A user who exists nowhere else also shares no
    # limit with other sandboxes; systemd uses this range for the same purpose.
    user = str(random.randrange(61184, 65520)) if root else ""
    return [
        *("setpriv", "--pdeathsig", "KILL", "unshare"),
        *(() if root else ("--user", "--map-root-user")),
        *("--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child=KILL"),
        *("sh", "-c", _SET_UP, "sh", str(folder / "root"), str(folder / "places")),
        *("setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"),
        *(("--reuid", user, "--regid", user, "--clear-groups") if root else ()),
        *("env", "-i", "OPENBLAS_NUM_THREADS=1", "OMP_NUM_THREADS=1", "PYTHONDONTWRITEBYTECODE=1"),
        *("prlimit", f"--as={limits.memory}", f"--nproc={_PROCESSES}", f"--fsize={_LONGEST_FILE}"),
        *(f"--nofile={_OPEN_FILES}", "--core=0", "--stack=8388608"),
        *(sys.executable, "-I", "-c", _DRIVER),
    ]


@cache
def _places() -> list[str]:
    """What of this machine a program can read: Python, its packages, the system's libraries."""
    system = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/etc/ld.so.cache"]
    system += ["/dev/null", "/dev/zero", "/dev/urandom"]
    python = [sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()]
    python += [str(Path(sys.executable).resolve().parents[1]), str(Path(sys.executable).parent)]
    python += [os.path.realpath(place) for place in python]  # a link may lead to it
    places: list[str] = []
    for place in [*system, *sorted(python, key=len)]:
        inside = any(place == there or place.startswith(f"{there}/") for there in places)
        if os.path.lexists(place) and not inside:
            places.append(place)
    return places
