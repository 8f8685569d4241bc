# `make demo` classifies sample images with the runtime alone; `make test` installs everything, checks and tests.
PYTHON ?= python3
BIN = .venv-test/bin
SOURCES = pyproject.toml README.md $(shell find bcd_edge -type f ! -name '*.pyc')

.PHONY: demo test check pytest wheel-test docs check-clinic check-jetson clean

demo: .venv/installed
	.venv/bin/bcd-edge samples samples
	.venv/bin/bcd-edge predict samples

test: check pytest wheel-test

# Lint, formatting, types, the direction of imports: seconds, before every commit.
check: .venv-test/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

pytest: .venv-test/installed
	$(BIN)/python -m pytest

# The built wheel in an environment without PyTorch: is it complete, does every command run?
wheel-test: .venv-test/installed
	rm -rf dist .venv-wheel
	$(BIN)/python -m build --wheel --outdir dist .
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/pip install --quiet "$$(ls dist/*.whl)[cpu,serve,watch]" pytest pytest-timeout
	cp tests/bcd_edge/test_smoke.py pyproject.toml .venv-wheel/
	cd .venv-wheel && bin/python -m pytest -q test_smoke.py

# docs/cli.md from the commands' own help
docs: .venv-test/installed
	$(BIN)/python docs/cli.py docs/cli.md

# docs/clinic.md, its lines run as written in a copy-on-write root that is discarded: needs root on Linux.
check-clinic: .venv/installed .venv-test/installed
	$(BIN)/python -m deploy clinic

# What can be proven of the Jetson image without a Jetson and without Docker: docs/jetson.md. BUNDLE=PATH compares its
# precisions on arm64 too, OUT=docs/jetson.md writes the figures there.
check-jetson: .venv-test/installed
	$(BIN)/python -m deploy check $(if $(BUNDLE),--bundle $(BUNDLE)) $(if $(OUT),--out $(OUT))

.venv/installed: $(SOURCES)
	$(PYTHON) -m venv .venv
	rm -rf dist
	.venv/bin/pip install --quiet '.[cpu]'
	.venv/bin/pip wheel --quiet --no-deps --wheel-dir dist .
	touch $@

.venv-test/installed: pyproject.toml
	$(PYTHON) -m venv .venv-test
	.venv-test/bin/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .venv-test .venv-wheel dist samples
