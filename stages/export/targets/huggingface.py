"""A Hugging Face folder (safetensors, tokenizer, processor, template) that transformers and vLLM load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stages.export.targets.base import Target

if TYPE_CHECKING:
    from stages.models.load import Policy

# Code, and the formats that unpickle: loading one runs whatever it holds.
_NEVER = (".py", ".bin", ".pt", ".pth", ".pkl", ".pickle")


def write(policy: Policy, folder: Path, max_shard_size: str) -> None:
    """Weights in files of at most `max_shard_size`; tokenizer and processor files byte for byte as they were.

    No code and no pickle is written: a folder that needs remote code is not what this target promises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    policy.model.save_pretrained(folder, max_shard_size=max_shard_size)
    for name, content in policy.processor.files.items():
        # What `save_pretrained` wrote (config.json, for one) is the model's as it is now, and stays.
        if not name.endswith(_NEVER) and not (folder / name).exists():
            (folder / name).write_bytes(content)
    for path in folder.iterdir():
        # Weights are written for their owner alone; a model folder is made to be read by a server.
        path.chmod(0o644)


PLUGIN = Target(version=1, write=write)
