"""What the docs name exists: links, files, make targets, commands and their options."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.support.cli import ROOT

PAGES = sorted(
    p.relative_to(ROOT)
    for pattern in ("*.md", "docs/*.md", "docs/reference/*.md", "examples/*.md", "examples/*/*.md")
    for p in ROOT.glob(pattern)
)
OURS = re.compile(r"`((?:stages|cosmo_cli|schemas|tests|docs|bench|examples|checks)/[\w./-]*)`")


@cache
def text_of(page: Path) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """As the usual forges make them of headings: lower case, words joined by hyphens, other signs dropped."""
    heads = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_and_files_exist(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text_of(page)):
        path, _, anchor = link.partition("#")
        target = (ROOT / page.parent / path).resolve() if path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(target.relative_to(ROOT)), f"{page}: {link}"
    # That page names files for the reader to write.
    for name in OURS.findall(text_of(page)) if page.name != "extending.md" else []:
        if "NAME" not in name:
            assert (ROOT / name).exists(), f"{page}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`(?:\w+=\w+ )*make ([a-z-]+)", text_of(page)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page}: make {target}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_fences_are_closed_and_commands_are_ours(page: Path) -> None:
    from cosmo_cli.app import commands

    assert text_of(page).count("```") % 2 == 0
    named = set(re.findall(r"`cosmo ([a-z]+)\b", text_of(page)))
    assert named <= set(commands()), f"{page}: {named - set(commands())}"
