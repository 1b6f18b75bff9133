"""Chat templates of strangers: one that loops or makes gigabytes costs its row, and an honest one reads as ever."""

from __future__ import annotations

import resource
from typing import Any, ClassVar

import pytest

from schemas.values import text_message
from stages.core.errors import BadSample
from stages.models.templates import render as rendering
from stages.models.templates.render import TemplateError, render
from tests.models.made import policy, prompt

LONG = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
"""Ten thousand million steps: the sandbox bounds a range, and not ranges inside of ranges."""
DOUBLED = "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"
SPENT = {
    LONG: "more than 1 s of processor time",
    "{{ 'x' * 10**10 }}": "more than 1 GiB of memory",
    "{{ 'x'.ljust(10**10) }}": "more than 1 GiB of memory",
    "{{ 'x' | center(2000000) }}": "2,000,000 characters, and 1,000,",
    "{{ 9 ** (10 ** 9) }}": "more than 1 s of processor time",
    # Filling memory takes time, too: which of them ends first is the machine's matter.
    DOUBLED: "more than 1 ",
    "{{ [[0] * 30000] * 30000 }}": "more than 1 ",
    # Python itself refuses such a width.
    "{{ '%10000000000d' % 1 }}": "",
}
"""What each takes too much of."""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second is enough for what is spent by it in any case."""
    monkeypatch.setattr(rendering, "LIMIT_S", 1.0)


def _turns() -> list[dict[str, Any]]:
    return [{"role": "user", "content": "what ?"}]


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A policy whose template may be changed, as a stranger would."""
    found = policy("tiny:llama").processor
    monkeypatch.setattr(found._renderer, "chat_template", found._renderer.chat_template)
    return found


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("template", SPENT)
def test_a_template_that_takes_too_much_costs_its_row(template: str, processor: Any) -> None:
    processor._renderer.chat_template = template
    with pytest.raises(BadSample, match=r"chat_template: .+ \(turns: user\)") as bad:
        processor.encode([text_message("user", "what ?")], [])
    assert SPENT[template] in bad.value.detail
    # The next row is another's.
    processor._renderer.chat_template = "{{ messages[0]['content'] }}"
    assert processor.render([text_message("user", "what ?")]) == "what ?"


@pytest.mark.usefixtures("quick")
def test_a_template_that_loops_over_a_letter_is_not_asked_again(processor: Any) -> None:
    processor._renderer.chat_template = LONG + "x"
    reasons, before = set(), _children_s()
    for n in range(20):
        with pytest.raises(BadSample) as bad:
            processor.render([text_message("user", f"question {n}")])
        reasons.add(bad.value.detail)
    assert len(reasons) == 1
    assert _children_s() - before < 10


def _children_s() -> float:
    """Processor time of children that have ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


@pytest.mark.usefixtures("quick")
def test_one_that_loops_on_some_rows_costs_those_alone(processor: Any) -> None:
    processor._renderer.chat_template = "{% if 'bad' in messages[0]['content'] %}" + LONG + "{% endif %}fine"
    assert processor.render([text_message("user", "good")]) == "fine"
    with pytest.raises(BadSample, match="more than 1 s of processor time"):
        processor.render([text_message("user", "bad")])
    assert processor.render([text_message("user", "good")]) == "fine"


@pytest.mark.parametrize("spec", ["tiny:qwen2_5_vl", "tiny:internvl", "tiny:llama"])
@pytest.mark.parametrize(
    "more",
    [
        "{# a stranger's #}",
        "{% generation %}a{% endgeneration %}{% for m in messages %}{% break %}{% endfor %}",
        "\n  {% set x = messages | tojson %}\n{{ x }}{{ bos_token }}{{ eos_token }}{{ strftime_now('%Y') }}\n",
        "{{ messages | length * 3 }}{{ 'a'.ljust(9) }}{% for i in range(3) %}{{ i % 2 }}{% endfor %}",
    ],
)
def test_an_honest_template_renders_as_transformers_does(spec: str, more: str, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = policy(spec).processor._renderer
    template = renderer.chat_template + more
    monkeypatch.setattr(renderer, "chat_template", template)
    from stages.models.processor import _as_dict

    for images in range(0 if spec == "tiny:llama" else 2):
        turns = [_as_dict(m) for m in prompt(3, images)[0]]
        turns[0]["content"] = turns[0]["content"] if images else "K\u00e4se \U0001f600 \ud83d <b>&"
        assert render(renderer, turns) == renderer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )


def test_long_conversations_are_no_bombs(processor: Any) -> None:
    processor._renderer.chat_template += "{# a stranger's #}"
    turns = [text_message(("user", "assistant")[n % 2], "a word " * 2000) for n in range(301)]
    assert len(processor.render(turns)) > 301 * 14_000


def test_a_class_with_a_rendering_of_its_own_is_asked_once_its_template_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SmolVLM's and others'; where its code can do what the plain template does not, that is its word."""

    class Own:
        chat_template = "{{ raise_exception('not alone') }}"
        special_tokens_map: ClassVar[dict[str, str]] = {}

        def apply_chat_template(self, turns: Any, **how: Any) -> str:
            return "own"

    assert render(Own(), _turns()) == "own"
    own = Own()
    own.chat_template = "{{ 'x' * 10**10 }}"
    with pytest.raises(TemplateError, match="1 GiB"):
        render(own, _turns())
    own.chat_template = {"other": ""}  # type: ignore[assignment]
    with pytest.raises(TemplateError, match="none is called default"):
        render(own, _turns())
