"""Does an exported folder still say what the policy said? `python -m stages.export.verify FOLDER`.

Run in a process of its own by the export stage, and by anybody later: it loads the folder with transformers,
asks the probes recorded in `cosmo_export.json`, and prints one JSON document. Exit code 0 when all holds,
else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from stages.core.errors import CosmoError, first_line
from stages.core.file_digest import file_sha256

RECORD = "cosmo_export.json"
_ROOT = Path(__file__).resolve().parents[2]


def verify(folder: Path, tolerance: float) -> dict[str, Any]:
    """Check files, tokenizer and log-probs against the record. `problems` is empty when all holds."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    problems = [
        f"{name}: {'missing' if found is None else 'content changed'}"
        for name, recorded in record["files"].items()
        if (found := file_sha256(folder / name) if (folder / name).is_file() else None) != recorded
    ]
    report: dict[str, Any] = {"folder": folder.name, "problems": problems}
    # A changed file may still load, and then the log-probs are worth knowing; a missing one can't be asked.
    if not any(p.endswith("missing") for p in problems):
        report.update(_ask(folder, record, tolerance, problems))
    return report


def _ask(folder: Path, record: dict[str, Any], tolerance: float, problems: list[str]) -> dict[str, Any]:
    from stages.models.load import load_policy
    from stages.models.policy_ref import resolve_policy
    from stages.models.probe import Probe, completion_logprobs, encode, from_json, gaps

    try:
        policy = load_policy(resolve_policy(str(folder)), device="cpu", dtype="float32")
    except Exception as error:
        # Whatever a damaged folder makes the loaders raise is the finding.
        problems.append(f"it can't be loaded: {first_line(error)}")
        return {}
    before, after = from_json(record["probes"]), []
    for probe in before:
        token_ids, image_inputs = encode(policy.processor, probe.text, probe.image)
        if token_ids != probe.token_ids:
            problems.append(f"the processor renders {probe.text!r} differently")
        found = completion_logprobs(policy, probe.token_ids, image_inputs, probe.completion_ids)
        after.append(Probe(probe.text, probe.image, token_ids, probe.completion_ids, found))
    mean, largest = gaps(before, after)
    # Not `largest > tolerance`: NaN is neither more nor less, and has to be a problem.
    if not largest <= tolerance:
        problems.append(f"log-probs are {largest:.2g} off, more than {tolerance:.2g}")
    return {
        "tokens": sum(len(p.completion_ids) for p in before),
        "mean_gap": mean,
        "max_gap": largest,
        "tolerance": tolerance,
        "auto_processor": _auto_processor(folder, problems),
    }


def _auto_processor(folder: Path, problems: list[str]) -> str:
    """Whether transformers' own entry points load the processor; some families need torchvision for it."""
    from transformers import AutoProcessor, AutoTokenizer

    try:
        AutoTokenizer.from_pretrained(folder, local_files_only=True)
        AutoProcessor.from_pretrained(folder, local_files_only=True)
    # AutoProcessor of some families needs torchvision, which this machine may lack: no fault of the folder.
    except ImportError as error:
        missing = "torchvision" if "torchvision" in str(error).lower() else first_line(error)
        return f"not checked here, it needs {missing}"
    except (OSError, ValueError) as error:
        # A library that an image processor lacks may be a ValueError as well.
        if "torchvision" in str(error).lower():
            return "not checked here, it needs torchvision"
        # The policy's own folder had none, or it would be among the files: cosmo needs no more than images.
        if "video processor" in str(error):
            return "not loaded: it wants a video processor, and the policy came without one"
        problems.append(f"AutoProcessor: {first_line(error)}")
        return "failed"
    return "loaded"


def in_fresh_process(module: str, folder: Path, tolerance: float) -> dict[str, Any]:
    """Run a checking module on the folder in a new interpreter; CosmoError when it finds anything or dies."""
    # The module has to be found from whatever folder the person stands in; and a check asks no network.
    path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", module, str(folder), "--tolerance", repr(tolerance)],
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    # Libraries print to stdout as they load; the report is the last line.
    lines = done.stdout.strip().splitlines()
    try:
        report: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, json.JSONDecodeError):
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no output")
        raise CosmoError(
            f"the check of the exported folder died with exit code {done.returncode}: {last}",
            f"run it by hand: python -m {module} {folder}",
        ) from None
    if report["problems"]:
        raise CosmoError(
            f"the exported folder does not match the policy: {'; '.join(report['problems'][:3])}",
            "nothing was exported; is the disk sound, and is the policy's model family supported?",
        )
    return report


def main(check: Any = verify) -> int:
    """Command line: a folder, a tolerance, one JSON document."""
    parser = argparse.ArgumentParser(description="Check an exported model folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    given = parser.parse_args()
    report = check(given.folder, given.tolerance)
    print(json.dumps(report))
    return 1 if report["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
