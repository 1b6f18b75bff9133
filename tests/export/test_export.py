"""Export to a Hugging Face folder: reloads equal, corruption is found, the card tells the truth."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from schemas.tables import EXPORTS
from stages.core.config import build
from stages.core.errors import CosmoError, InputError, UnavailableError, UsageError
from stages.core.file_digest import file_sha256
from stages.core.runner import Options, run_stage
from stages.core.runs.folder import RunFolder
from stages.export.config import ExportConfig
from stages.export.stage import STAGE
from stages.export.verify import RECORD, verify
from stages.models.policy_ref import resolve_policy
from tests.export.made import eval_run, train_run


def export(runs: Path, train: RunFolder, **values: Any) -> RunFolder:
    config = build(ExportConfig, values, "export")
    return RunFolder.open(run_stage(STAGE, config, [train.path], options=Options(runs=runs)).path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def vision_run(runs: Path) -> RunFolder:
    return train_run(runs, resolve_policy("tiny:qwen2_5_vl").path)


@pytest.fixture(scope="module")
def text_run(runs: Path) -> RunFolder:
    return train_run(runs, resolve_policy("tiny:llama").path, start="tiny:llama")


@pytest.fixture(scope="module")
def exported(runs: Path, vision_run: RunFolder) -> RunFolder:
    """The vision policy exported with its evaluation."""
    evals = eval_run(runs, resolve_policy(str(vision_run.path)).id)
    return export(runs, vision_run, evals=str(evals.path), name="Tiny *One*", license="apache-2.0")


@pytest.fixture(scope="module")
def exported_text(runs: Path, text_run: RunFolder) -> RunFolder:
    """The text policy exported in several files, with no evaluation."""
    return export(runs, text_run, max_shard_size="400KB")


@pytest.fixture
def copy(exported: RunFolder, tmp_path: Path) -> Path:
    """A copy of the exported folder to spoil."""
    return shutil.copytree(exported.path / "model", tmp_path / "copy")


def test_rows_name_every_file(exported: RunFolder) -> None:
    rows = {r.file: r for r in exported.rows(EXPORTS)}
    folder = exported.path / "model"
    assert set(rows) == {p.name for p in folder.iterdir()}
    assert {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "README.md",
    } <= set(rows)
    assert {"chat_template.jinja", "preprocessor_config.json", RECORD} <= set(rows)
    for name, row in rows.items():
        assert row.sha256 == file_sha256(folder / name)
        assert row.bytes_count == (folder / name).stat().st_size
    assert not [n for n in rows if n.endswith((".bin", ".pt", ".pkl", ".py"))]


PLAIN_TRANSFORMERS = """
import json, sys, torch
from transformers import AutoModelForImageTextToText, AutoTokenizer
folder = sys.argv[1]
model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
worst = 0.0
for probe in json.load(open(folder + "/cosmo_export.json"))["probes"]:
    if probe["image"]:
        continue
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": [{"type": "text", "text": probe["text"]}]}],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == probe["token_ids"]
    ids = torch.tensor([probe["token_ids"] + probe["completion_ids"]])
    start = len(probe["token_ids"])
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, start - 1 : -1]
    found = logits.log_softmax(-1).gather(1, ids[0, start:, None])[:, 0]
    worst = max(worst, (found - torch.tensor(probe["logprobs"])).abs().max().item())
assert not [name for name in sys.modules if name.startswith("stages")]
print(worst)
"""


def test_transformers_alone_loads_it_and_agrees(exported: RunFolder) -> None:
    """No code of ours on the other side."""
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_TRANSFORMERS, str(exported.path / "model")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) <= 1e-4


def test_fresh_process_agrees_with_the_source_policy(exported: RunFolder, vision_run: RunFolder) -> None:
    from stages.models.load import load_policy
    from stages.models.probe import from_json, gaps, make_probes

    source = make_probes(load_policy(resolve_policy(str(vision_run.path)), device="cpu", dtype="float32"))
    record = json.loads((exported.path / "model" / RECORD).read_text())
    assert gaps(source, from_json(record["probes"]))[1] <= 1e-6
    assert {p.image for p in source} == {True, False}
    assert f"log-probs of {16 * len(source)} probe tokens" in (exported.path / "model" / "README.md").read_text()


def spoil_weight(folder: Path, amount: float) -> None:
    """Change the weights of one layer in a file that stays perfectly readable."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    name = next(n for n in sorted(tensors) if "layers.0" in n and n.endswith("down_proj.weight"))
    tensors[name] = tensors[name] + amount
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_changed_weight_is_found_by_digest_and_by_logprobs(copy: Path) -> None:
    assert verify(copy, 1e-4)["problems"] == []
    spoil_weight(copy, 0.05)
    problems = verify(copy, 1e-4)["problems"]
    assert any("content changed" in p for p in problems)
    assert any("log-probs" in p for p in problems)


def test_logprobs_alone_find_a_changed_weight(copy: Path) -> None:
    """Even where whoever changed it updated the digests."""
    spoil_weight(copy, 0.05)
    record = json.loads((copy / RECORD).read_text())
    record["files"]["model.safetensors"] = file_sha256(copy / "model.safetensors")
    (copy / RECORD).write_text(json.dumps(record))
    (problem,) = verify(copy, 1e-4)["problems"]
    assert problem.startswith("log-probs are")


@pytest.mark.parametrize(
    ("name", "said"),
    [("model.safetensors", "missing"), ("tokenizer.json", "missing"), ("config.json", "missing")],
)
def test_a_missing_file_is_found(copy: Path, name: str, said: str) -> None:
    (copy / name).unlink()
    assert verify(copy, 1e-4)["problems"] == [f"{name}: {said}"]


def test_truncated_weights_are_found(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    problems = verify(copy, 1e-4)["problems"]
    assert problems[0] == "model.safetensors: content changed"
    assert len(problems) == 2


def test_another_tokenizer_is_found(copy: Path) -> None:
    template = copy / "chat_template.jinja"
    template.write_text("hello " + template.read_text())
    problems = verify(copy, 1e-4)["problems"]
    assert any("renders" in p for p in problems)


def test_a_bad_export_stops_the_stage(runs: Path, text_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.export.targets import huggingface

    good = huggingface.PLUGIN

    def write(policy: Any, folder: Path, size: str) -> None:
        good.write(policy, folder, size)
        spoil_weight(folder, 0.05)

    monkeypatch.setattr(huggingface, "PLUGIN", dataclasses.replace(good, write=write))
    with pytest.raises(CosmoError, match="log-probs are"):
        export(runs / "bad", text_run)
    assert not list((runs / "bad").glob("export-*/model"))


def test_text_model_in_several_files(exported_text: RunFolder) -> None:
    folder = exported_text.path / "model"
    assert (folder / "model.safetensors.index.json").is_file()
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert "pipeline_tag: text-generation" in (folder / "README.md").read_text()
    record = json.loads((folder / RECORD).read_text())
    assert not any(p["image"] for p in record["probes"])


def test_bfloat16_is_stored_rounded_and_said(runs: Path, vision_run: RunFolder) -> None:
    import torch
    from safetensors.torch import load_file

    folder = export(runs, vision_run, dtype="bfloat16").path / "model"
    assert {t.dtype for t in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    card = (folder / "README.md").read_text()
    assert "Rounding the weights to bfloat16 moved" in card
    # The stored weights are checked to the same bar: rounding happens before the probes are taken.
    assert verify(folder, 1e-4)["max_gap"] <= 1e-4


def test_card(exported: RunFolder, vision_run: RunFolder) -> None:
    card = (exported.path / "model" / "README.md").read_text()
    head = card.split("---\n")[1]
    assert "library_name: transformers" in head
    assert "pipeline_tag: image-text-to-text" in head
    assert 'license: "apache-2.0"' in head
    assert "base_model" not in head
    assert "# Tiny \\*One\\*" in card
    assert "| Capability (right answers) | 0.550 [0.500, 0.600] | 0.400 [0.350, 0.450] | " in card
    assert "+0.150 [+0.050, +0.250] better | 300 |" in card
    assert "0.125 [0.075, 0.175] | 0.500 [0.450, 0.550] | – | 280 |" in card
    assert "0.990" not in card
    assert "Instruction following" not in card
    assert "from `tiny:qwen2_5_vl`" in card
    for stage in ("prepare", "train"):
        assert f"| {stage} | `{stage}-" in card
    assert vision_run.fingerprint[:12] in card
    assert 'objective = "sft"' in card
    assert "Reloaded in a fresh process: log-probs of 128 probe tokens, with and without an image," in card
    assert "- Not checked: vLLM (`cosmo export --set vllm_check=true` does), conversion to GGUF (llama.cpp)." in card
    assert "/" + "root" not in card
    assert str(exported.path.parent) not in card


def test_no_evaluation_is_said(exported_text: RunFolder) -> None:
    card = (exported_text.path / "model" / "README.md").read_text()
    assert "Nothing is claimed" in card
    assert "is not known" in card


def test_an_evaluation_of_another_policy_is_refused(runs: Path, text_run: RunFolder) -> None:
    other = eval_run(runs, "f" * 16)
    with pytest.raises(InputError, match="did not measure this policy"):
        export(runs, text_run, evals=str(other.path))
    with pytest.raises(InputError, match="is a train run"):
        export(runs, text_run, evals=str(text_run.path))


def test_one_train_run_at_a_time(runs: Path, text_run: RunFolder, vision_run: RunFolder) -> None:
    config = build(ExportConfig, {}, "export")
    with pytest.raises(UsageError, match="one train run"):
        run_stage(STAGE, config, [text_run.path, vision_run.path], options=Options(runs=runs))


def test_vllm_check_needs_vllm(runs: Path, text_run: RunFolder) -> None:
    import importlib.util

    if importlib.util.find_spec("vllm") is not None:
        pytest.skip("vLLM is installed here")
    with pytest.raises(UnavailableError, match="vLLM is not installed"):
        export(runs, text_run, vllm_check=True)


def test_cached_run_still_delivers(runs: Path, text_run: RunFolder, exported_text: RunFolder, tmp_path: Path) -> None:
    config = build(ExportConfig, {"max_shard_size": "400KB", "to": str(tmp_path / "here")}, "export")
    result = run_stage(STAGE, config, [text_run.path], options=Options(runs=runs))
    assert (result.state, result.path) == ("cached", exported_text.path)
    STAGE.deliver(config, result.path)
    assert verify(tmp_path / "here", 1e-4)["problems"] == []


def test_vllm_gets_one_placeholder_a_image() -> None:
    from stages.export.vllm_check import prompt_of
    from stages.models.probe import Probe

    seeing = Probe("?", True, [1, 7, 9, 9, 9, 8, 2], [3, 4], [])
    assert prompt_of(seeing, {"model_type": "qwen2_5_vl", "image_token_id": 9})["prompt_token_ids"] == [
        1,
        7,
        9,
        8,
        2,
        3,
        4,
    ]
    assert prompt_of(seeing, {"model_type": "internvl", "image_token_id": 9})["prompt_token_ids"] == [1, 9, 2, 3, 4]
    assert prompt_of(seeing, {"model_type": "qwen2_5_vl", "image_token_id": 9})["multi_modal_data"]["image"].size == (
        112,
        84,
    )
    blind = Probe("?", False, [1, 1, 2], [3, 3], [])
    assert prompt_of(blind, {"model_type": "llama"}) == {"prompt_token_ids": [1, 1, 2, 3, 3]}


def test_a_disk_that_takes_no_more_is_said_as_one(tmp_path: Path, text_run: RunFolder) -> None:
    """safetensors has an error of its own for it, raised in an export target's code."""
    import errno
    import resource

    from cosmo_cli.errors import explain
    from stages.core.errors import UNAVAILABLE

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError) as caught:
            export(tmp_path, text_run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    message, _, code = explain(caught.value, "export")
    assert code == UNAVAILABLE
    assert "a file grew over the size limit" in message
    assert " were to be written, " in message
    assert export(tmp_path, text_run).complete


def test_a_full_disk_is_one_wherever_safetensors_meets_it() -> None:
    import errno

    from safetensors import SafetensorError

    from cosmo_cli.errors import explain
    from stages.core.errors import UNAVAILABLE, system_number

    error = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert system_number(error) == errno.ENOSPC
    assert explain(error)[0::2] == ("the disk is full", UNAVAILABLE)
    assert system_number(ValueError("(os error 28)")) is None
