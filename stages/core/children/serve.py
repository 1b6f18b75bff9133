"""The child's side of `pool`: answers the jobs of a file, one JSON line a job.

It can't outlive its parent: its input ends when the parent dies, and while it is busy the kernel's alarm
ends it soon after the job's limit, even inside C code. Runs as a plain script; imports nothing of ours.

The file that it is given has `MEMORY_BYTES`, `start()`, which loads what the jobs need or raises ImportError, and
`answer(job)`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any


def _loaded(path: str) -> Any:
    """The module of a file, whose folder is not on the import path."""
    spec = importlib.util.spec_from_file_location("jobs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["jobs"] = module
    spec.loader.exec_module(module)
    return module


def _in_use() -> int:
    """Bytes of address space that this process has; 0 where the system does not say."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    return 0


def serve(path: str) -> None:
    """Answer jobs until the input ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; our input ends with it
    # The default action ends the process even inside C code; a Python handler would wait for the interpreter.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    jobs = _loaded(path)
    try:
        jobs.start()
        hello: dict[str, object] = {"ready": os.getpid()}
    except ImportError as error:
        hello = {"error": str(error)}
    # Libraries reserve address space by the machine's cores: only what the jobs add is counted.
    most = _in_use() + jobs.MEMORY_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    print(json.dumps(hello), file=out, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        # Processor time: what is easy on a quiet machine is not too hard on a busy one.
        signal.setitimer(signal.ITIMER_PROF, job["limit_s"])
        try:
            answer = jobs.answer(job)
        except (Exception, RecursionError, MemoryError) as error:
            answer = {"error": f"{type(error).__name__}: {str(error)[:200]}"}
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
