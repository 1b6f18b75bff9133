"""Every toy family: what is sampled and trained is what the model computes by itself, or it is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import transformers
from transformers import GenerationMixin

from schemas.rollouts import Sampling
from schemas.values import Message, Part, text_message
from stages.core.errors import BadSample, InputError, UnavailableError
from stages.engines.transformers.batch_sampler import BatchSampler
from stages.engines.transformers.engine import TransformersEngine
from stages.engines.transformers.kv_cache import check_cache
from stages.models import families, forward_inputs
from stages.models.attention.shared_inputs import TokenGroup
from stages.models.batch_maker import BatchMaker
from stages.models.load import load_policy
from stages.models.policy_ref import resolve_policy
from stages.train.check.measure import check_model
from stages.train.check.questions import requests
from stages.train.check.vllm_table import known_architectures, vllm_class
from stages.train.rl.logprobs import completion_logprobs
from stages.train.rl.vision_cache import FrozenTower
from tests.families.page import PAGE
from tests.families.toys import TOYS, build
from tests.support.cli import cosmo

# What each kind of fault shows on; all of TOYS are checked where docs/reference/models.md is made.
QUICK = [
    *("gemma3", "llava_next", "mllama", "paligemma", "qwen3_vl", "qwen3_next", "mamba2"),
    *("emu3", "hunyuan_vl", "mamba"),
]


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """The toys, each built and loaded when it is first asked for."""
    made = {}

    def of(name: str):
        if name not in made:
            folder = build(name, tmp_path_factory.mktemp("toys") / name)
            made[name] = load_policy(resolve_policy(str(folder)), device="cpu")
        return made[name]

    return of


@pytest.mark.parametrize("name", QUICK)
def test_numbers_are_the_models_own(policies, name: str) -> None:
    result = check_model(policies(name))
    assert not result.failures, result.failures
    assert result.features["batches"] == "whole"
    ways = {cell.way for cell in result.cells}
    assert {"sampler", "trainer", "supervised"} <= ways
    assert ("trainer, prompts shared" in ways) == (result.features["prefix sharing"] == "yes")
    questions = 2 if result.features["images"] == "text only" else 3 if name == "paligemma" else 5
    assert len(result.cells) == questions * len(ways)


def _worst(policy) -> float:
    result = check_model(policy)
    return max([result.worst, *(1.0 for cell in result.failures if cell.gap is None)])


def _last_entry(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A cross-attention mask of the last token alone, where the model looks for the token's place in a whole one."""
    return {name: value[:, -1:] for name, value in batch.items() if name == "cross_attention_mask"}


def test_faults_are_found(policies, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kinds of tokens lost, a completion inside the prompt's mask, masks not lengthened: each is seen."""
    plain = forward_inputs.beside_ids
    with monkeypatch.context() as lost:
        lost.setattr(
            "stages.models.batch_maker.beside_ids",
            lambda out, names: {k: v for k, v in plain(out, names).items() if k != "token_type_ids"},
        )
        assert _worst(policies("gemma3")) > 1e-2
    with monkeypatch.context() as past_alone:
        # The tokens of an image, and those of a whole prompt, that see each other; where prompts are shared.
        past_alone.setattr(BatchMaker, "both_ways", lambda self, inputs: [])
        assert _worst(policies("gemma3")) > 1e-2
        assert _worst(policies("paligemma")) > 1e-2
    pali = policies("paligemma").processor.batches
    with monkeypatch.context() as inside:
        inside.setattr(pali, "_family", replace(pali._family, completion_marks={}))
        assert _worst(policies("paligemma")) > 1e-2
    with monkeypatch.context() as short:
        short.setattr(policies("mllama").processor.batches, "continued", _last_entry)
        assert _worst(policies("mllama")) > 1e-2
    with monkeypatch.context() as moved:
        counted = families.FAMILIES["qwen3_vl"]
        moved.setitem(
            families.FAMILIES,
            "qwen3_vl",
            replace(
                counted,
                positions=families.Positions(
                    lambda model, batch: tuple(t + 0 for t in families._counted(model, batch))
                ),
            ),
        )
        assert _worst(policies("qwen3_vl")) > 1e-4


def test_a_generate_that_loses_its_logits_processor_is_not_taken_for_the_models_numbers(
    policies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Janus has one: it goes on as it likes, and the check would compare two completions."""
    policy = policies("mamba2")
    plain = type(policy.model).generate
    monkeypatch.setattr(
        type(policy.model), "generate", lambda self, *given, logits_processor=None, **more: plain(self, *given, **more)
    )
    assert not check_model(policy).failures
    monkeypatch.setattr(GenerationMixin, "generate", type(policy.model).generate)
    [error] = {cell.error for cell in check_model(policy).failures if cell.way == "the model's own generate"}
    assert error == "its generate takes no logits processor"


def test_a_model_that_refuses_every_question_is_not_found_exact(policies, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policies("mamba2")

    def refused(*given):
        raise BadSample("bad_image", "no such thing")

    monkeypatch.setattr(policy.processor, "encode", refused)
    result = check_model(policy)
    assert [cell.error for cell in result.failures] == ["each was refused: bad_image: no such thing"]
    assert not result.as_json()["exact"]


def test_images_of_two_sizes_meet_in_one_forward_or_do_not(policies) -> None:
    # Emu3's are of other heights and widths each; beside one of HunYuan-VL's none may stand.
    counts = {"llava_next": 1, "qwen3_vl": 1, "gemma3": 1, "mllama": 3, "emu3": 3, "hunyuan_vl": 4}
    for name, parts in counts.items():
        processor = policies(name).processor
        asked = [request.image_inputs for _, request in requests(processor)[0]]
        found = processor.batches.apart(asked)
        assert len(found) == parts, name
        assert sorted(place for part in found for place in part) == list(range(len(asked)))


def test_a_memory_of_its_own_is_no_cache() -> None:
    """RWKV would swallow a cache, RecurrentGemma's layers keep what they read themselves: both sampled nonsense."""
    small = {"vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 3}
    rwkv = transformers.RwkvForCausalLM(transformers.RwkvConfig(**small, context_length=8))
    griffin = transformers.RecurrentGemmaForCausalLM(
        transformers.RecurrentGemmaConfig(**small, num_attention_heads=2, intermediate_size=8, lru_width=8)
    )
    for model, why in ((rwkv, "takes no cache"), (griffin, "in a place of its own")):
        with pytest.raises(UnavailableError, match=f"can't be sampled here: .*{why}"):
            check_cache(model)


def test_a_batch_that_fails_is_told(policies, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policies("qwen3_next")
    engine = TransformersEngine(policy, "toy", batch_tokens=1 << 16)
    plain = BatchSampler.draw

    def crowded(self, batch, *more):
        if sum(len(share.indices) for share in batch) > 1:
            raise RuntimeError("too many rows")
        return plain(self, batch, *more)

    monkeypatch.setattr(BatchSampler, "draw", crowded)
    _, request = requests(policy.processor)[0][0]
    sampling = Sampling(temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=2, seed=0)
    [(_, completions)] = engine.sample([request], sampling)
    assert [c.error for c in completions] == [None, None]
    told = engine.trouble()
    assert told is not None
    assert told["halved"] == {"too many rows": 1}
    assert told["planned"] == 1
    assert engine.trouble() is None


def test_a_frozen_tower_gives_back_what_enters_at_further_layers(policies) -> None:
    policy = policies("qwen3_vl")
    policy.model.requires_grad_(False)
    asked = [r for _, r in requests(policy.processor)[0] if r.image_inputs]
    groups = [TokenGroup(r.token_ids, r.image_inputs, [[5, 6, 7], [8, 9]], [1.0, 1.0]) for r in asked]

    def scores(which):
        return completion_logprobs(policy.model, policy.processor, which, [], share=True).logprobs_NT

    tower = FrozenTower(policy.model)
    assert FrozenTower.fits(policy.model)
    assert not FrozenTower.fits(policies("llava_next").model)
    expected = scores(groups[::-1])
    named = [(r.id, r.image_inputs) for r in asked]
    with tower.cached(named):
        scores(groups)
    policy.model.get_encoder(modality="image").forward = None
    del policy.model.get_encoder(modality="image").forward
    with tower.cached(named[::-1]):
        kept = scores(groups[::-1])
    torch.testing.assert_close(kept, expected, atol=1e-5, rtol=0)


def test_a_template_that_refuses_a_turn_costs_its_row_alone(policies) -> None:
    processor = policies("llava_next").processor
    before = processor._renderer.chat_template
    refusal = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    processor._renderer.chat_template = refusal + before
    try:
        turns = [Message("system", [Part("text", "be brief")]), text_message("user", "hi")]
        with pytest.raises(BadSample) as refused:
            processor.encode(turns, [])
        assert (refused.value.reason, refused.value.detail) == ("chat_template", "no system turn (turns: system, user)")
        assert processor.encode(turns[1:], []).token_ids
    finally:
        processor._renderer.chat_template = before


def test_training_does_not_begin_on_other_numbers(policies, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    from types import SimpleNamespace

    from stages.train.check.cached import check_before_training

    monkeypatch.setenv("COSMO_CACHE", str(tmp_path))
    said: list[str] = []
    session = SimpleNamespace(
        policy=policies("mllama"),
        config=SimpleNamespace(model_check="auto"),
        ctx=SimpleNamespace(progress=SimpleNamespace(log=said.append)),
    )
    with monkeypatch.context() as short:
        short.setattr(policies("mllama").processor.batches, "continued", _last_entry)
        with pytest.raises(InputError, match="other numbers than its own: sampler"):
            check_before_training(session)
    check_before_training(session)
    assert said[0].startswith("numbers are the model's own to ")
    [note] = (tmp_path / "checks").iterdir()
    assert json.loads(note.read_text())["exact"]
    check_before_training(session)
    assert len(said) == 1


def test_the_command_prints_a_table_and_ends_with_3_where_numbers_differ(policies, tmp_path) -> None:
    folder = policies("mamba2").ref.path
    done = cosmo("check", str(folder), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["exact"]
    assert document["model_type"] == "mamba2"


def test_the_page_names_every_toy_and_says_that_its_commands_ran() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = [row.strip("| ").split(" | ") for row in page.splitlines() if row.startswith("| ")]
    families = [row for row in rows if row[0] != "family"]
    assert [row[0] for row in families][: len(TOYS)] == sorted(TOYS)
    assert all(row[-1].startswith("all") for row in families)


def test_a_forward_that_gives_all_logits_is_known_and_its_numbers_are_right(policies, monkeypatch) -> None:
    """Some forwards take no `logits_to_keep`: RL says so once, and picks the positions itself."""
    model = policies("qwen3_next").model
    taken = forward_inputs.forward_names(model)
    assert forward_inputs.keeps_all_logits(model) is None
    plain = type(model).forward

    def swallowing(self, *args, logits_to_keep=0, **kwargs):
        return plain(self, *args, **kwargs)

    with monkeypatch.context() as without:
        without.setattr("stages.models.forward_inputs.forward_names", lambda _: taken - {"logits_to_keep"})
        without.setattr(type(model), "forward", swallowing)
        reason = forward_inputs.keeps_all_logits(model)
        ids = torch.tensor([[5, 6, 7, 8]])
        keep = torch.tensor([1, 3])
        found = forward_inputs.kept_logits(model, model, {"input_ids": ids, "logits_to_keep": keep})
        expected = plain(model, input_ids=ids).logits[:, keep]
    assert reason == "the forward of Qwen3NextForCausalLM takes no logits_to_keep"
    assert torch.equal(found, expected)


def test_which_classes_vllm_has_is_read_without_importing_it(tmp_path) -> None:
    registry = tmp_path / "registry.py"
    registry.write_text(
        "raise RuntimeError('imported')\n"
        "_TEXT_GENERATION_MODELS = {'LlamaForCausalLM': ('llama', 'LlamaForCausalLM')}\n"
        "_MULTIMODAL_MODELS: dict = {\n    'LlavaForConditionalGeneration': ('llava', 'X'),\n}\n"
        "_REWARD_MODELS = {'LlamaForRewardModel': ('llama', 'X')}\n"
        "_VLLM_MODELS = {**_TEXT_GENERATION_MODELS, **_MULTIMODAL_MODELS}\n"
    )
    known = known_architectures(registry)
    assert known == {"LlamaForCausalLM", "LlavaForConditionalGeneration"}
    assert known_architectures(tmp_path / "none.py") is None
    assert vllm_class(["LlavaForConditionalGeneration"], known) == "known: LlavaForConditionalGeneration"
    assert vllm_class(["LlamaForRewardModel"], known) == "not known: LlamaForRewardModel"
    assert vllm_class(None, known) == "not known: config.json names no architecture"
    assert vllm_class(["LlamaForCausalLM"], None) == "unknown: vLLM is not installed here"
