"""Model folders and run folders of strangers: code, pickles, links, pipes and damage; nothing may run or be written."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.campaign.chain import Faults, call, fresh, runs_in
from tests.campaign.damage import change, changed_bytes

TEMPLATES = (
    "{{ raise_exception('no') }}", "{{ nothing.at.all }}", "{% for x in range(3) %}", "{{ ''.__class__.__mro__ }}",
    "{{ messages[0]['content'] * 2 }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ 1 // 0 }}", "",
    "{{ cycler.__init__.__globals__.os.system('touch ran') }}", "{{ messages | tojson }}", "\x00", "{{ bos_token }}",
    "{{ 'x' * 10**10 }}", "{{ 'x' | center(30000000) }}", "{{ 9 ** (10 ** 9) }}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ messages }}",
)  # fmt: skip
"""Chat templates that fail, reach for what they may not, loop for ever or make gigabytes."""
Way = Callable[[Path, random.Random], object]
"""Does something odd to a model folder."""
CODE = "import pathlib\npathlib.Path('ran').touch()\n\n\nclass Made:\n    pass\n"


class _Runs:
    """Unpickling this writes a file."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, ("ran", "w")


def models(reference: Path, commands: dict[str, list[str]], count: int, rng: random.Random, faults: Faults) -> int:
    """Hand `count` model folders with something odd in them to a command; how many it took."""
    taken = 0
    good = reference / call(commands["export"], reference).path / "model"
    for number in range(count):
        made = fresh(reference, "strangers")
        shutil.copytree(good, made / "model")
        way = rng.choice(sorted(MODELS))
        MODELS[way](made / "model", rng)
        words = rng.choice((
            ["rollout", call(commands["prepare"], made).path, "--samples", "1", "--set", "select.take=2",
             "--set", "max_new_tokens=2", "--policy", "model", "--runs", "runs"],
            ["train", call(commands["prepare_world"], made).path, "--objective", "sft", "--steps", "1", "--batch-size",
             "2", "--set", "select.split=train", "--policy", "model", "--runs", "runs"],
            ["check", "model"],
        ))  # fmt: skip
        taken += _tried(f"model {number}, {way}", made, words, faults)
    return taken


def runs(reference: Path, commands: dict[str, list[str]], count: int, rng: random.Random, faults: Faults) -> int:
    """Hand `count` run folders with links and pipes in them to a command; how many it took."""
    taken = 0
    for number in range(count):
        made = fresh(reference, "strangers")
        theirs = rng.choice(runs_in(made))
        way = replaced(theirs, elsewhere_of(made), rng)
        verb = rng.choice(("show", "status", "gc", "score", "rollout", "train", "eval", "export", "config"))
        words = [verb, str(theirs.relative_to(made)), *{"gc": ["--weights", "--delete"]}.get(verb, [])]
        if verb in ("rollout", "train"):
            words += ["--policy", "tiny:llama", "--runs", "runs", "--device", "cpu"]
        elif verb in ("score", "eval", "export"):
            words += ["--runs", "runs"]
        taken += _tried(f"run {number} ({theirs.name.partition('-')[0]}), {way}", made, words, faults)
    return taken


def _tried(what: str, made: Path, words: list[str], faults: Faults) -> bool:
    """Whether the command went through; notes code that ran, and what was changed elsewhere."""
    elsewhere = elsewhere_of(made)
    before = {p.name for p in made.iterdir()}
    said = call(words, made)
    faults.look(f"{what}: cosmo {' '.join(words)[:60]}", said)
    faults.strays(what, made, before)
    if [p.name for p in elsewhere.iterdir()] != ["kept"] or (elsewhere / "kept").read_text() != "kept":
        faults.found.append(f"{what}: something elsewhere was changed")
    return said.code == 0


def elsewhere_of(made: Path) -> Path:
    """A folder with a file that no command has to do with."""
    elsewhere = made / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    (elsewhere / "kept").write_text("kept")
    return elsewhere


def replaced(folder: Path, elsewhere: Path, rng: random.Random) -> str:
    """Something of a folder gives way to a link, a pipe or a folder; what was done."""
    path = rng.choice(sorted(p for p in folder.rglob("*") if not p.is_symlink()))
    was_folder = path.is_dir()
    shutil.rmtree(path) if was_folder else path.unlink()
    way = rng.choice(("a link out", "a link to a file", "a link to itself", "a pipe", "a folder", "nothing"))
    match way:
        case "a link out":
            path.symlink_to(elsewhere if was_folder else elsewhere / "kept")
        case "a link to a file":
            path.symlink_to("/etc/hostname")
        case "a link to itself":
            path.symlink_to(path.name)
        case "a pipe":
            os.mkfifo(path)
        case "a folder":
            path.mkdir()
    return f"{path.relative_to(folder)} is {way}"


def _json(name: str, change_it: Callable[[dict[str, Any], random.Random], None]) -> Way:
    def apply(model: Path, rng: random.Random) -> None:
        record = json.loads((model / name).read_text())
        change_it(record, rng)
        (model / name).write_text(json.dumps(record))

    return apply


def _bytes_of_some_file(model: Path, rng: random.Random) -> None:
    path = rng.choice(sorted(model.iterdir()))
    path.write_bytes(changed_bytes(path.read_bytes(), rng))


def _pickled(name: str) -> Way:
    def apply(model: Path, rng: random.Random) -> None:
        (model / "model.safetensors").unlink()
        (model / name).write_bytes(pickle.dumps({"model.embed_tokens.weight": _Runs()}))

    return apply


def _own_code(model: Path, rng: random.Random) -> None:
    (model / "modeling_own.py").write_text(CODE)
    for name in ("config.json", "tokenizer_config.json"):
        record = json.loads((model / name).read_text())
        record["auto_map"] = {
            "AutoConfig": "modeling_own.Made", "AutoModelForCausalLM": "modeling_own.Made",
            "AutoTokenizer": ["modeling_own.Made", None], "AutoProcessor": "modeling_own.Made",
        }  # fmt: skip
        if rng.random() < 0.5:
            record["model_type" if name == "config.json" else "tokenizer_class"] = "own"
        (model / name).write_text(json.dumps(record))


def _adapter(model: Path, rng: random.Random) -> None:
    (model / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(model), "r": 1, "target_modules": ["q_proj"]})
    )
    (model / "adapter_model.bin").write_bytes(pickle.dumps({"x": _Runs()}))


def _template(model: Path, rng: random.Random) -> None:
    text = rng.choice(TEMPLATES)
    (model / "chat_template.jinja").write_text(text)
    record = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**record, "chat_template": text}))


def _sizes(record: dict[str, Any], rng: random.Random) -> None:
    key = rng.choice([k for k, v in record.items() if isinstance(v, int) and not isinstance(v, bool)])
    record[key] = rng.choice((0, -1, 1, 2**40, 3.5, None, "x"))


MODELS: dict[str, Way] = {
    "bytes of a file": _bytes_of_some_file,
    "something in its config": _json("config.json", change),
    "a size in its config": _json("config.json", _sizes),
    "something of its tokenizer": _json("tokenizer.json", change),
    "something of its tokenizer's config": _json("tokenizer_config.json", change),
    "a pickle": _pickled("pytorch_model.bin"),
    "a pickle named safetensors": _pickled("model.safetensors"),
    "code of its own": _own_code,
    "an adapter in a pickle": _adapter,
    "another thing for a file": lambda model, rng: replaced(model, elsewhere_of(model.parent), rng),
    "a chat template": _template,
}
