"""What extras that pull in torch would install, resolved without a GPU and without installing anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import PATIENCE, ROOT

UV = Path(sys.executable).with_name("uv")
pytestmark = pytest.mark.skipif(not UV.is_file(), reason="no uv beside this Python")


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))


def resolved(*extras: str, constraints: Path | None = None) -> dict[str, str]:
    """The resolver's answer for Linux on x86-64, by package; the test is skipped where no registry answers it."""
    asked = ["pip", "compile", "pyproject.toml", "--no-header", "--quiet", "--no-annotate"]
    asked += [word for extra in extras for word in ("--extra", extra)]
    asked += ["--constraint", str(constraints)] if constraints else []
    where = ["--python-platform", "x86_64-unknown-linux-gnu", "--python-version", "3.12"]
    index = ["--index-url", os.environ["PIP_INDEX_URL"]] if "PIP_INDEX_URL" in os.environ else []
    done = subprocess.run(
        [str(UV), *asked, *where, *index], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if done.returncode and "No solution found" not in done.stderr:
        pytest.skip(f"no registry: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return pins(done.stdout)


def test_torchvision_of_the_extra_vision_is_the_one_of_the_torch_that_is_installed() -> None:
    """Each torchvision names the one torch that it was built with, CPU builds as others: 0.28 is for 2.13."""
    torch = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))["torch"]
    found = resolved("vision", constraints=ROOT / "constraints.txt")
    assert found["torch"] == torch
    (_, of_torch, *_), (major, minor, *_) = (found[name].split(".") for name in ("torch", "torchvision"))
    assert (major, int(minor)) == ("0", int(of_torch) + 15)
    assert "num2words" in found


def test_the_extras_for_a_gpu_fit_together_and_hold_the_vllm_that_is_tested() -> None:
    found = resolved("vllm", "deepspeed")
    # README names these; the first is what the CPU build of `make test-engines` is tested as.
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    said = dict(re.findall(r"\b(vLLM|torch|transformers|TRL|DeepSpeed) (\d[\d.]*\d)", readme))
    assert {name.lower(): version for name, version in said.items()} == {
        name: found[name] for name in ("vllm", "torch", "transformers", "trl", "deepspeed")
    }
    # For a GPU: the CUDA build's compiler, without which vLLM has another model runner.
    assert "triton" in found
