# One way to run each: make serve | test | check | bench | chaos. All that is needed before is Python 3.11 or newer, and
# make. ARGS= goes on to the command (make test ARGS="-k sse"); PYTHON= chooses the interpreter that .venv is made with.

.PHONY: help serve test check types rules bench chaos fuzz lock clean FORCE
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

PYTHONS = $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)
# Debian's python3 has no ensurepip until python3-venv is installed.
SUITS = import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
FOUND = $(shell for python in $(PYTHONS); do "$$python" -c '$(SUITS)' >/dev/null 2>&1 && echo "$$python" && break; done)
WANTED = $(if $(PYTHON),PYTHON=$(PYTHON) is no,wiretape needs) Python 3.11 or newer with venv; install one, \
  for example with: sudo apt install python3 python3-venv
PIP = .venv/bin/python -m pip --disable-pip-version-check -qq install

help:
	@echo "make serve   run wiretape                 make test    run the tests"
	@echo "make check   lint, types, house rules     make bench   measure (WHAT=storing|lag|playback)"
	@echo "make lock    pin what is depended on      make clean   remove what make made"
	@echo "make chaos   kill it, lock it, fill it up, for as long as ARGS=\"--rounds N\" says"
	@echo "make fuzz    try the parsers with ARGS=\"request|chunked|response\" (needs atheris)"

serve: .venv/package
	@exec .venv/bin/wiretape serve $(ARGS)

# More processes than cores: most tests over sockets wait. A file's tests stay together, they share what they start; the
# files come in the order that tests/conftest.py gives them.
test: .venv/dev
	@.venv/bin/pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

# Types take longest, on one core: all else is done on another meanwhile.
check: .venv/dev
	@$(MAKE) --jobs 2 types rules

types: .venv/dev
	@.venv/bin/mypy

rules: .venv/dev
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/lint-imports
	@.venv/bin/pytest --quiet tests/unit/test_house.py

# WHAT=storing|lag|ledger|room|sizing|meaning|playback measures that instead of the relay.
bench: .venv/dev
	@.venv/bin/python -m tests.bench$(if $(WHAT),.$(WHAT)) $(ARGS)

# What the suite does in short, by hand and at length.
chaos: .venv/dev
	@.venv/bin/python -m tests.chaos $(ARGS)

# Not part of the suite, and its fuzzer is not among the locked packages.
fuzz: .venv/dev
	@.venv/bin/python -m tests.fuzz $(ARGS)

# Versions stay as they are unless ARGS=--upgrade (or --upgrade-package NAME) says otherwise.
lock:
	$(eval PYTHON_FOUND := $(FOUND))$(if $(PYTHON_FOUND),,$(error $(WANTED)))
	@"$(PYTHON_FOUND)" -m venv .venv-lock
	@.venv-lock/bin/python -m pip --disable-pip-version-check -qq install uv
	@$(COMPILE) --output-file requirements.lock $(ARGS)
	@$(COMPILE) --extra dev --constraints requirements.lock --output-file requirements-dev.lock $(ARGS)

COMPILE = .venv-lock/bin/uv --quiet pip compile pyproject.toml --extra build --universal --python-version 3.11 \
  --generate-hashes --no-strip-extras --custom-compile-command "make lock"

clean:
	rm -rf .venv .venv-lock build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find proxy tests migrations -name __pycache__ -type d -prune -exec rm -rf {} +

# The lock is installed into an empty .venv, so that nothing stays behind that it no longer holds. The stamp tells
# where: scripts in a .venv that was moved, or whose interpreter is gone, would not start.
.venv/locked: requirements.lock $(if $(shell test -x .venv/bin/python && grep -sqxF '$(CURDIR)' .venv/locked && echo ok),,FORCE)
	$(eval PYTHON_FOUND := $(FOUND))$(if $(PYTHON_FOUND),,$(error $(WANTED)))
	@echo "Making .venv with $(PYTHON_FOUND); this takes a minute, once."
	@"$(PYTHON_FOUND)" -m venv --clear .venv
	@$(PIP) --require-hashes -r requirements.lock
	@echo '$(CURDIR)' >$@

.venv/package: .venv/locked pyproject.toml
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev: .venv/package requirements-dev.lock
	@$(PIP) --require-hashes -r requirements-dev.lock
	@touch $@
