"""Runs that a view is tried on, and the addresses of its pages."""

from __future__ import annotations

from pathlib import Path

from starlette.testclient import TestClient

from cosmo_cli.view.library import Library
from cosmo_cli.view.pages import Pages
from cosmo_cli.view.server import application
from cosmo_cli.view.words import Words
from schemas.scored import ScoredGroup
from tests.eval.made import completion, grade, group

TOKEN = "a-token"
WORDS = ("red door", "blue boat", "a Bell", "drei Äpfel", "seven (7) pears")
VERDICTS = ("safe", "unsafe", None)


def client(*places: Path, who: str = "ana") -> TestClient:
    """A reader of these folders' runs, at addresses below the token."""
    pages = Pages(Library(list(places)), f"/{TOKEN}", Words(places[0] / "words.jsonl", who))
    return TestClient(application(pages, TOKEN), base_url="http://127.0.0.1:8421")


def varied(count: int) -> list[ScoredGroup]:
    """Groups that differ in all that a filter looks at."""
    found = []
    for n in range(count):
        rewards = [None] if n % 7 == 0 else [n % 3 / 2] * 3 if n % 3 == 0 else [0.0, n % 5 / 4, 1.0]
        made = [
            completion(
                grade("safety", 1.0, VERDICTS[(n + i) % 3]),
                index=i,
                text=f"<think> {WORDS[n % 4]} </think> answer {n * i}",
                reward=reward,
                finish="error" if n % 11 == 5 and i == 0 else "stop",
            )
            for i, reward in enumerate(rewards)
        ]
        harmful = (None, True, False)[n % 3]
        words = f"prompt {n}: {WORDS[n % 5]}"
        family = ("", "fiction")[n % 2] or None
        found.append(group(words, made, label=("general", "safety")[n % 2], family=family, harmful=harmful))
    return found
