"""Kills: before each of a command's file operations by number, and at random moments; then the same command again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.campaign.chain import Faults, call, contents, fresh, staged

OPERATIONS = ("fsync", "link", "mkdir", "open", "remove", "rename", "replace", "rmdir", "unlink")


def kills(reference: Path, commands: dict[str, list[str]], count: int, rng: random.Random, faults: Faults) -> int:
    """Kill `count` commands, each on a copy of the finished chain without that command's run; how many died."""
    expected = contents(reference / "runs")
    died = 0
    for number in range(count):
        name = rng.choice(sorted(commands))
        folder = fresh(reference, "killed")
        forget(folder, name, commands[name])
        at_operation = number % 2 == 0
        how = _at_operation(rng.randrange(400)) if at_operation else _after(rng.random() * 2.0)
        first = call(commands[name], folder, how)
        died += first.code == -signal.SIGKILL
        what = f"kill {number} of {name} ({'operation' if at_operation else 'moment'})"
        faults.look(f"{what}, first", first, codes=(0, -signal.SIGKILL))
        again = call(commands[name], folder)
        faults.look(f"{what}, again", again, codes=(0,))
        compare(what, folder, expected, faults)
        if again.code == 0 and not again.path:
            faults.found.append(f"{what}: no path was printed")
    return died


def forget(folder: Path, name: str, command: list[str]) -> None:
    """Take the run that the command made away, and what was made of it: the command has to do its work again."""
    done = call(command, folder)
    if name == "run":
        shutil.rmtree(folder / "runs")
        return
    assert done.path, (name, done)
    shutil.rmtree(folder / done.path)


def compare(what: str, folder: Path, expected: dict[str, Any], faults: Faults) -> None:
    """Note runs whose rows or weights are others than they were, and what is left in them or written beside them."""
    found = contents(folder / "runs")
    # Without the runs of other commands, where all were taken away.
    wrong = [name for name, value in found.items() if expected.get(name) != value]
    if wrong:
        faults.found.append(f"{what}: {len(wrong)} files differ: {wrong[:3]}")
    if left := staged(folder / "runs"):
        faults.found.append(f"{what}: left behind: {left[:3]}")
    faults.strays(what, folder, {"rows.jsonl", "completions.jsonl", "recipe.toml"})


def _at_operation(number: int) -> Callable[[], None]:
    """In the fork: die before the n-th file operation of whatever thread."""

    def before() -> None:
        left, lock = [number], threading.Lock()

        def counted(plain: Callable[..., Any]) -> Callable[..., Any]:
            def operation(*given: Any, **named: Any) -> Any:
                with lock:
                    left[0] -= 1
                    if left[0] < 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                return plain(*given, **named)

            return operation

        for name in OPERATIONS:
            setattr(os, name, counted(getattr(os, name)))

    return before


def _after(seconds: float) -> Callable[[], None]:
    """In the fork: die so much later, wherever it is then."""

    def before() -> None:
        def wait() -> None:
            time.sleep(seconds)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=wait, daemon=True).start()

    return before
