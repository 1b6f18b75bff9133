"""What `cosmo rollout` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stages.core.config import option, section
from stages.engines.base import ServerTable, VllmTable
from stages.engines.system_turn import AS_IT_IS, IN_USER_TURN, SYSTEM_TURN_HELP
from stages.rollout.methods.guide_table import GuideTable
from stages.rollout.refill import RefillSelection


@dataclass(frozen=True)
class EnvironmentTable:
    """Who answers a completion's actions between its turns, as `[rollout.environment]` gives it, and how long it may.

    Its plugin, and the plugin's settings, are in the plan's key with what they read.
    """

    name: str = option(
        "", "Environment plugin (cosmo list environment), FILE.py:NAME or MODULE:NAME; empty: none", affects=False
    )
    max_turns: int = option(4, "Turns of the policy; a completion that has not ended then is cut off", low=1)
    max_observation: int = option(
        200, "Tokens of one observation with its tags; longer ones are cut, the tags never", low=1
    )
    max_total_tokens: int = option(
        0, "Longest completion with its observations; 0: max_new_tokens, and max_observation for each turn", low=0
    )
    time_limit_s: float = option(30.0, "Seconds that one step may take", low=0.001, affects=False)
    options: dict[str, Any] = option({}, "Settings of the environment itself", affects=False)


@dataclass(frozen=True)
class RolloutConfig:
    """Which policy answers which prompts, how often, and how it is sampled."""

    # What the policy holds and which engine `auto` means are in the plan's key; how they are called is not.
    policy: str = option(
        "",
        "Model: tiny:NAME, a train run, a Hugging Face folder or a hub name",
        flag="--policy",
        affects=False,
    )
    engine: str = option(
        "auto", "Engine plugin (cosmo list engine), FILE.py:NAME or MODULE:NAME", flag="--engine", affects=False
    )
    samples: int = option(8, "Completions a prompt: the group size G", flag="--samples", low=1)
    temperature: float = option(1.0, "0 is greedy", flag="--temperature", low=0.0)
    max_new_tokens: int = option(256, "Longest completion", flag="--max-new-tokens", low=1)
    seed: int = option(0, "Seed of the samples", flag="--seed")
    stop: list[str] = option([], "Texts that end a completion once it has written one; they stay in it")
    top_p: float = option(1.0, "Nucleus; less than 1 is for evaluation only", low=0.0, high=1.0)
    top_k: int = option(0, "Most likely tokens kept; 0 is off, anything else is for evaluation only", low=0)
    allow_truncated_sampling: bool = option(
        False, "Sample with top_p < 1 or top_k all the same: as training data it biases the ratio", affects=False
    )
    system_turn: str = option(AS_IT_IS, SYSTEM_TURN_HELP, choices=(AS_IT_IS, IN_USER_TURN))
    guide: GuideTable = section(GuideTable, "Guided sampling: the best of several continuations at each step")
    select: RefillSelection = option(RefillSelection(), "Which prompts")
    environment: EnvironmentTable = section(EnvironmentTable, "Who answers a completion's actions between its turns")
    shard_groups: int = option(64, "Groups an output shard; fewer where more workers than shards are known", low=1)
    batch_tokens: int = option(65536, "Most positions (rows x length) decoded at once", low=1, affects=False)
    device: str = option("auto", "auto, cpu, cuda, cuda:1", flag="--device", affects=False)
    dtype: str = option(
        "auto", "auto: float32 on a CPU, bfloat16 on a GPU", choices=("auto", "float32", "bfloat16", "float16")
    )
    trust_remote_code: bool = option(False, "Run code that comes with the model's folder")
    server: ServerTable = section(ServerTable, "Where the model runs, for engines that ask a server")
    vllm: VllmTable = section(VllmTable, "How vLLM uses the machine, for the engine that is vLLM")
