"""The report: self-contained, escaped, and showing what was measured."""

from __future__ import annotations

import dataclasses
import html.parser
import io
import re
from pathlib import Path
from typing import Any

import pytest

from schemas.values import Image
from stages.core.config import build
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.eval.config import EvalConfig
from stages.eval.stage import STAGE
from tests.eval.made import (
    answered,
    attacked,
    completion,
    grade,
    group,
    label_stat,
    scored_run,
    step,
    steps_run,
)

HOSTILE = """<script>alert(1)</script><img src=x onerror=alert(2)> </details></article> "two" & 'one' {{ 7*7 }}"""


class Page(html.parser.HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input", "br", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> does not close what is open"

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def count(self, tag: str, **wanted: str) -> int:
        return sum(t == tag and all((a.get(k) or "") == v for k, v in wanted.items()) for t, a in self.tags)


def image(size: tuple[int, int], mode: str = "RGB") -> Image:
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.new(mode, size, "red").save(buffer, "PNG")
    return Image(buffer.getvalue(), "p.png")


def report(runs: Path, folders: list[RunFolder], **values: Any) -> str:
    config = build(EvalConfig, values, "eval")
    result = run_stage(STAGE, config, [f.path for f in folders], options=Options(runs=runs))
    return (result.path / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    """A report whose every field that comes from data is hostile."""
    card = completion(
        grade("safety", 0.0, HOSTILE), grade("format", 1.0, "well_formed"),
        text=f"<think> {HOSTILE} </think> {HOSTILE}", reward=1.0,
    )  # fmt: skip
    row = group(
        HOSTILE, [card], label=HOSTILE, task=HOSTILE, family=HOSTILE, harmful=True, answer=HOSTILE,
        images=[image((40, 30)), Image(b"not a picture", HOSTILE)], reward_formula=HOSTILE,
    )  # fmt: skip
    other = group("plain", [completion(grade("safety", 1.0, "safe_with_warning"), policy="bbbb")], harmful=True)
    folders = [scored_run(tmp_path, [row]), scored_run(tmp_path, [other])]
    steps = steps_run(tmp_path, [step(n, labels=[label_stat(HOSTILE, reward=1.0)]) for n in (1, 2)])
    return report(
        tmp_path, folders, names=[HOSTILE, "b"], title=HOSTILE, training=[str(steps.path)],
        heldout_families=[HOSTILE],
    )  # fmt: skip


def test_hostile_text_stays_text(hostile: str) -> None:
    page = Page(hostile)
    assert page.open == []
    assert page.count("script") == 1
    assert page.count("img") == 1
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert not any("style" in attrs for _, attrs in page.tags)
    assert any("<script>alert(1)</script>" in words for words in page.words)
    assert "49" not in [w.strip() for w in page.words]


def test_no_network(hostile: str) -> None:
    page = Page(hostile)
    for tag, attrs in page.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
            if attrs.get(name):
                assert re.match(r"data:image/(png|jpeg);base64,|#[a-z]+$", attrs[name] or ""), (tag, name)
    style = re.search(r"<style>(.*?)</style>", hostile, re.DOTALL)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert "http" not in re.search(r"<script>(.*?)</script>", hostile, re.DOTALL)[1]  # type: ignore[index]


def test_policy_allows_only_the_pages_own_script(hostile: str) -> None:
    import base64
    import hashlib

    script = re.search(r"<script>(.*?)</script>", hostile, re.DOTALL)
    assert script
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    policy = next(a["content"] or "" for t, a in Page(hostile).tags if a.get("http-equiv"))
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_undecodable_image_is_said(hostile: str) -> None:
    assert "can't be decoded" in hostile.replace("&#39;", "'")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_images_are_scaled_down(tmp_path: Path, mode: str) -> None:
    import base64

    from PIL import Image as Pillow

    row = answered("q", [True], images=[image((900, 300), mode)])
    text = report(tmp_path, [scored_run(tmp_path, [row])], image_pixels=120)
    source = next(a["src"] or "" for t, a in Page(text).tags if t == "img")
    with Pillow.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as opened:
        assert opened.size == (120, 40)


def test_size_is_bounded_and_prompts_are_spread_over_labels(tmp_path: Path) -> None:
    words = "word " * 2000
    rows = [answered(f"{i} {words}", [True]) for i in range(80)]
    rows += [attacked(f"{i} {words}", ["unsafe"], label="jailbreak", family="mirror") for i in range(4)]
    folder = scored_run(tmp_path, rows)
    text = report(tmp_path, [folder], sample_megabytes=0.1)
    assert len(text) < 250_000
    page = Page(text)
    labels = [a["data-label"] for t, a in page.tags if t == "article"]
    assert labels[:2] == ["general", "jailbreak"]
    assert 4 < len(labels) < 60


def test_sample_is_seeded(tmp_path: Path) -> None:
    folder = scored_run(tmp_path, [answered(f"q{i}", [True]) for i in range(40)])

    def shown(seed: int) -> list[str]:
        text = report(tmp_path, [folder], sample=5, seed=seed)
        return re.findall(r'class="id">([0-9a-f]+)<', text)

    assert len(shown(0)) == 5
    assert shown(0) == shown(0)
    assert shown(0) != shown(1)


def test_both_policies_completions_stand_beside_each_other(tmp_path: Path) -> None:
    a = scored_run(tmp_path, [answered("same question", [True], policy="aaaa")])
    b = scored_run(
        tmp_path,
        [answered("same question", [False], policy="bbbb"), answered("only b", [True], policy="bbbb")],
    )
    text = report(tmp_path, [a, b], names=["start", "final"])
    page = Page(text)
    assert page.count("article") == 2
    assert text.count("Was not asked.") == 1
    assert "bad_image" in text
    assert a.fingerprint[:12] in text


def test_curves_break_where_steps_start_again(tmp_path: Path) -> None:
    from stages.eval.report.curves import charts

    first = steps_run(tmp_path, [step(n, reward_mean=float(n)) for n in range(1, 4)])
    second = steps_run(tmp_path, [step(n, reward_mean=10.0 + n) for n in range(1, 3)])
    reward = next(c for c in charts([first, second]) if c.title == "Reward")
    assert reward.series[0].segments == [[(1, 1.0), (2, 2.0), (3, 3.0)], [(1, 11.0), (2, 12.0)]]


def test_long_curves_are_weighted_means(tmp_path: Path) -> None:
    from stages.eval.report.curves import MOST_POINTS, charts

    rows = [
        step(n, labels=[label_stat("safety", reward=float(n % 2), completions=3 if n % 2 else 1)])
        for n in range(1, 241)
    ]
    found = next(c for c in charts([steps_run(tmp_path, rows)]) if c.title == "Reward by label")
    (points,) = found.series[0].segments
    assert len(points) == MOST_POINTS
    assert all(value == pytest.approx(0.75) for _, value in points)


def test_lineage_lists_every_run_once_and_earliest_first(tmp_path: Path) -> None:
    from stages.eval.report.lineage import ancestors

    first = scored_run(tmp_path, [answered("a", [True])])
    second = scored_run(tmp_path, [answered("b", [True])])
    assert ancestors([first, second, first]) == [first, second]
    deliver = report(tmp_path, [first, second])
    assert deliver.count(first.fingerprint[:12]) == 1
    assert "2 runs" in deliver


def test_a_training_rows_completion_says_what_edits_it(tmp_path: Path) -> None:
    import shlex

    place = tmp_path / "it's <b>here</b>"
    failed = completion(index=2, finish="error")
    shown = answered("two ?", [True, False])
    rows = [dataclasses.replace(shown, completions=[*shown.completions, failed])]
    train, test = scored_run(place, rows), scored_run(place, [answered("three ?", [True], split="test")])
    page = Page(report(tmp_path, [train, test], names=["train", "test"]))
    assert page.open == []
    commands = [words for words in page.words if words.startswith("cosmo edit ")]
    # None for a test row, nor for what has no ids; a shell reads the folder's name as it is.
    wanted = [["cosmo", "edit", str(train.path), "--id", rows[0].id, "--index", str(n)] for n in (0, 1)]
    assert [shlex.split(command) for command in commands] == wanted
