"""What is settled for the whole process before anything else: its three streams, threads and memory."""

from __future__ import annotations

import ctypes
import gc
import io
import os
import sys

from stages.core.resources import freeze_objects

# As malloc.h has them.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def debugging() -> bool:
    """Whether a person asked for tracebacks (COSMO_DEBUG=1)."""
    return os.environ.get("COSMO_DEBUG", "") not in ("", "0")


def set_up_process() -> None:
    """Set how threads wait and how the allocator keeps memory. What the environment says already, stays."""
    # Threads that spin for long starve each other when cores are shared: a training step on a busy 4-core machine
    # took 20 s, and 1.4 s when they sleep. A short spin (tens of microseconds) keeps that and wins back what
    # sleeping costs on an idle machine: 0.40 s a step against 0.56 s.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    if sys.platform == "linux" and "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        _keep_memory()


def open_streams() -> None:
    """Give this process the three streams: where it was started without one, a sink.

    Without it the next file that is opened would get the number of the missing stream, and with it whatever a library
    prints. Characters that a stream's encoding lacks are spelled out where they would end the command.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False)
            setattr(sys, name, opened)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_back_memory() -> None:
    """Collect garbage, and hand memory that is free back to the system where the allocator is glibc's.

    Once a turn of a recipe. A turn leaves holes of other sizes in what `_keep_memory` keeps for the steps in it, and
    some 40 MiB that only the collector can free: a trainer of transformers refers to itself.
    """
    # Python's own full collection waits until a quarter as many objects are new as are old, and half a million come
    # with imports: it would not run in twenty turns.
    gc.collect()
    # Once, when all is imported and loaded: from here on a collection looks at what came later alone.
    freeze_objects()
    # The C library of this very process; musl has no `malloc_trim`.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _keep_memory() -> None:
    """Have glibc keep freed memory: a training step frees and takes the same tens of megabytes over and over.

    Giving it back to the kernel each time cost a fifth of the step in page faults.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        # `mallopt` takes a C int.
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        # The largest that glibc takes on 64 bits.
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
