"""cosmo import: files of completions in, rollout groups out; with their verdicts, scored groups.

Planning goes through the files once: each row's prompt is found (in a prepared run, or by its own columns), and rows
of one prompt and one model become a group. A shard is a list of groups by where their rows lie, which its work reads
again.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.identity import digest
from schemas.prompts import PromptRow
from schemas.rollouts import Completion, FinishReason, RolloutGroup, Sampling
from schemas.scored import ScoredGroup
from schemas.tables import PROMPTS, ROLLOUTS, SCORED, Table
from stages.core.errors import BadSample, UsageError
from stages.core.stage import Context, Plan, Quality, ShardWriter, Stage, Work, chunks
from stages.imports.config import ImportConfig

if TYPE_CHECKING:
    from stages.core.runs.folder import RunFolder
    from stages.imports.samples import Made, SampleReader
    from stages.models.processor import PromptProcessor

ENGINE = "import/1"
"""What completions name as their engine."""


class ImportStage(Stage):
    """Completions made elsewhere, as groups: one a prompt and model."""

    name = "import"
    version = 4
    table = ROLLOUTS
    reads = (PROMPTS,)
    needs_input = False
    config = ImportConfig

    def writes(self, config: ImportConfig) -> Table:
        """Scored groups where the file's verdicts are kept; else rollout groups."""
        return SCORED if config.write == "scored" else ROLLOUTS

    def plan(self, ctx: Context) -> Plan:
        """Find every row's prompt and group the rows. Loads no torch, and decodes no image."""
        from stages.core.file_digest import known_sha256
        from stages.imports.files import find_files
        from stages.imports.planning import Planner
        from stages.judging.instructions.checkable import checks_key
        from stages.judging.instructions.find import check_names

        config: ImportConfig = ctx.config
        _check(config)
        check_names(config.checks)
        paths = find_files(config.files)
        found = Planner(ctx, paths).plan()
        shards = [
            {"groups": part, "layouts": found.layouts} for part in chunks(found.groups, config.shard_groups)
        ]  # fmt: skip
        key: dict[str, Any] = {"files": [known_sha256(path) for path in paths], "engine": ENGINE}
        if found.images:
            key["images"] = digest(found.images)
        if found.families:
            key["checks"] = checks_key(found.families)
        if config.tokenizer:
            from stages.models.policy_ref import resolve_policy

            key["tokenizer"] = resolve_policy(config.tokenizer).id
        provenance = {"policies": found.policies, "reading": found.reading, "groups": len(found.groups)}
        return Plan(shards, key, found.rejected, provenance)

    def open(self, ctx: Context) -> Work:
        """Read planned rows again; a group that can't be made is rejected with its reason."""
        from stages.imports.files import find_files, open_file

        files = [open_file(path) for path in find_files(ctx.config.files)]
        maker = _Maker(ctx, files)

        def work(shard: dict[str, Any], writer: ShardWriter) -> None:
            ctx.progress.start("import", len(shard["groups"]), "groups")
            maker.begin(shard)
            for group in shard["groups"]:
                try:
                    writer.row(maker.group(group))
                except BadSample as bad:
                    number, _, ref = group["rows"][0]
                    writer.reject(files[number].files[0].name, ref, bad.reason, bad.detail)
                ctx.progress.advance()

        return work

    def quality(self, folder: RunFolder) -> Quality:
        """Completions by policy, those that the file does not have, and what the grades are called."""
        from stages.imports.quality import import_quality

        return import_quality(folder)


class _Maker:
    """Makes groups of planned rows."""

    def __init__(self, ctx: Context, files: list[Any]) -> None:
        from stages.models.image_checks import Limits

        self._config: ImportConfig = ctx.config
        self._inputs, self._files = ctx.inputs, files
        self._limits = Limits(self._config.max_image_bytes, self._config.max_image_pixels, self._config.min_image_side)
        self._processor = _processor(self._config)
        self._readers: dict[int, SampleReader] = {}
        self._prompts: dict[Any, PromptRow] = {}
        self._walked: dict[tuple[int, Any], dict[str, Any]] = {}

    def begin(self, shard: dict[str, Any]) -> None:
        """Get ready for the shard's groups: its layouts, and its prompts from upstream."""
        from stages.imports.join import fetch
        from stages.imports.samples import SampleReader

        for number, layout in enumerate(shard["layouts"]):
            file = self._files[number]
            self._readers[number] = SampleReader(self._config, layout, file.files[0], file.head)
        addresses = [tuple(g["prompt"]) for g in shard["groups"] if g["prompt"] is not None]
        self._prompts = fetch(self._inputs, addresses)

        self._walked = {}
        for number, file in enumerate(self._files):
            if file.is_walked():
                rows = sorted(at for g in shard["groups"] for n, at, _ in g["rows"] if n == number)
                self._walked |= {(number, at): file.read(at) for at in rows}

    def _record(self, number: int, at: Any) -> dict[str, Any]:
        # Files that can't be entered in the middle are gone through once a shard; of any other no row is kept.
        file = self._files[number]
        record: dict[str, Any] = self._walked[number, at] if file.is_walked() else file.read(at)
        return record

    def group(self, planned: dict[str, Any]) -> RolloutGroup | ScoredGroup:
        """The group of a prompt and a model; BadSample where its prompt or an image can't be used."""
        from stages.imports import grades
        from stages.models.image_checks import silence_pillow

        made: list[Made] = []
        first = None
        for number, at, _ in planned["rows"]:
            sample = self._readers[number].sample(self._record(number, at))
            first = first or (number, sample)
            made += sample.completions
        assert first is not None, "a planned group has rows"
        if planned["prompt"] is not None:
            prompt = self._prompts[tuple(planned["prompt"])]
        else:
            with silence_pillow():
                prompt = self._own_prompt(*first)
        completions = [self._completion(n, one, planned["model"]) for n, one in enumerate(made)]
        fields = {f.name: getattr(prompt, f.name) for f in dataclasses.fields(PromptRow)}
        if self._processor is not None:
            fields["prompt_token_ids"] = self._processor.encode(prompt.messages, prompt.images).token_ids
            fields["banned_token_ids"] = self._processor.banned_token_ids
        if self._config.write == "rollout":
            return RolloutGroup(**fields, completions=completions)
        graded = [grades.scored(c, m.verdicts, self._config) for c, m in zip(completions, made, strict=True)]
        return ScoredGroup(**fields, completions=graded, reward_formula=grades.formula(self._config))

    def _own_prompt(self, number: int, sample: Any) -> PromptRow:
        from stages.imports.prompts import image_rules, prompt_draft, whole_row

        path: Path = self._files[number].files[0]
        rules = image_rules(self._config, path)
        return whole_row(prompt_draft(sample.prompt, self._config, f"import:{path.stem}", rules), self._limits)

    def _completion(self, index: int, made: Made, model: str) -> Completion:
        token_ids: list[int] = []
        if self._processor is not None and made.text is not None:
            token_ids = self._processor.encode_completion(made.text)
            # What was cut off has no end, and one learned from would teach to stop there.
            if made.finish == FinishReason.LENGTH:
                token_ids.pop()
        return Completion(
            index=index,
            text=made.text or "",
            token_ids=token_ids,
            logprobs=[],
            finish_reason=str(made.finish),
            # How it was sampled is not in the file. A ratio wants the model's own distribution, which this is.
            sampling=Sampling(temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=len(token_ids), seed=0),
            policy_id=model,
            engine=ENGINE,
            error=made.error,
        )


def _processor(config: ImportConfig) -> PromptProcessor | None:
    if not config.tokenizer:
        return None
    from stages.models.policy_ref import resolve_policy
    from stages.models.processor import load_processor

    return load_processor(resolve_policy(config.tokenizer), trust_remote_code=config.trust_remote_code)


def _check(config: ImportConfig) -> None:
    if not config.files:
        raise UsageError("cosmo import was given no file", "cosmo import FILE --as rollout")
    if config.write == "rollout":
        given = next((n for n in ("grades", "verdicts", "values", "reward") if getattr(config, n)), None)
        if given is not None:
            raise UsageError(f"import.{given} is set, and rollout groups have no grades", "add --as scored")


STAGE = ImportStage()
