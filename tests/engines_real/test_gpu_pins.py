"""What README's lines for a GPU machine would install, resolved without a GPU and without installing anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import PATIENCE, ROOT

UV = Path(sys.executable).with_name("uv")


@pytest.mark.skipif(not UV.is_file(), reason="no uv beside this Python")
def test_the_extras_for_a_gpu_fit_together_and_hold_the_vllm_that_is_tested() -> None:
    """The resolver's answer for Linux on x86-64; skipped where no registry answers it."""
    asked = ["pip", "compile", "pyproject.toml", "--extra", "vllm", "--extra", "deepspeed", "--no-header", "--quiet"]
    where = ["--python-platform", "x86_64-unknown-linux-gnu", "--python-version", "3.12", "--no-annotate"]
    index = ["--index-url", os.environ["PIP_INDEX_URL"]] if "PIP_INDEX_URL" in os.environ else []
    done = subprocess.run(
        [str(UV), *asked, *where, *index], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if done.returncode and "No solution found" not in done.stderr:
        pytest.skip(f"no registry: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    found = dict(re.findall(r"^([\w.-]+)==(\S+)", done.stdout, re.MULTILINE))
    # README names these; the first is what the CPU build of `make test-engines` is tested as.
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    said = dict(re.findall(r"\b(vLLM|torch|transformers|TRL|DeepSpeed) (\d[\d.]*\d)", readme))
    assert {name.lower(): version for name, version in said.items()} == {
        name: found[name] for name in ("vllm", "torch", "transformers", "trl", "deepspeed")
    }
    # For a GPU: the CUDA build's compiler, without which vLLM has another model runner.
    assert "triton" in found
