"""Networks for tests: importing this package puts its files beside those of `train/networks`, as a user's own file would lie."""

from __future__ import annotations

from pathlib import Path

import torch

import train
from train import networks

train.__path__.append(str(Path(__file__).parents[1]))  # where plug-ins are listed
networks.__path__.append(str(Path(__file__).parent))  # where they are imported from
torch.set_num_threads(1)  # networks this small wait for a second thread longer than it helps them
