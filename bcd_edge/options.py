"""How to run a bundle: one object, passed as a whole from the command line through plan and classifier to the engine."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bcd_edge.errors import UsageError
from bcd_edge.records import Execution


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Requested options. `None` always means not given; `bcd_edge.plan` chooses a value for what is not given.

    Attributes:
        provider: a name from `bcd_edge.plugins.names("bcd_edge.backends.providers")`.
        device: the provider's name for one of its devices, such as `GPU` for OpenVINO or `1` for the second CUDA card.
        precision: precision of the bundle's variant: `fp32`, `fp16` or `int8`.
        batch: images per inference; an engine opened without it accepts any number.
        threads: CPU threads per inference.
        streams: concurrent inferences.
        cache: whether compiled models are kept in the user's cache folder; yes if not given.
        provider_options: names and values of options that are specific to the provider, see `OPTIONS` in its module.

    Raises:
        UsageError: batch, threads or streams are less than 1.
    """

    provider: str | None = None
    device: str | None = None
    precision: str | None = None
    batch: int | None = None
    threads: int | None = None
    streams: int | None = None
    cache: bool | None = None
    provider_options: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name in ("batch", "threads", "streams"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise UsageError(f"The option {name} is {count}; give 1 or more, or leave it out.")

    def as_ran(self, ran: Execution, batch: int) -> RunOptions:
        """To run again what gave an answer, in other batches, for example to explain it."""
        return replace(self, provider=ran.provider, precision=ran.precision, batch=batch, threads=None, streams=None)


@dataclass(frozen=True, slots=True)
class Plan(RunOptions):
    """Options ready to run: provider, batch and streams are set. The engine chooses what is `None`."""

    provider: str
    batch: int = 1
    streams: int = 1
