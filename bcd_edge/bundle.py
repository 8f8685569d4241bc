"""stub replaced below"""
from dataclasses import dataclass
@dataclass(frozen=True, slots=True)
class Input:
    height: int
    width: int
