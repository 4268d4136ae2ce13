# The commands of this repository. `make help` lists them.

# Everything runs on the oldest Python that is supported and can be found; `make test` then takes
# the unit tests through the others. A candidate counts when it can make a virtual environment.
PYTHON := $(shell for name in python3.11 python3.12 python3.13 python3; do \
	if $$name -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo $$name; break; fi; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
CC ?= cc

.PHONY: help run test lint bench clean
.DEFAULT_GOAL := help

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile

run: .venv/with-example cgi-bin/hello-c  ## serve the example site on http://127.0.0.1:8080/
	$(BIN)/gateway run -c conf/example.toml

test: .venv/with-test cgi-bin/hello-c  ## every test, on every Python from 3.11 to 3.13 that is found
	@sh tests/peers/install.sh || true
	@$(BIN)/python tests/run.py

lint: .venv/with-lint  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict gateway

bench: .venv/bench/with-bench  ## measure us beside the other servers
	@sh tests/peers/install.sh || true
	.venv/bench/bin/python tests/bench/run.py

# uWSGI brings the Python of the system, so that is the one to compare with, where it is new enough;
# one that was built by hand is often a quarter slower.
.venv/bench/with-bench: setup.cfg setup.py .venv/with-bench
	@python=/usr/bin/python3; \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || python=$(BIN)/python; \
	$$python -m venv --without-pip .venv/bench
	$(PIP) --python .venv/bench/bin/python install --use-pep517 --editable '.[bench]'
	@touch $@

clean:  ## remove what the other commands made
	rm -rf .venv build dist *.egg-info cgi-bin/hello-c .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Gateway needs Python 3.11 or newer with its venv module, and" \
	"found none (on Debian: apt-get install python3 python3-venv)." >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

# One stamp for each set of requirements in setup.cfg.
.venv/with-%: setup.cfg setup.py .venv/bin/python
	$(PIP) install --use-pep517 --editable '.[$*]'
	@touch $@

# The one example that must be compiled. Without a compiler the others work all the same.
cgi-bin/hello-c: cgi-bin/hello.c
	@if command -v $(CC) >/dev/null 2>&1; then $(CC) -O2 -o $@ $<; \
	else echo "no C compiler, so without $@"; fi
