"""constraints.txt has a version for everything that pyproject.toml asks for, within its range."""

from __future__ import annotations

import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.cli import ROOT

LOCKED_EXTRAS = ("dev", "deepspeed", "s3", "lora")
"""What `make lock` reads; vllm and ray go into environments of their own."""


def test_every_dependency_is_locked_within_its_range() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    locked = {canonicalize_name(n): v for n, v in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [text for extra in LOCKED_EXTRAS for text in project["optional-dependencies"][extra]]
    wanted = [Requirement(text) for text in (*project["dependencies"], *extras)]
    out_of_step = [str(r) for r in wanted if not r.specifier.contains(locked.get(canonicalize_name(r.name), "0"))]
    assert out_of_step == [], "run make lock"
    for extra in LOCKED_EXTRAS:
        assert f"--extra {extra}" in (ROOT / "Makefile").read_text(encoding="utf-8")
