"""A Dockerfile as a list of instructions, and the commands of its last stage as one can type them without Docker."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction.

    Attributes:
        name: in capitals: `FROM`, `RUN`.
        text: the rest, continued lines joined, without comments.
    """

    name: str
    text: str


def stages(source: str) -> list[list[Instruction]]:
    """The instructions before the first FROM, then those of each stage, FROM first (Dockerfile reference, Format)."""
    lines = [line.strip() for line in source.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    found: list[list[Instruction]] = [[]]
    for line in joined.splitlines():
        name, _, text = line.partition(" ")
        if name.upper() == "FROM":
            found.append([])
        found[-1].append(Instruction(name.upper(), text.strip()))
    return found


def arguments(stage: list[Instruction]) -> dict[str, str]:
    """What the build arguments of a stage are if the caller names none; empty for one without a default."""
    pairs = [instruction.text.partition("=") for instruction in stage if instruction.name == "ARG"]
    return {name: value.strip('"') for name, _, value in pairs}


def installation(source: str) -> str:
    """The shell commands with which the last stage installs Python packages, without the mounts of the builder.

    Raises:
        ValueError: there is none, or more than one such RUN.
    """
    commands = [one.text for one in stages(source)[-1] if one.name == "RUN" and "pip install" in one.text]
    if len(commands) != 1:
        raise ValueError(f"The last stage installs with pip in {len(commands)} RUN instructions; one is expected.")
    return re.sub(r"--mount=\S+\s+", "", commands[0])
