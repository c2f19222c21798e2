"""Settings for all tests."""

from __future__ import annotations

import os

from hypothesis import settings

EXAMPLES = int(os.environ.get("PI_TEST_EXAMPLES", "20"))
"""Random examples of each property in a run; the nightly run tries more."""

settings.register_profile("pi", deadline=None, max_examples=EXAMPLES)  # a busy machine must not fail a test
settings.load_profile("pi")
