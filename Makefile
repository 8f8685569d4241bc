# `make demo` classifies sample images with the runtime alone; `make test` installs everything and passes the tests.
PYTHON ?= python3

.PHONY: demo test wheel-test check-jetson clean

demo: .venv/installed
	.venv/bin/bcd-edge samples samples
	.venv/bin/bcd-edge predict samples

test: .venv-test/installed
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy
	.venv-test/bin/lint-imports
	.venv-test/bin/python -m pytest --ignore tests/train
	.venv-test/bin/python -m pytest tests/train  # apart: one process for all once crashed where training forks loader workers
	$(MAKE) wheel-test

# The runtime's tests once more, from the built wheel in an environment without PyTorch.
wheel-test: .venv-test/installed
	rm -rf dist .venv-wheel
	.venv-test/bin/python -m build --wheel --outdir dist .
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/pip install --quiet "$$(ls dist/*.whl)[cpu,watch]" pytest hypothesis
	cp -r tests/bcd_edge .venv-wheel/tests
	cp pyproject.toml .venv-wheel/
	cd .venv-wheel && bin/python -m pytest -q tests

# What can be proven of the Jetson image without a Jetson and without Docker: docs/jetson.md. BUNDLE=PATH compares its
# precisions on arm64 too, OUT=docs/jetson.md writes the figures there.
check-jetson: .venv-test/installed
	.venv-test/bin/python -m deploy check $(if $(BUNDLE),--bundle $(BUNDLE)) $(if $(OUT),--out $(OUT))

.venv/installed: pyproject.toml $(shell find bcd_edge -name '*.py' -o -name '*.json' -o -name '*.onnx' -o -name '*.png')
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet '.[cpu]'
	touch $@

.venv-test/installed: pyproject.toml
	$(PYTHON) -m venv .venv-test
	.venv-test/bin/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .venv-test .venv-wheel dist samples
