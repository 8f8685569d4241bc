"""Ray's errors as sentences; the texts are those of real clusters."""

from __future__ import annotations

from bcd_edge.archive import ray_messages

IMPORT = """The actor died because of an error raised in its creation task, \x1b[36mray::_Index.__init__()\x1b[39m (pid=21107, ip=192.0.2.2)
           ^^^^^^^^^^^
RuntimeError: The actor with name _Index failed to import on the worker. This may be because needed library dependencies are not installed:

\x1b[36mray::_Index.__init__()\x1b[39m (pid=21107, ip=192.0.2.2)
ModuleNotFoundError: No module named 'bcd_edge'"""
VERSIONS = """Version mismatch: The cluster was started with:
    Ray: 2.59.0
    Python: 3.11.7
This process on node 192.0.2.2 was started with:
    Ray: 2.60.0
    Python: 3.12.1
"""


def test_a_node_without_bcd_edge() -> None:
    message = ray_messages.failed(IMPORT)
    assert "bcd-edge is missing or of another version (ModuleNotFoundError: No module named 'bcd_edge'); install the same" in message
    assert "\n" not in message


def test_another_version() -> None:
    message = ray_messages.not_connected("head:6379", VERSIONS, is_answered=True)
    assert message.startswith(
        "The Ray cluster at head:6379 runs Ray 2.59.0 with Python 3.11.7, and this command Ray 2.60.0 with Python 3.12.1; install"
    )


def test_a_cluster_that_lets_nobody_in_is_not_a_missing_one() -> None:
    error = "Failed to connect to Ray cluster at head:6379"
    assert "RAY_AUTH_MODE=token" in ray_messages.not_connected("head:6379", error, is_answered=True)
    assert ray_messages.not_connected("head:6379", error, is_answered=False).endswith("start one with: ray start --head")


def test_a_failure_of_the_cluster() -> None:
    assert ray_messages.failed("The actor died.\n\tip: 192.0.2.2\n").startswith("The Ray cluster failed (ip: 192.0.2.2); see its logs")
