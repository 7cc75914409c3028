"""The sandbox: what a program may do, and that it cannot do more, as root and as another user."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from premem_core.errors import UsageError
from premem_core.grading.built_in import sandbox
from premem_core.grading.built_in.code_grader import CodeGrader
from premem_core.grading.built_in.sandbox import Limits, protection, run_python

pytestmark = pytest.mark.skipif(bool(protection()), reason=protection())

QUICK = Limits(seconds=1.5, memory=256 * 2**20)


def test_a_program_runs_with_its_tests_and_packages():
    assert run_python("def double(x):\n    return 2 * x", "assert double(2) == 4") == "passed"
    assert run_python("import numpy", "assert numpy.arange(3).sum() == 3") == "passed"
    assert run_python("open('notes', 'w').write('x')", "assert open('notes').read()") == "passed"
    assert run_python("", "assert open('notes')") == "failed"  # of another program


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("while True: pass", "limit"),
        ("import time; time.sleep(60)", "limit"),
        ("data = bytearray(10 * 2**30)", "limit"),
        ("data = []\nwhile True: data.append(bytearray(2**20))", "limit"),
        ("import sys; sys.exit(0)", "failed"),
        ("import os; os._exit(0)", "failed"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "failed"),
        ("import ctypes; ctypes.string_at(0)", "failed"),
        ("def f(): f()\nf()", "failed"),
        ("def f(:", "syntax"),
        ("x = '\0'", "syntax"),
        ("print('passed\\n' * 1000)", "passed"),
        ("if __name__ == '__main__': raise SystemExit(1)", "passed"),
    ],
)
def test_the_outcome_says_how_a_program_ended(code, outcome):
    begun = time.monotonic()
    assert run_python(code, "", QUICK) == outcome
    assert time.monotonic() - begun < 20


def test_a_program_that_is_no_python_alone_is_tried_behind_its_question():
    question = 'def double(x):\n    """Twice x."""\n'
    assert run_python("    return 2 * x", "assert double(2) == 4", prefixes=[question]) == "passed"
    assert run_python("return 2 *", "", prefixes=[question]) == "syntax"


def test_ten_gigabytes_of_output_are_heard_by_no_one():
    code = "import os\nfor n in range(10 * 2**10): os.write(1, bytes(2**20))"
    assert run_python(code, "", Limits(20)) == "passed"
    loud = (
        "import os\nwhile True:\n    for n in range(3, 9):\n        try: os.write(n, bytes(9999))\n"
    )
    assert run_python(loud + "        except OSError: pass", "", QUICK) in ("failed", "limit")


@pytest.mark.parametrize("family", ["INET", "UNIX"])
def test_a_program_reaches_no_socket_of_this_machine(family):
    address = ("127.0.0.1", 0) if family == "INET" else f"\0premem-{uuid.uuid4()}"
    with socket.socket(getattr(socket, f"AF_{family}")) as listening:
        listening.bind(address)
        listening.listen()
        place = listening.getsockname()
        code = f"import socket\nsocket.socket(socket.AF_{family}).connect({place!r})"
        assert run_python(code, "", QUICK) == "failed"
        with socket.socket(getattr(socket, f"AF_{family}")) as reached:
            reached.connect(place)


def test_a_program_writes_and_reads_nothing_of_this_machine(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o666)
    outside = [str(secret), str(Path(sandbox.__file__)), "/etc/passwd", "/proc/1/environ"]
    check = f"import os\nassert not any(map(os.path.exists, {outside!r}))"
    assert run_python(check, "", QUICK) == "passed"
    mark = f"premem-{uuid.uuid4()}"
    for folder in ("/", "/usr", "/usr/lib", "/dev", "/tmp", sys.prefix):
        assert run_python(f"open({folder!r} + '/{mark}', 'w')", "", QUICK) == "failed"
        assert not Path(folder, mark).exists()
    assert run_python("import os\nassert 'PATH' not in os.environ\nassert os.getuid()", "") == (
        "passed" if os.geteuid() == 0 else "failed"
    )


def test_a_scratch_folder_has_an_end():
    code = "for n in range(99): open(str(n), 'wb').write(bytes(8 * 2**20))"
    assert run_python(code, "", QUICK) == "failed"


def test_a_fork_bomb_ends_and_leaves_no_process():
    before = psutil.pids()
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    assert run_python(bomb, "", QUICK) == "limit"
    assert len(psutil.pids()) < len(before) + 20


@pytest.mark.parametrize("first", ["", "os.setsid()"])
def test_a_child_does_not_outlive_its_program(first):
    mark = f"premem-{uuid.uuid4()}"
    code = f"import os, sys\n{first}\nif os.fork() == 0:\n    os.setsid()\n"
    code += "    if os.fork() == 0:\n"
    sleeping = ["python", "-c", "import time; time.sleep(99)", mark]
    code += f"        os.execv(sys.executable, {sleeping!r})"
    code += "\nimport time; time.sleep(0.3)"
    assert run_python(code, "", QUICK) == "passed"
    for _ in range(100):  # the kernel ends a namespace's processes, and lists them for a moment
        if not processes_with(mark):
            break
        time.sleep(0.05)
    assert not processes_with(mark)


def test_a_program_dies_with_the_process_that_runs_it():
    mark = f"premem-{uuid.uuid4()}"
    code = (
        f"import os, sys; os.execv(sys.executable, ['python', '-c', 'while True: pass', {mark!r}])"
    )
    run = (
        f"from premem_core.grading.built_in.sandbox import *; run_python({code!r}, '', Limits(60))"
    )
    process = subprocess.Popen([sys.executable, "-c", run])
    deadline = time.monotonic() + 20
    while not processes_with(mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes_with(mark)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while processes_with(mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not processes_with(mark)


def processes_with(mark: str) -> list[int]:
    """The processes that were started with this argument, without the one that starts them."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if mark in (process.info["cmdline"] or []):
            found.append(process.pid)
    return found


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/usr/bin/python3").exists(),
    reason="needs root, who can become another user, and a Python that this user can read",
)
def test_the_sandbox_also_holds_for_a_user_without_rights():
    program = Path(sandbox.__file__).read_text() + "\nprint([os.geteuid(), protection()])\n"
    user = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"]
    done = subprocess.run(
        [*user, "/usr/bin/python3", "-"], input=program, capture_output=True, text=True, cwd="/"
    )
    assert done.stdout == "[54321, '']\n", done.stderr


def test_without_protection_no_program_is_run(monkeypatch):
    monkeypatch.setattr(sandbox, "protection", lambda: "a sandbox needs Linux")
    with pytest.raises(UsageError, match="cannot run programs safely here: a sandbox needs Linux"):
        CodeGrader()


def test_a_sandbox_that_lacks_python_says_so(monkeypatch):
    monkeypatch.setattr(sandbox, "_places", lambda: ["/usr", "/bin", "/lib", "/lib64"])
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert "(prlimit: failed to execute /nowhere/python: No such" in protection.__wrapped__()


def test_a_python_that_a_linked_folder_leads_to_runs_in_the_sandbox(monkeypatch, tmp_path):
    (tmp_path / "link").symlink_to(sys.prefix)
    (tmp_path / "venv").symlink_to(tmp_path / "link")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "bin" / "python"))
    monkeypatch.setattr(sandbox, "_places", sandbox._places.__wrapped__)
    assert run_python("import numpy", "", QUICK) == "passed"


def test_protection_names_what_is_missing(monkeypatch):
    undecorated = protection.__wrapped__
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "setpriv" else tool)
    assert undecorated() == "a sandbox needs setpriv of util-linux and coreutils"
    monkeypatch.undo()
    monkeypatch.setattr(sandbox, "run_python", lambda *_: "failed")
    assert "does not hold here: a program can reach the network" in undecorated()
    monkeypatch.setattr(sandbox, "_run", lambda *_: ("failed", "unshare: no"))
    assert undecorated().startswith("the sandbox cannot be set up (unshare: no); the kernel and")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert undecorated() == "a sandbox needs Linux"
