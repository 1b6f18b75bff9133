from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.core.registry import load, names
from stages.models.load import save_policy
from stages.models.policy_ref import resolve_policy
from tests.models.made import policy, prompt
from tests.support.cli import SHARED

TINY = ["tiny:qwen2_5_vl", "tiny:internvl", "tiny:llama"]
# Others with another vocabulary: `test_a_described_completion_is_short`, `test_both_languages_are_few_tokens`.
REWORDED = ["tiny:qwen2_5_vl_described", "tiny:llama_bilingual"]
# Head sizes of vLLM's CPU and GPU attention kernels alike.
VLLM_HEADS = {32, 64, 96, 128, 256}

_FRESH = """
import json, sys
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer
said = []
for folder, ids in json.loads(sys.argv[1]):
    words_only = AutoConfig.from_pretrained(folder).model_type == "llama"
    model = (AutoModelForCausalLM if words_only else AutoModelForImageTextToText).from_pretrained(folder)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0]
    text = AutoTokenizer.from_pretrained(folder).decode(ids)
    said.append([type(model).__name__, logits.sum(-1).tolist(), logits.argmax(-1).tolist(), text])
print(json.dumps([said, [m for m in sys.modules if m.startswith("stages")]]))
"""


def test_every_backbone_is_tested() -> None:
    assert [f"tiny:{n}" for n in names("backbone")] == sorted([*TINY, *REWORDED])


def test_a_fresh_process_without_our_code_loads_the_folders_and_computes_the_same() -> None:
    here = [policy(spec) for spec in TINY]
    asked = [(str(p.ref.path), p.processor.encode(*prompt(1)).token_ids) for p in here]
    command = [sys.executable, "-c", _FRESH, json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    said, ours = json.loads(done.stdout)
    assert ours == []
    for mine, (_, ids), (kind, sums, best, text) in zip(here, asked, said, strict=True):
        with torch.no_grad():
            logits = mine.model(input_ids=torch.tensor([ids])).logits[0]
        assert kind == type(mine.model).__name__
        assert best == logits.argmax(-1).tolist()
        assert sums == pytest.approx(logits.sum(-1).tolist(), abs=1e-3)
        assert text == mine.processor.tokenizer.decode(ids)


@pytest.mark.parametrize("spec", TINY)
def test_folders_are_ordinary_small_and_free_of_pickles(spec: str) -> None:
    here = policy(spec)
    files = {p.name for p in here.ref.path.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= files
    assert not [n for n in files if n.endswith((".bin", ".pt", ".pth", ".pkl", ".py"))]
    assert 2e6 <= sum(p.numel() for p in here.model.parameters()) <= 4e6
    text = here.model.config.get_text_config()
    assert text.hidden_size // text.num_attention_heads in VLLM_HEADS
    if here.processor.image_processor is not None:
        vision = here.model.config.vision_config
        assert vision.hidden_size // vision.num_attention_heads in VLLM_HEADS


def test_same_seed_same_bytes_other_seed_other_weights(tmp_path: Path) -> None:
    plugin = load("backbone", "llama")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        plugin.build(tmp_path / name, seed)
    same, other = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("b", "c"))
    first = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    assert first == same
    assert {n for n in first if first[n] != other[n]} == {"model.safetensors"}
    # Built here or in a cache long ago: the same model.
    assert first["model.safetensors"] == (resolve_policy("tiny:llama").path / "model.safetensors").read_bytes()


@pytest.mark.parametrize("spec", TINY)
@given(text=st.text(max_size=60))
def test_any_text_comes_back_exactly(spec: str, text: str) -> None:
    tokenizer = policy(spec).processor.tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


@pytest.mark.skipif(not SHARED.exists(), reason="the public benchmark samples are not beside this checkout")
def test_real_questions_come_back_exactly() -> None:
    tokenizer = policy("tiny:llama").processor.tokenizer
    for line in (SHARED / "gsm8k/grade_school_math/data/test.jsonl").read_text(encoding="utf-8").splitlines()[:200]:
        text = json.loads(line)["question"] + json.loads(line)["answer"]
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


@pytest.mark.parametrize("spec", TINY)
def test_world_words_are_single_tokens_and_think_marks_stay_visible(spec: str) -> None:
    from stages.world.lexicon import COLOUR_WORDS, REFUSAL, SHAPES

    processor = policy(spec).processor
    for word in (*COLOUR_WORDS, *SHAPES, *REFUSAL.split(), *"0123456789"):
        assert len(processor.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]) == 1, word
    completion = processor.encode_completion("<think> a red circle . </think> 3")
    # The space before a mark is a token of its own, as in the families' own tokenizers.
    assert len(completion) == 9
    assert completion[-1] in processor.eos_token_ids
    assert processor.decode(completion) == "<think> a red circle . </think> 3"
    assert len(processor.tokenizer) == policy(spec).model.config.get_text_config().vocab_size


@pytest.mark.parametrize("spec", TINY)
def test_saving_an_unchanged_policy_gives_the_same_model(spec: str, tmp_path: Path) -> None:
    here = policy(spec)
    save_policy(here.model, here.processor, tmp_path / "saved")
    saved = resolve_policy(str(tmp_path / "saved"))
    assert saved.id == here.ref.id
    assert policy(str(tmp_path / "saved")).processor.banned_token_ids == here.processor.banned_token_ids


def test_both_languages_are_few_tokens_to_a_model_that_has_read_them() -> None:
    plain, bilingual = (policy(spec).processor.tokenizer for spec in ("tiny:llama", REWORDED[1]))
    for text, most in ((" 安打破了彬的杯子 .", 5), (" ann fell down .", 4)):
        ids = bilingual(text, add_special_tokens=False)["input_ids"]
        assert bilingual.decode(ids) == text
        assert len(ids) <= most < len(plain(text, add_special_tokens=False)["input_ids"]) + 1
    assert sum(p.numel() for p in policy(REWORDED[1]).model.parameters()) < 1e6


def test_a_described_completion_is_short_and_comes_back_word_for_word() -> None:
    """Its marks are one token each, and no special ones: they stay where they are when ids become text."""
    text = "<description> a star costs 4 . </description> <think> 3 stars cost 12 . </think> <answer> 12 </answer>"
    plain, described = (policy(spec).processor.tokenizer for spec in (TINY[0], REWORDED[0]))
    ids = described.encode(text)
    assert described.decode(ids, skip_special_tokens=True) == text
    assert 2 * len(ids) <= len(plain.encode(text))
