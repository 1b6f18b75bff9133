"""AdamW for weights of few digits: it moves a float32 copy of each, its master, and rounds that into the weight.

A bfloat16 number has eight binary digits, so a step is lost where it is less than about a 512th of the weight: most
steps at RL's rates. The master adds them up until they count (mixed precision training, arXiv:1710.03740, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

MASTER = "master"
"""Its name in the optimizer's state, beside AdamW's own."""


class MasterAdamW(torch.optim.AdamW):
    """torch's AdamW, to the bit, on the masters; moments are float32. Parameters in float32 are their own masters."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every parameter that has a gradient. `closure` is called first, as torch's optimizers do."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            states = [self._state_of(p, group) for p in moved]
            masters = [state.get(MASTER, p) for p, state in zip(moved, states, strict=True)]
            adamw(
                masters,
                [p.grad.to(torch.float32) for p in moved],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                foreach=group["foreach"],
                fused=group["fused"],
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )
            for parameter, master in zip(moved, masters, strict=True):
                if master is not parameter:
                    parameter.copy_(master)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch, but for the dtype of what is loaded: torch would cast it to the parameters', masters too.

        accelerate takes every optimizer through it once.
        """
        super().load_state_dict(state_dict)
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        parameters = [p for group in self.param_groups for p in group["params"]]
        for number, parameter in zip(numbers, parameters, strict=True):
            for name, value in state_dict["state"].get(number, {}).items():
                self.state[parameter][name] = value.to(parameter.device)

    def _state_of(self, parameter: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """What there is of it, and what its first step finds missing."""
        state: dict[str, Tensor] = self.state[parameter]
        if "step" not in state:
            # The fused kernel wants it beside the parameter, the others on the CPU.
            state["step"] = torch.zeros((), device=parameter.device if group["fused"] else "cpu")
            for moment in ("exp_avg", "exp_avg_sq"):
                state[moment] = torch.zeros_like(parameter, dtype=torch.float32)
        if MASTER not in state and parameter.dtype != torch.float32:
            state[MASTER] = parameter.detach().to(torch.float32)
        return state
