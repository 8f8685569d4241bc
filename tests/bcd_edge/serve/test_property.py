"""Whatever fits the API's document gets an answer that fits it too, and what does not fit is refused: by Schemathesis, for each role."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("starlette", reason="bcd-edge[serve] is not installed")
schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")

from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from schemathesis import checks  # noqa: E402

from .conftest import Process, png  # noqa: E402

CHECKS = [checks.not_a_server_error, checks.response_schema_conformance, checks.status_code_conformance, checks.content_type_conformance]
# For each operation and role; `python -m benchmarks serve` tries thousands.
EXAMPLES = 3


@pytest.mark.parametrize("role", ["submitter", "reviewer", "admin"])
def test_every_operation_keeps_to_the_document(process: Process, role: str) -> None:
    import httpx

    headers = {"authorization": f"Bearer {process.tokens[role]}"}
    httpx.post(f"{process.url}/api/v1/images", content=png(1), params={"patient": "P"}, headers=headers)
    schema = schemathesis.openapi.from_url(f"{process.url}/api/v1/openapi.json", headers=headers)
    schema.config.update(base_url=f"{process.url}/api/v1")
    for result in schema.get_all_operations():

        @settings(max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(case=result.ok().as_strategy())
        def keeps_to_it(case: Any) -> None:
            case.call_and_validate(headers=headers, checks=CHECKS)

        keeps_to_it()
