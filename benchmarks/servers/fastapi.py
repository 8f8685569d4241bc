"""As FastAPI's documentation on uploads has it: a function in its pool of threads."""

import sys

import uvicorn
from fastapi import FastAPI, UploadFile

from benchmarks.servers.model import Model

app, model = FastAPI(), Model(sys.argv[1])


@app.post("/predict")
def predict(file: UploadFile) -> dict[str, float]:
    """One picture."""
    return {"p_malignant": model.predict(model.prepare(file.file)[None])[0]}


uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
