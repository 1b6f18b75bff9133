"""Tests against a real vLLM and a real Ray: collected only where they are installed (`make test-engines`)."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [f"test_{name}*.py" for name in ("ray", "vllm") if importlib.util.find_spec(name) is None]
