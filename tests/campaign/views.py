"""`cosmo view`: damaged runs on its pages, and kills while a person speaks."""

from __future__ import annotations

import html
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from stages.judging.words import parse_words
from tests.campaign.chain import PATIENCE, Faults, fresh, runs_in
from tests.campaign.damage import damage_run
from tests.campaign.strangers import elsewhere_of, replaced
from tests.support.cli import COSMO, environment

ANSWERS = (200, 404, 422)
"""What a page may say: here it is, there is no such row, or what is wrong with the run."""
ADDRESSES = (
    "?page=2", "?order=spread&label=general", "?q=a&only=flat", "?order=low&least=0.5&kind=harmful", "image?row=0&n=0",
    "tokens?row=0&index=0", "tokens?row=3&index=1", "choices?row=0&index=0", "report",
)  # fmt: skip
"""Below a run's address, beside where its first page leads."""


@dataclass(slots=True)
class View:
    """A view at work."""

    address: str
    process: subprocess.Popen[str]

    @property
    def origin(self) -> str:
        """What a browser says that its requests come from."""
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc}"


@contextmanager
def serving(folder: Path, errors: Path) -> Iterator[View]:
    """`cosmo view` of the folder's runs, ended at the end; what it says of errors goes to a file."""
    with errors.open("a", encoding="utf-8") as file:
        process = subprocess.Popen(
            [*COSMO, "view", "runs", "--port", "0", "--words", "words.jsonl"], cwd=folder, env=environment(), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=file,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            yield View(process.stdout.readline().strip(), process)
        finally:
            process.kill()
            process.communicate()


def views(reference: Path, commands: dict[str, list[str]], count: int, rng: random.Random, faults: Faults) -> int:
    """Show `count` damaged runs, and kill a view for every tenth of them; how many pages said what is wrong."""
    told = _pages(fresh(reference, "viewed"), count, rng, faults)
    for number in range(count // 10):
        _spoken(f"view {number}", fresh(reference, "spoken"), rng, faults)
    return told


def _pages(folder: Path, count: int, rng: random.Random, faults: Faults) -> int:
    """How many pages of damaged runs said what is wrong; notes those that failed otherwise, and what was written."""
    runs = runs_in(folder)
    elsewhere, ways = elsewhere_of(folder), {}
    for number in range(count):
        run = rng.choice(runs)
        theirs = folder / "runs" / f"theirs-{number}"
        shutil.copytree(run, theirs, symlinks=True)
        how = (
            replaced(theirs, elsewhere, rng) if rng.random() < 0.3 else str(damage_run(theirs, rng).relative_to(theirs))
        )
        ways[theirs.name] = f"{how} of a {run.name.partition('-')[0]} run"
    before, told = _files(folder), 0
    with serving(folder, folder / ".err") as view:
        for path in ("", "training", "state"):
            _page(f"view: {path}", view.address + path, faults)
        for name, how in ways.items():
            there, what = f"{view.address}run/{name}/", f"view of {how}"
            first = _page(what, there, faults)
            told += first.startswith("422")
            leads = [html.unescape(link) for link in re.findall(r"(?:row|image)\?[^\"]+", first)[:4]]
            for end in (*ADDRESSES, *leads, f"../../state?run={name}"):
                _page(f"{what}: {end}", there + end, faults)
    said = (folder / ".err").read_text()
    if "Traceback" in said:
        faults.found.append(f"views: {said[-1500:]}")
    after = _files(folder)
    if changed := [name for name in after if before.get(name) != after[name] and name != ".err"]:
        faults.found.append(f"views: written: {changed[:3]}")
    return told


def _page(what: str, address: str, faults: Faults) -> str:
    """What a page answers, its status first."""
    try:
        answer = httpx.get(address, timeout=PATIENCE)
    except httpx.HTTPError as error:
        faults.found.append(f"{what}: no answer: {error!r}"[:400])
        return ""
    if answer.status_code not in ANSWERS or "looks like a bug" in answer.text:
        faults.found.append(f"{what}: {answer.status_code}: {answer.text[:200]}")
    return f"{answer.status_code} {answer.text}"


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file."""
    found = {}
    for path in folder.rglob("*"):
        at = path.lstat()
        found[str(path.relative_to(folder))] = (at.st_size, at.st_mtime_ns)
    return found


def _spoken(what: str, folder: Path, rng: random.Random, faults: Faults) -> None:
    """Say words until the view is killed; every word that it took is kept, and the next one shows the last."""
    errors = folder / ".err"
    with serving(folder, errors) as view:
        run = next(iter(re.findall(r"run/(score-[^/\"]+)/", httpx.get(view.address, timeout=PATIENCE).text)))
        threading.Timer(rng.random() * 0.5, view.process.send_signal, [signal.SIGKILL]).start()
        taken = list(_words(view, run))
    lines = (folder / "words.jsonl").read_text().split("\n") if (folder / "words.jsonl").exists() else []
    kept = [word.why for word in parse_words(lines)]
    # The one that was under way may be there or not.
    if kept[: len(taken)] != taken or len(kept) > len(taken) + 1:
        faults.found.append(f"{what}: {len(taken)} words were taken and {len(kept)} kept")
    with serving(folder, errors) as view:
        page = httpx.get(f"{view.address}run/{run}/", timeout=PATIENCE)
        if page.status_code != 200 or (kept and kept[-1] not in page.text):
            faults.found.append(f"{what}: the last word is not shown: {page.status_code}")
    if "Traceback" in (said := errors.read_text()):
        faults.found.append(f"{what}: {said[-1500:]}")


def _words(view: View, run: str) -> Iterator[str]:
    """Reasons of words that the view said it has kept, until it is gone."""
    until, number = time.monotonic() + PATIENCE, 0
    with suppress(httpx.HTTPError):
        while time.monotonic() < until:
            body: dict[str, Any] = {"row": 0, "index": 0, "verdict": "good", "why": f"reason {number:05}"}
            answer = httpx.post(
                f"{view.address}run/{run}/word", json=body, headers={"origin": view.origin}, timeout=PATIENCE
            )
            assert answer.status_code == 200, answer.text
            yield body["why"]
            number += 1
