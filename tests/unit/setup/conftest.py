"""On a pod, these files are beside the programs that import them."""

from __future__ import annotations

import sys

from pi.on_pod import stack
from pi.setup.templates import pi_beside

sys.modules |= {"pi_stack": stack, "pi_beside": pi_beside}
