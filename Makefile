# One entry for everybody: set-up, demo, tests, linters, figures, installation, the real machine.
# Every target does its own set-up on a fresh machine and is quick the second time.

SHELL := /bin/bash
PYTHON := /usr/bin/python3
VENV := .venv
STAMP := $(VENV)/.ready
PYTEST := $(VENV)/bin/python -m pytest

.PHONY: help setup demo test cuts fuzz check lint browser bench fixbench man deb rpm clean

help:
	@echo "make setup   distribution packages and .venv/bin/sepolicyd"
	@echo "make demo    a captured JupyterHub rollout, from audit log to a module in a policy store"
	@echo "make check   linters, types, import directions and the pure tests: the loop while editing"
	@echo "make test    the whole test suite; SEPOLICYD_POLICY_ROOT=DIR make test: on another machine's policy"
	@echo "make cuts [CUTS=8]   a lease's commands cut off after each (or every 8th) change of the file system, and booted"
	@echo "make fuzz [FUZZARGS=...]   hostile logs read in three ways, which must agree"
	@echo "make browser Chromium, for the tests that look at reports in a browser"
	@echo "make lint    ruff, mypy, shellcheck and the import rules alone"
	@echo "make bench   the figures of the README, measured side by side"
	@echo "make fixbench [FIXBENCH=rows.jsonl] [FIXROOT=/] [FIXARGS=...]   fixes against those of policy maintainers"
	@echo "make test-vm [SCENARIO=name] [POLICY=DIR]   the same on a real SELinux machine (QEMU), with the base policy of DIR"
	@echo "make deb, make rpm   packages in build/packages, built by the distribution's tools"
	@echo "make install [DESTDIR=] / make uninstall   the daemon, its units and its policies"

setup: $(STAMP)

$(STAMP): pyproject.toml .ci/setup
	@bash .ci/setup $(PYTHON) $(VENV)
	@touch $(STAMP)

demo: setup
	@$(VENV)/bin/sepolicyd demo

test: setup
	@$(PYTEST) -n auto --dist worksteal

fuzz: setup
	@$(VENV)/bin/python -m tools.fuzz $(FUZZARGS)

CUTS := all
cuts: setup
	@SEPOLICYD_CUTS=$(CUTS) $(PYTEST) -s tests/rollout/lease/test_cuts.py

# linters, types, layers and the tests that need no policy store: the loop while editing
check: setup
	@$(PYTEST) -n 2 --dist worksteal tests/test_linters.py tests/test_layers.py tests/test_style.py tests/test_profiles.py \
	    tests/test_schemas.py tests/audit/parse tests/audit/scan tests/audit/dialects tests/rules/attribution tests/rules/fixes \
	    tests/rollout/learning tests/rollout/review tests/storage tests/kernel

lint: setup
	@$(PYTEST) tests/test_linters.py tests/test_layers.py

bench: setup
	@$(VENV)/bin/python -m benchmarks

FIXBENCH := ../shared/fixbench/refpolicy.jsonl
FIXROOT := /
FIXARGS :=
fixbench: setup
	@if [ -e $(FIXBENCH) ]; then $(VENV)/bin/python -m tools.fixbench $(FIXBENCH) --root $(FIXROOT) $(FIXARGS); \
	else echo "fixbench: $(FIXBENCH) is not here: name a file of rows with FIXBENCH="; fi

man: setup
	@$(VENV)/bin/python -m tools.manpages build/man

deb:
	@bash packaging/build-deb

rpm:
	@bash packaging/build-rpm

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis

-include systemd/install.mk
-include tests/vm/vm.mk
