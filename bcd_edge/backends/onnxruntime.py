"""Sessions of ONNX Runtime, for the providers that run through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bcd_edge.backends import check_self_contained
from bcd_edge.errors import BundleError, ProviderError
from bcd_edge.options import RunOptions

REQUIRES = "onnxruntime>=1.20"


def session(
    model: bytes,
    options: RunOptions,
    provider: str,
    settings: Sequence[tuple[str, Mapping[str, str]]],
    refuse_cpu: bool = False,
    config: Mapping[str, str] | None = None,
) -> Any:
    """An InferenceSession on exactly the requested execution providers.

    Args:
        model: the ONNX file.
        options: see `bcd_edge.options.RunOptions`.
        provider: the provider's name in bcd-edge, for messages.
        settings: execution providers in order, each with its options.
        refuse_cpu: whether a node on the CPU is an error.
        config: entries of the session's configuration.

    Raises:
        BundleError: ONNX Runtime cannot load the model.
        ProviderError: the session does not start, or runs on another execution provider.
    """
    import onnxruntime

    check_self_contained(model)
    session_options = onnxruntime.SessionOptions()
    session_options.log_severity_level = 4  # errors are in the exception, and the execution provider in the session
    # the callers of a session share its thread pool, so concurrent calls run best on one thread each
    concurrent = (options.streams or 1) > 1
    session_options.intra_op_num_threads = options.threads or (1 if concurrent else 0)
    session_options.inter_op_num_threads = 1
    # where sums of uint8 x int8 saturate in 16 bits, weights become uint8, which are added in 32; elsewhere it does nothing
    session_options.add_session_config_entry("session.x64quantprecision", "1")
    if concurrent:
        # a thread that spins while it waits takes a core from another inference or a decoder
        session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for name, value in (config or {}).items():
        session_options.add_session_config_entry(name, value)
    if refuse_cpu:
        # what a card's libraries try in vain is logged as errors, by the process's logger and not the session's
        onnxruntime.set_default_logger_severity(4)
        session_options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        opened = onnxruntime.InferenceSession(
            model, session_options, providers=[(name, dict(values)) for name, values in settings], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        message = first_line(error)
        if refuse_cpu and "CPU EP" in message:
            raise ProviderError(
                f"The provider {provider} was requested, but would run parts of the model on the CPU; use a variant that was exported for it."
            ) from None
        if provider != "cpu" and _loads_on_the_cpu(model):
            raise ProviderError(f"The provider {provider} was requested, but did not start ({message}); see: bcd-edge doctor") from None
        raise BundleError(f"The model does not load in ONNX Runtime {onnxruntime.__version__} ({message}); export the bundle again.") from None
    ran = opened.get_providers()
    if not ran or ran[0] != settings[0][0]:
        raise ProviderError(f"The provider {provider} was requested, but {', '.join(ran)} ran; see: bcd-edge doctor")
    return opened


def _loads_on_the_cpu(model: bytes) -> bool:
    """Whether a model that did not load is valid, so that the provider is to blame."""
    import onnxruntime

    try:
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    except Exception:
        return False
    return True


def first_line(error: Exception) -> str:
    """The first line of an engine's error, without its last full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
