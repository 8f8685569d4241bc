"""What the providers of ONNX Runtime share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bcd_edge.errors import BundleError, ProviderError
from bcd_edge.options import RunOptions

REQUIRES = "onnxruntime>=1.20"


def session(model: bytes, options: RunOptions, provider: str, settings: Sequence[tuple[str, Mapping[str, str]]], refuse_cpu: bool = False) -> Any:
    """An InferenceSession on exactly the execution providers asked for.

    Args:
        model: the ONNX file.
        options: see `bcd_edge.options.RunOptions`.
        provider: its name here, for messages.
        settings: execution providers in order, each with its options.
        refuse_cpu: no node may run on the CPU.

    Raises:
        BundleError: no graph that ONNX Runtime can load.
        ProviderError: the session runs on something else.
    """
    import onnxruntime

    own = onnxruntime.SessionOptions()
    own.log_severity_level = 4  # what it would say is in the exception, or in what the session reports
    # the callers of one session share its pool of threads, so several at once are best served by a thread each
    several = (options.streams or 1) > 1
    own.intra_op_num_threads = options.threads or (1 if several else 0)
    own.inter_op_num_threads = 1
    if several:
        # a thread that spins while it waits takes the core from another inference or a decoder
        own.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Weights outside the verified file would be unverified weights: point their folder at nowhere.
    own.add_session_config_entry("session.model_external_initializers_file_folder_path", "/nowhere/no-external-data")
    if refuse_cpu:
        own.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        opened = onnxruntime.InferenceSession(model, own, providers=[(name, dict(values)) for name, values in settings], enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        message = first_line(error)
        if refuse_cpu and "CPU EP" in message:
            raise ProviderError(
                f"The provider {provider} was asked for and would leave parts of the model to the CPU; use a variant made for it."
            ) from None
        if provider != "cpu" and _loads_on_the_cpu(model):
            raise ProviderError(f"The provider {provider} was asked for and did not start ({message}); see: bcd-edge doctor") from None
        raise BundleError(f"The model does not load in ONNX Runtime {onnxruntime.__version__} ({message}); export the bundle again.") from None
    ran = opened.get_providers()
    if not ran or ran[0] != settings[0][0]:
        raise ProviderError(f"The provider {provider} was asked for and {', '.join(ran)} ran; see: bcd-edge doctor")
    return opened


def _loads_on_the_cpu(model: bytes) -> bool:
    """Whether a file that did not load is fine, and its provider unwell."""
    import onnxruntime

    try:
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    except Exception:
        return False
    return True


def first_line(error: Exception) -> str:
    """The first line of an engine's error, without its last full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
