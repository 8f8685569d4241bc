"""Values of options that both the command line, which must not load PyTorch, and the networks need."""

from __future__ import annotations

STAGES = ("stem", "layer1", "layer2", "layer3", "layer4", "head")  # of every network, from input to output
TEACHERS = ("efficientnet-lite0",)
