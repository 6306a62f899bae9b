"""torchvision beside a CPU build of PyTorch, which lacks what its compiled detection operators register with; no classifier
and no transform needs them."""

import sys
import types

sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")

from torchvision import models, transforms  # noqa: E402, F401
