"""How far first and second readers agree."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of all pictures that two readers have an opinion on.

    Attributes:
        pairs: first and second decision, and how many pictures have them.
        cases: pictures.
        agreed: pictures with the same decision twice.
        kappa: Cohen's kappa (Educational and Psychological Measurement 20, 1960): 1 complete agreement, 0 as by chance; None
            where there are no pictures, or both readers only ever used one and the same decision.
    """

    pairs: dict[tuple[str, str], int]
    cases: int
    agreed: int
    kappa: float | None


def agreement(db: sqlite3.Connection) -> Agreement:
    """First beside second readers, whoever they were."""
    rows = db.execute("SELECT first, second, COUNT(*) FROM cases WHERE opinions > 1 GROUP BY first, second ORDER BY first, second")
    pairs = {(first, second): number for first, second, number in rows}
    agreed = sum(number for (first, second), number in pairs.items() if first == second)
    return Agreement(pairs, sum(pairs.values()), agreed, cohens_kappa(pairs))


def cohens_kappa(pairs: dict[tuple[str, str], int]) -> float | None:
    """Agreement beyond chance, -1..1, of counts by first and second decision."""
    total = sum(pairs.values())
    firsts, seconds = Counter[str](), Counter[str]()
    for (first, second), number in pairs.items():
        firsts[first] += number
        seconds[second] += number
    by_chance = sum(firsts[name] * seconds[name] for name in firsts)  # times total²
    if by_chance == total**2:
        return None
    observed = sum(number for (first, second), number in pairs.items() if first == second)
    return (total * observed - by_chance) / (total**2 - by_chance)
