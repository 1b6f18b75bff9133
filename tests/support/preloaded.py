"""`cosmo` in a process of its own that starts with torch and transformers imported: tenths of a second for five.

A server per test process imports what others wrote, and nothing of ours, and forks for each command. The forked process
gets the caller's words, environment, folder, stdin, stdout and stderr, imports ours from `PYTHONPATH` and runs what the
console script `cosmo` runs. What a bare start imports and how, tests with `tests.support.cli` see: those of the command
line, of bad input, of the wheel, and the first run of each stage in `tests/integration/test_chain.py`.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import importlib
import json
import os
import select
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.cli import PATIENCE, ROOT, environment

PRELOADED = (
    "accelerate",
    "datasets",
    "jinja2",
    "numpy",
    "pandas",
    "peft",
    "PIL.Image",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "pydantic",
    "rich",
    "safetensors.torch",
    "scipy.stats",
    "torch.distributed.fsdp",
    "torch.utils.tensorboard",
    "transformers.generation.utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.processing_auto",
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
    "transformers.models.llama.modeling_llama",
    "transformers.trainer",
    "typer",
)
# What `cosmo` is on the PATH: it hands over its three streams, waits, and ends as the command did.
CLIENT = """#!{python} -SE
import array, json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
said = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
server.sendmsg([len(said).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
server.sendall(said)
answers = server.makefile()
answers.readline()
code = int(answers.readline())
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


_servers: list[subprocess.Popen[bytes]] = []


@cache
def folder() -> Path:
    """A folder for the head of PATH in which `cosmo` is this; its server ends with this process."""
    made = Path(tempfile.mkdtemp(prefix="cosmo-preloaded-"))
    address = made / "socket"
    (made / "cosmo").write_text(CLIENT.format(python=sys.executable, address=str(address)), encoding="utf-8")
    (made / "cosmo").chmod(0o755)
    command = [sys.executable, "-m", "tests.support.preloaded", str(address)]
    # Nothing is ever written into the pipe: it closes when this process is gone, however it went.
    server = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment(), cwd=made)
    _servers.append(server)
    until = time.monotonic() + PATIENCE
    while not (made / "ready").exists():
        assert server.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    return made


def cosmo(*args: object, cwd: Path, stdin: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """`cosmo ARGS` to its end, as `tests.support.cli.cosmo` runs it."""
    options: dict[str, Any] = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    command = [str(folder() / "cosmo"), *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=environment(**env), capture_output=True, text=True, **options)


def ok(*args: object, cwd: Path, **env: str) -> Path:
    """`cosmo ARGS` that must succeed; the run folder it printed."""
    done = cosmo(*args, cwd=cwd, **env)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1, done.stdout
    return cwd / lines[0]


def path() -> str:
    """The PATH on which `cosmo` is this."""
    return f"{folder()}:{os.environ['PATH']}"


class Started:
    """A running `cosmo ARGS` whose stdout and stderr nobody reads, to be killed."""

    def __init__(self, *args: object, cwd: Path) -> None:
        self.server = socket.socket(socket.AF_UNIX)
        self.server.connect(str(folder() / "socket"))
        said = json.dumps([[*map(str, args)], str(cwd), environment()]).encode()
        nothing = os.open(os.devnull, os.O_RDWR)
        streams = array.array("i", [nothing] * 3)
        self.server.sendmsg([len(said).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
        self.server.sendall(said)
        os.close(nothing)
        # Unbuffered, so that what has come and was not read can be asked for.
        self.answers = self.server.makefile("rb", buffering=0)
        self.pid = int(self.answers.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """How it ended, None while it runs."""
        ended = self.returncode is not None or select.select([self.server], [], [], 0)[0]
        return self.wait() if ended else None

    def wait(self) -> int:
        """How it ended: an exit code, or minus the number of a signal."""
        if self.returncode is None:
            self.returncode = int(self.answers.readline())
            self.server.close()
        return self.returncode

    def kill(self) -> int:
        """SIGKILL, and what `wait` says."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        return self.wait()


def _read(conn: socket.socket) -> tuple[list[int], list[str], str, dict[str, str]]:
    head, ancillary, _, _ = conn.recvmsg(8, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    streams = array.array("i")
    streams.frombytes(ancillary[0][2])
    size, said = int.from_bytes(head, "big"), b""
    while len(said) < size:
        said += conn.recv(size - len(said))
    return list(streams), *json.loads(said)


def _become_cosmo(streams: list[int], words: list[str], cwd: str, env: dict[str, str]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    # As for a console script: its own folder, then PYTHONPATH. And whoever is started from here knows no other main.
    given = [p for p in env.get("PYTHONPATH", "").split(os.pathsep) if p]
    sys.path[:] = [str(Path(sys.executable).parent), *given, *sys.path]
    sys.argv = ["cosmo", *words]
    sys.modules["__main__"] = types.ModuleType("__main__")
    from cosmo_cli.app import entry

    try:
        entry()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else ended.code is not None
    except BaseException:
        traceback.print_exc()
        code = 1
    # What an interpreter does at its end, without taking everything imported apart, which costs as much as it saves.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _serve(address: str) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(64)
    watched = selectors.DefaultSelector()
    watched.register(listening, selectors.EVENT_READ)
    watched.register(0, selectors.EVENT_READ)
    (Path(address).parent / "ready").touch()
    running: dict[int, socket.socket] = {}
    while True:
        for key, _ in watched.select():
            if key.fd == 0:
                return
            if key.fileobj is listening:
                conn = listening.accept()[0]
                streams, *rest = _read(conn)
                pid = os.fork()
                if pid == 0:
                    watched.close()
                    listening.close()
                    conn.close()
                    for other in running.values():
                        other.close()
                    _become_cosmo(streams, *rest)
                for stream in streams:
                    os.close(stream)
                running[pid] = conn
                conn.sendall(f"{pid}\n".encode())
                watched.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
            else:
                watched.unregister(key.fd)
                os.close(key.fd)
                code = os.waitstatus_to_exitcode(os.waitpid(key.data, 0)[1])
                with running.pop(key.data) as conn:
                    # Who asked may be gone.
                    conn.settimeout(PATIENCE)
                    with contextlib.suppress(OSError):
                        conn.sendall(f"{code}\n".encode())


if __name__ == "__main__":
    # Before torch, as the command itself has it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    for module in PRELOADED:
        importlib.import_module(module)
    # The caller's PYTHONPATH says where ours lies.
    sys.path[:] = [p for p in sys.path if Path(p) not in (ROOT, Path.cwd())]
    for name in [n for n in sys.modules if n.split(".")[0] == "tests"]:
        del sys.modules[name]
    _serve(sys.argv[1])
    shutil.rmtree(Path(sys.argv[1]).parent, ignore_errors=True)
    os._exit(0)
