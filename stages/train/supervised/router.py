"""The router of a value model: from a prompt alone, how much each of its dimensions counts.

SafeWork-R1 weighs its value models by a router on the prompt (arXiv:2507.18576). Ours is the softmax of a linear layer
on the prompt's last state: a regression on which verifiers had a grade for the group's completions. It is fitted when
the values have been learned, by a convex search: they come out the same with a router and without (our own design).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from stages.models.load import Policy
from stages.models.value_model import add_router, prompt_states, router_weights
from stages.train.supervised.value_examples import ValueGroup

RIDGE = 1e-3
"""Weight of the squared parameters, of standardized states, beside the mean cross-entropy."""
_ROUNDS = 200


def learn_router(policy: Policy, groups: Iterable[ValueGroup]) -> None:
    """Fit the router on these groups' prompts and give it to the model."""
    states, shares = [], []
    with torch.no_grad():
        for group in groups:
            graded_D = (~group.targets_MD.isnan()).any(0)
            if graded_D.any():
                states.append(_state(policy, group))
                shares.append(graded_D.double() / graded_D.sum())
    width = policy.model.config.get_text_config().hidden_size
    states_PH = torch.stack(states).cpu() if states else torch.zeros(0, width)
    dimensions = len(policy.model.config.value_model["dimensions"])
    shares_PD = torch.stack(shares).cpu() if shares else torch.zeros(0, dimensions, dtype=torch.float64)
    add_router(policy.model, *fit(states_PH, shares_PD))


def routed(policy: Policy, group: ValueGroup) -> list[float]:
    """The weight of each dimension for a group's prompt."""
    return router_weights(policy.model, policy.processor, group.tokens.prompt, group.tokens.image_inputs)


def fit(states_PH: Tensor, shares_PD: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (D, H) and bias (D) of the softmax regression from states (P, H) to shares (P, D) that sum to 1 a row.

    All alike without a prompt. States are standardized for the fit, and the result is of states as they are.
    """
    x_PH, y_PD = states_PH.double(), shares_PD.double()
    weight_DH = torch.zeros(y_PD.shape[1], x_PH.shape[1], dtype=torch.float64, requires_grad=True)
    bias_D = torch.zeros(y_PD.shape[1], dtype=torch.float64, requires_grad=True)
    if not len(x_PH):
        return weight_DH.detach().float(), bias_D.detach().float()
    mean_H, spread_H = x_PH.mean(0), x_PH.std(0, correction=0).clamp(min=1e-6)
    x_PH = (x_PH - mean_H) / spread_H
    search = torch.optim.LBFGS([weight_DH, bias_D], max_iter=_ROUNDS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        logs_PD = (x_PH @ weight_DH.T + bias_D).log_softmax(1)
        found = -(y_PD * logs_PD).sum(1).mean() + RIDGE * weight_DH.square().sum()
        found.backward()
        return found

    search.step(loss)
    with torch.no_grad():
        own_DH = weight_DH / spread_H
        return own_DH.float(), (bias_D - own_DH @ mean_H).float()


def _state(policy: Policy, group: ValueGroup) -> Tensor:
    return prompt_states(policy.model, policy.processor, group.tokens.prompt, group.tokens.image_inputs)
