"""Only one of several ranks talks: silencing the others, and letting one that has to report a failure be heard."""

from __future__ import annotations

import os
import sys

from cosmo_cli.process import debugging
from stages.core.stage_list import STAGES

_kept_stderr: list[int] = []
"""Where stderr of a silenced rank went."""


def silence_output() -> None:
    """Send stdout and stderr nowhere: rank 0 says what all have to say, and the others' libraries talk to nobody."""
    if debugging() or _kept_stderr:
        return
    sys.stderr.flush()
    # Kept open under another number, so that it can be put back for a failure.
    _kept_stderr.append(os.dup(2))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    # Descriptors, as NCCL, gloo and their like write to them directly.
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def mute_stdout() -> None:
    """Send stdout nowhere, also what libraries write to its descriptor."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def should_report(verb: str, error: BaseException) -> bool:
    """Whether this process is to say what went wrong, its stderr restored where it was silenced.

    With several ranks the one that failed first says it, and its launcher ends the others while they wait in here.
    """
    if verb not in STAGES or not STAGES[verb].processes:
        return True
    import importlib

    if not importlib.import_module(STAGES[verb].processes).should_report(error):
        return False
    if _kept_stderr:
        os.dup2(_kept_stderr.pop(), 2)
    return True


def end_process(code: int) -> None:
    """Leave without taking anything down: gloo may abort a process whose peers are gone already."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
