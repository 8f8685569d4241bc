"""As LitServe's documentation has it, with its batching."""

import sys
from typing import Any

import litserve as ls
from fastapi import UploadFile

from benchmarks.servers.model import Model


class Api(ls.LitAPI):
    """Decodes, and predicts what waits as one batch."""

    def setup(self, device: str) -> None:
        """In each worker."""
        self._model = Model(sys.argv[1])

    def decode_request(self, request: UploadFile) -> Any:
        """Pixels."""
        return self._model.prepare(request.file)

    def predict(self, batch: Any) -> list[float]:
        """Of a batch."""
        return self._model.predict(batch)

    def encode_response(self, output: float) -> dict[str, float]:
        """Of one picture."""
        return {"p_malignant": output}


if __name__ == "__main__":
    server = ls.LitServer(Api(max_batch_size=8, batch_timeout=0.005), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
