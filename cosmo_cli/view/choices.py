"""The choices of a guided completion: candidates, what they were thought to be worth, and which of them was kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cosmo_cli.view.tokens import policy_tokenizer

if TYPE_CHECKING:
    from cosmo_cli.view.library import Library
    from schemas.rollouts import GuidedStep
    from stages.core.runs.folder import RunFolder

MOST_STEPS = 200


def guided_choices(folder: RunFolder, library: Library, ident: str, completion: int) -> list[dict[str, Any]]:
    """The choices of a completion, in order; none where nobody guided it, or where the rollout is not here any more."""
    tokenizer = policy_tokenizer(folder, library)

    def words(ids: list[int]) -> str:
        return str(tokenizer.decode(ids)) if tokenizer is not None else " ".join(map(str, ids))

    found = []
    for step in _steps(folder, ident, completion)[:MOST_STEPS]:
        candidates = [
            {"text": words(list(c.token_ids)), "values": [round(v, 4) for v in c.values], "kept": n == step.chosen}
            for n, c in enumerate(step.candidates)
        ]
        weights = [round(w, 4) for w in step.weights]
        found.append({"from": step.from_token, "of": step.dimensions, "weights": weights, "candidates": candidates})
    return found


def _steps(folder: RunFolder, ident: str, completion: int) -> list[GuidedStep]:
    """The rows of one completion in the further table of the rollout, by the prompt's id: no others are decoded."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from schemas.arrow import rows_from
    from schemas.tables import STEPS_GUIDED
    from stages.core.runs.shards import open_shard

    # A scored run has its groups' choices in the rollout that it was made from.
    for run in (folder, *folder.upstream()):
        rows: list[GuidedStep] = []
        for index in run.files.indices():
            path = run.artifact(f"{STEPS_GUIDED.name}/{index:05d}.parquet")
            if not path.is_file():
                continue
            own = (pc.field("id") == ident) & (pc.field("index") == completion)
            with open_shard(path, STEPS_GUIDED):
                rows += rows_from(STEPS_GUIDED, pq.read_table(path, filters=own), 0)
        if rows:
            return sorted(rows, key=lambda s: (s.step, s.beam))
    return []
