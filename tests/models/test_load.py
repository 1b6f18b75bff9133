from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AriaConfig, Florence2Config

from stages.core.errors import UnavailableError, UsageError
from stages.models import load
from stages.models.load import load_policy
from stages.models.policy_ref import resolve_policy


def _replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def _truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def _write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _text_config(**fields: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["text_config"] |= fields
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_truncate, "can't load"),
        (_write("model.safetensors", b""), "can't load"),
        (_write("config.json", b"{"), "not a valid JSON"),
        (_write("config.json", b'{"model_type": "nope"}'), "nope"),
        (_remove("tokenizer.json"), "no tokenizer"),
        (_write("tokenizer.json", b"{"), "can't load"),
        (_remove("chat_template.jinja"), "no chat template"),
        (_remove("preprocessor_config.json"), "image processor"),
        (_replace("config.json", '"intermediate_size": 512', '"intermediate_size": 510'), "can't load"),
        # A weight that is not in the folder must not be drawn at random instead.
        (_replace("config.json", '"depth": 3', '"depth": 4'), "weights are missing"),
        # Whatever libraries make of a stranger's file; and no vocabulary of a million million ids is listed.
        (_write("config.json", b"[1]"), "TypeError"),
        (_write("tokenizer.json", b"null"), "can't load"),
        (_write("tokenizer.json", b'{"model": {}}'), "KeyError"),
        (_text_config(hidden_size=0), "ZeroDivisionError"),
        (_text_config(num_attention_heads=0), "ZeroDivisionError"),
        (_text_config(num_hidden_layers="many"), "num_hidden_layers"),
        (_text_config(vocab_size=10**12), "vocab_size = 1000000000000 in its config, and its tokenizer has"),
        (_text_config(vocab_size=0), "vocab_size = 0"),
        # transformers would make these up first.
        (_text_config(intermediate_size=10**6), "its config asks for [0-9,]+ numbers, and its weights are [0-9,]+"),
    ],
)
def test_a_spoilt_folder_is_one_clear_line(tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(resolve_policy("tiny:qwen2_5_vl").path, folder)
    spoil(folder)
    with pytest.raises(UnavailableError, match=words) as caught:
        load_policy(resolve_policy(str(folder)), device="cpu")
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_layers_without_end_are_refused_before_one_is_made(tmp_path: Path) -> None:
    folder = shutil.copytree(resolve_policy("tiny:llama").path, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2**40}))
    with pytest.raises(UnavailableError, match="num_hidden_layers = 1099511627776 in its config, and its weights are"):
        load_policy(resolve_policy(str(folder)), device="cpu")


def test_devices_and_types() -> None:
    ref = resolve_policy("tiny:llama")
    assert load_policy(ref, device="cpu").model.dtype == torch.float32
    assert load_policy(ref, device="cpu", dtype="bfloat16").model.dtype == torch.bfloat16
    with pytest.raises(UsageError, match="float8"):
        load_policy(ref, device="cpu", dtype="float8")
    if not torch.cuda.is_available():
        with pytest.raises(UnavailableError, match="cuda"):
            load_policy(ref, device="cuda")


def test_a_model_that_encodes_its_prompt_is_refused_by_what_it_is(tmp_path: Path) -> None:
    """Some have a class for images and text (Florence-2): they would load, and complete without their prompt."""
    shutil.copytree(resolve_policy("tiny:qwen2_5_vl").path, tmp_path / "model")
    Florence2Config().save_pretrained(tmp_path / "model")
    with pytest.raises(UnavailableError, match="florence2 encodes its prompt and decodes its completion"):
        load_policy(resolve_policy(str(tmp_path / "model")), device="cpu")


def test_a_config_with_a_table_of_numbers_is_read() -> None:
    """Aria's says how many queries go with how many patches: numbers are its names."""
    assert ("1225", 128) in load._integers(AriaConfig().to_dict())
