"""No test reads or writes a person's own cache."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COSMO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
