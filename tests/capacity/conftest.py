"""The tiny models, as the training tests have them."""

from tests.train.conftest import policies  # noqa: F401
