"""An engine that says a script, turn by turn, as the fake engine would: bytes are its tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from schemas.rollouts import FinishReason, Sampling
from stages.engines.base import EnginePlugin, SampledCompletion, SampleRequest
from stages.engines.fake import FakeEngine
from stages.engines.stop_strings import StopStrings

_EOS = 256


class Scripted(FakeEngine):
    """Says what the prompt holds behind `say`, turns parted by bars; what was observed decides which is next."""

    label = "scripted/1"

    def __init__(self) -> None:
        super().__init__()
        self.label = "scripted/1"

    def sample(
        self, requests: Iterable[SampleRequest], sampling: Sampling
    ) -> Iterator[tuple[str, list[SampledCompletion]]]:
        for request in sorted(requests, key=lambda r: r.id):
            yield request.id, [self._turn(request, index, sampling) for index in range(request.n)]

    def _turn(self, request: SampleRequest, index: int, sampling: Sampling) -> SampledCompletion:
        if (ended := request.finished(index, sampling.max_new_tokens, (_EOS,))) is not None:
            return ended
        prefix = request.prefix(index)
        turns = self.decode(request.token_ids).partition("say ")[2].split("|")
        number = len(re.findall(r"</(?:results|document)>", self.decode(prefix)))
        ids = [*(turns[number] if number < len(turns) else "").encode(), _EOS]
        sampled = SampledCompletion(ids, [-0.5] * len(ids), FinishReason.STOP)
        return StopStrings(sampling.stop, self.decode).cut(prefix, sampled)


class Plugin(EnginePlugin):
    version = 1
    needs_policy = False

    def open(self, ref: Any, settings: Any, resources: Any) -> Scripted:
        return Scripted()


scripted = Plugin()
