"""Generative verifiers: `[score.judges.NAME]` tables as model verifiers.

A judge is shown a row and what follows the completion's think block, through a prompt of `stages.judging`, and has to
end with a verdict. An answer without exactly one known verdict, a server that fails and a budget that is spent are
grades with status error or timeout, never a stop. Answers are kept by content: the same question to the same judge is
asked once, within a group, between shards and between runs; an answer without a verdict, or cut off at
`max_new_tokens`, is not kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from schemas.identity import digest
from schemas.rollouts import RolloutGroup, Sampling
from schemas.scored import ERROR, FAILED, TIMEOUT, GradeStatus
from schemas.values import Image, Message
from schemas.verdicts import UNPARSABLE
from stages.core.errors import BadSample, CosmoError, UsageError
from stages.core.registry import load, plugin_key
from stages.core.resources import Kind, Resources
from stages.core.runs.halved import Halved
from stages.core.stage import Context
from stages.engines.base import TIMED_OUT, Engine, EngineSettings, SampledCompletion, SampleRequest, engine_name
from stages.engines.steps import TextStep
from stages.judging.parsed import parse_completion
from stages.judging.prompt import JudgePrompt, conversation, facts_of, load_prompt, part_of
from stages.score.config import JudgeTable, StepsTable
from stages.score.models.judge_answers import answer_pieces, read_answer, read_facts, verdict_probability
from stages.score.models.judge_cache import AnswerCache
from stages.score.models.step_judge import listed, read_steps, steps_asked
from stages.score.verifiers.base import (
    GradeGroups,
    Judgement,
    ModelVerifier,
    Ungraded,
    does_not_apply,
    failed,
    judged,
)

# Raised when the same answer would give another grade.
_RULE, _FIELDS_RULE = 3, 4


def bind(name: str, table: JudgeTable, steps: StepsTable = StepsTable()) -> ModelVerifier:  # noqa: B008 (frozen)
    """The judge of that table; UsageError for one that can't be. Loads no model."""
    where = f"[score.judges.{name}]"
    engine = engine_name(table.engine)
    plugin = load("engine", engine)
    prompt = load_prompt(table.prompt or name)
    if table.score == "probability" and len(prompt.verdicts) != 2:
        raise UsageError(
            f"{where} score = 'probability' needs a prompt with two verdicts, and {prompt.name} has"
            f" {len(prompt.verdicts)}",
            "score = 'verdict'",
        )
    if table.score == "probability" and prompt.asks.steps:
        raise UsageError(
            f"{where} score = 'probability' needs one verdict, and {prompt.name} has one a step", "score = 'verdict'"
        )
    if not table.policy and (plugin.needs_policy or (table.url and not table.model)):
        raise UsageError(f"{where} names no model", "policy = 'ORG/NAME', or for a server: model = 'NAME'")
    from stages.models.policy_ref import resolve_policy

    ref = resolve_policy(table.policy) if table.policy else None
    identity = {
        "rule": _FIELDS_RULE if prompt.asks.rule else _RULE,
        "prompt": prompt.digest,
        "engine": plugin_key("engine", engine),
        "model": ref.id if ref else f"name:{table.model}",
        "dtype": table.dtype,
        "score": table.score,
        "temperature": table.temperature,
        "max_new_tokens": table.max_new_tokens,
    }
    if prompt.asks.steps:
        identity["steps"] = asdict(steps)

    settings = EngineSettings(
        table.device,
        table.dtype,
        table.batch_tokens,
        server=table,
        need="logprobs" if table.score == "probability" else "words",
    )

    def open_judge(ctx: Context) -> GradeGroups:
        # A warm place of its own, shared by judges on one model: the common one keeps the policy that is trained.
        warm = ctx.resources.get(_own_place(str(identity["model"])), f"{table.device} {table.dtype}", Resources)
        # The answers lie beside the run folders, where every run finds them.
        cache = AnswerCache(ctx.scratch and ctx.scratch.parents[2] / ".judge-cache", ctx.progress.log)
        opened = plugin.open(ref, settings, warm)
        judge = _Judge(name, table, prompt, digest(identity), opened, cache, ctx.progress.log, ctx.halved, steps)
        return judge.grade_groups

    return ModelVerifier(name, identity, open_judge, plugin.gpus(settings), whole=prompt.asks.steps)


def _own_place(model: str) -> Kind[Resources]:
    """Where what judges on one model have loaded is kept; each model is a kind of its own, so that several stay."""
    return Kind(f"judge on {model}", on_device=True)


@dataclass(slots=True)
class _Question:
    """One thing to ask, and every completion that wants to know."""

    turns: list[Message]
    images: list[Image]
    harmless: bool
    """Whether it is about a row that is marked so, where the prompt reads answers by that."""
    facts: int
    """How many facts it asks about, where the prompt asks about facts."""
    steps: list[TextStep]
    """The steps that it asks about, where the prompt asks about steps."""
    askers: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class _Judge:
    """A judge with its engine opened: asks each question once, and reads the answers."""

    name: str
    table: JudgeTable
    prompt: JudgePrompt
    digest: str
    engine: Engine
    cache: AnswerCache
    log: Callable[[str], None]
    halved: Halved
    """Where its engine's batches that failed are counted."""
    steps: StepsTable
    """How steps are split and what their verdicts come to, for a prompt that asks about steps."""
    asked: int = 0
    failures: int = 0
    """In a row."""
    complained: bool = False

    def grade_groups(self, window: Sequence[Ungraded]) -> list[list[Judgement]]:
        """A judgement for every completion, in order; equal questions are asked once."""
        judgements: list[dict[int, Judgement]] = [{} for _ in window]
        questions: dict[str, _Question] = {}
        for at, (group, completions, layout) in enumerate(window):
            harmless = bool(self.prompt.asks.harmless) and group.harmful is False
            image_digests = [hashlib.sha256(image.bytes).hexdigest() for image in group.images]
            for number, completion in enumerate(completions):
                steps = steps_asked(self.prompt, completion, self.steps)
                answer = part_of(self.prompt, parse_completion(completion.text, layout))
                if (known := _without_asking(self.prompt, group, answer, steps)) is not None:
                    judgements[at][number] = known
                    continue
                turns, images = conversation(self.prompt, group, answer, listed(steps))
                about = [self.digest, _spelled(turns), image_digests if images else []]
                # Steps of the same words may stand elsewhere in another completion.
                about += [[step.start, step.stop] for step in steps]
                key = digest([*about, "harmless"] if harmless else about)
                question = _Question(turns, images, harmless, len(facts_of(self.prompt, group)), steps)
                questions.setdefault(key, question).askers.append((at, number))
        for key, judgement in self._answers(questions).items():
            for at, number in questions[key].askers:
                judgements[at][number] = judgement
        return [[found[n] for n in range(len(w.completions))] for found, w in zip(judgements, window, strict=True)]

    def _answers(self, questions: dict[str, _Question]) -> dict[str, Judgement]:
        """A judgement for every question: kept answers first, the judge for the others."""
        cached = self.cache.get(questions).items()
        found = {key: self._read(json.loads(kept), questions[key]) for key, kept in cached}
        try:
            sampling = Sampling(self.table.temperature, 1.0, 0, self.table.max_new_tokens, 0)
            # One completion was asked for, so the first is all there is.
            for key, (sampled, *_) in self.engine.sample(self._requests(questions, found), sampling):
                found[key] = self._answered(key, sampled, questions[key])
        # Raised for what a person has to put right, a wrong key for one; everything else is one failed answer.
        except CosmoError:
            raise
        except Exception as error:
            # Whatever an engine does, the answers that came before it stay.
            self._failed(f"{type(error).__name__}: {error}")
        self.halved.join(self.engine.trouble())
        return found | {key: failed("the judge did not answer") for key in questions.keys() - found.keys()}

    def _requests(self, questions: dict[str, _Question], found: dict[str, Judgement]) -> Iterator[SampleRequest]:
        """What the engine is asked; what can't or may not be asked goes straight into `found`."""
        # The engine draws these as it has room, so that failures so far are known before the next question is asked.
        for key, question in list(questions.items()):
            if key in found:
                continue
            if 0 < self.table.budget <= self.asked:
                found[key] = failed(f"budget: {self.table.budget} answers were asked for")
            elif 0 < self.table.give_up_after <= self.failures:
                found[key] = failed(f"gave up: {self.failures} answers in a row failed before this one")
            else:
                try:
                    encoded = self.engine.encode(question.turns, question.images)
                    self._check_length(len(encoded.token_ids))
                except BadSample as bad:
                    found[key] = failed(str(bad))
                    continue
                self.asked += 1
                yield SampleRequest(key, encoded.token_ids, encoded.image_inputs, 1, question.turns, question.images)

    def _check_length(self, length: int) -> None:
        if length + self.table.max_new_tokens > self.engine.max_positions:
            raise BadSample("too_long", f"{length} tokens of a question exceed {self.engine.max_positions} positions")

    def _answered(self, key: str, sampled: SampledCompletion, question: _Question) -> Judgement:
        if sampled.finish_reason == "error":
            reason = sampled.error or "the engine failed"
            return self._failed(reason, TIMEOUT if reason.startswith(TIMED_OUT) else ERROR)
        self.failures = 0
        if sampled.finish_reason == "length":
            # Whatever it had said by then, it had not come to its end: it might have taken it back.
            return failed(
                f"{UNPARSABLE}: cut off after {len(sampled.token_ids)} tokens: raise judges.{self.name}.max_new_tokens"
            )
        pieces = answer_pieces(self.engine, sampled, apart=self.table.score == "probability")
        answer = {"text": "".join(pieces), "p": verdict_probability(self.prompt, pieces, sampled.logprobs)}
        judgement = self._read(answer, question)
        # An answer without a verdict is not kept, or the same question would fail from the cache for good.
        if judgement.status not in FAILED:
            self.cache.put(key, json.dumps(answer, ensure_ascii=False))
        return judgement

    def _read(self, answer: dict[str, Any], question: _Question) -> Judgement:
        if self.prompt.asks.steps:
            return read_steps(self.name, self.prompt, question.steps, answer["text"], self.steps)
        if self.prompt.asks.facts:
            return read_facts(self.prompt, question.facts, answer["text"])
        return read_answer(self.prompt, self.table.score, answer["text"], answer["p"], question.harmless)

    def _failed(self, reason: str, status: GradeStatus = ERROR) -> Judgement:
        self.failures += 1
        if not self.complained:
            self.complained = True
            self.log(f"judge {self.name}: {reason}")
        return failed(reason, status)


def _without_asking(prompt: JudgePrompt, group: RolloutGroup, answer: str, steps: list[TextStep]) -> Judgement | None:
    if group.answer is None and "reference" in prompt.blanks:
        return does_not_apply("the row has no reference answer")
    if prompt.asks.facts and not facts_of(prompt, group):
        return does_not_apply(f"the row has no {prompt.asks.facts}")
    if prompt.asks.steps:
        return None if steps else does_not_apply("the completion has no step with a word")
    if not answer and prompt.asks.part != "shown":
        return judged(0.0, "none", f"the completion has no {prompt.asks.part}")
    return None if answer else judged(0.0, UNPARSABLE, "nothing follows the think block")


def _spelled(turns: list[Message]) -> list[Any]:
    return [[m.role, [[p.type, p.text] for p in m.content]] for m in turns]
