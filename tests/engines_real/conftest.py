"""Tests against real engines, clusters and trackers: collected only where they are installed (`make test-engines`)."""

from __future__ import annotations

import importlib.util

_NEEDS = {"test_ray.py": "ray", "test_vllm*.py": "vllm", "test_zero.py": "deepspeed", "test_trackers.py": "wandb"}
collect_ignore_glob = [name for name, module in _NEEDS.items() if importlib.util.find_spec(module) is None]
