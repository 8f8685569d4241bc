"""Reads a Dockerfile: its instructions, and the install commands of its last stage to run without Docker."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction.

    Attributes:
        name: upper case: `FROM`, `RUN`.
        text: the rest, with continued lines joined and comments removed.
    """

    name: str
    text: str


def stages(source: str) -> list[list[Instruction]]:
    """The instructions before the first FROM, then those of each stage, FROM first (Dockerfile reference, Format)."""
    lines = [line.strip() for line in source.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    by_stage: list[list[Instruction]] = [[]]
    for line in joined.splitlines():
        name, _, text = line.partition(" ")
        if name.upper() == "FROM":
            by_stage.append([])
        by_stage[-1].append(Instruction(name.upper(), text.strip()))
    return by_stage


def arguments(stage: list[Instruction]) -> dict[str, str]:
    """The build arguments of a stage with their defaults; empty for one without."""
    pairs = [instruction.text.partition("=") for instruction in stage if instruction.name == "ARG"]
    return {name: value.strip('"') for name, _, value in pairs}


def installation(source: str) -> str:
    """The shell commands with which the last stage installs Python packages, without BuildKit's mounts.

    Raises:
        ValueError: there is none, or more than one such RUN.
    """
    commands = [instruction.text for instruction in stages(source)[-1] if instruction.name == "RUN" and "pip install" in instruction.text]
    if len(commands) != 1:
        raise ValueError(f"The last stage installs with pip in {len(commands)} RUN instructions; exactly one is expected.")
    return re.sub(r"--mount=\S+\s+", "", commands[0])
