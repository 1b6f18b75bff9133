"""A chat template that refuses a system turn: the row is rejected, or its text is asked in the user turn."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from schemas.values import Message, Part, text_message
from stages.core.errors import BadSample
from stages.engines.system_turn import in_user_turn
from stages.models.processor import PromptProcessor
from tests.families.chain import Chain
from tests.families.toys import build

# Gemma's own refusal.
_REFUSAL = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Gemma 3 toy whose template takes no system turn."""
    folder = build("gemma3", tmp_path_factory.mktemp("strict") / "gemma3")
    template = folder / "chat_template.jinja"
    template.write_text(_REFUSAL + template.read_text(encoding="utf-8"), encoding="utf-8")
    return folder


def _processor(folder: Path) -> PromptProcessor:
    from transformers import AutoConfig

    return PromptProcessor(folder, AutoConfig.from_pretrained(folder))


def test_a_refused_turn_costs_its_rows_and_the_run_says_which(strict: Path, tmp_path: Path) -> None:
    chain = Chain(strict, tmp_path, system=(1, 3)).go("prepare", "rollout", "SFT")
    assert chain.failed == {}
    assert chain.rejected("rollout") == {"chat_template": 2}
    assert chain.rejected("SFT") == {"chat_template": 2}
    assert len(chain.groups()) == 2


@pytest.mark.parametrize("fails", ["{{ 1 / 0 }}", "{{ ''.__class__.__mro__ }}", "{{ none.x.y }}", "{{ 2.0 ** 5000 }}"])
def test_a_template_may_fail_in_any_way(fails: str, strict: Path, tmp_path: Path) -> None:
    """A stranger's program: whatever it raises is the row's reason, and names the turns."""
    folder = tmp_path / "model"
    shutil.copytree(strict, folder)
    (folder / "chat_template.jinja").write_text(fails, encoding="utf-8")
    with pytest.raises(BadSample, match=r"chat_template: .+ \(turns: user\)"):
        _processor(folder).render([text_message("user", "a")])


def test_it_is_asked_again_where_the_recipe_says_so(strict: Path, tmp_path: Path) -> None:
    told = {"system_turn": "in_user_turn"}
    chain = Chain(strict, tmp_path, system=(0, 1, 2, 3), settings={"rollout": told, "train": told}).go()
    assert chain.failed == {}
    assert [chain.rejected(stage) for stage in ("rollout", "RL", "SFT")] == [{}, {}, {}]
    processor = _processor(strict)
    for group in chain.groups():
        # What the row says is what the model was asked, and RL found its images by rendering it once more.
        assert [m.role for m in group.messages] == ["user"]
        assert group.messages[0].content[0] == Part("text", "be brief .\n\n")
        assert processor.encode(group.messages, group.images).token_ids == list(group.prompt_token_ids)
        assert processor.decode(list(group.prompt_token_ids)).count("be brief") == 1


def test_only_a_system_turn_is_moved() -> None:
    turns = [Message("system", [Part("text", "a")]), text_message("user", "b", 1), text_message("assistant", "c")]
    assert in_user_turn(turns) == [
        Message("user", [Part("text", "a\n\n"), Part("image"), Part("text", "b")]),
        text_message("assistant", "c"),
    ]
    assert in_user_turn(turns[1:]) == turns[1:]
    assert in_user_turn(turns[:1]) == turns[:1]
