# Everything runs in .venv of this checkout and keeps its scratch in .work; 'make clean' removes both.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
STAMP := $(VENV)/.made

.PHONY: help test check suite compiled demo bench proof pictures clean

help: ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml tests/machine/venv.sh
	@bash tests/machine/venv.sh $(VENV)
	@touch $@

test: compiled ## set up and pass every test (a test that cannot run here says so)
	@bash tests/machine/debian.sh test
	@$(MAKE) --no-print-directory --jobs=2 check suite

# A test waits for half of its time: for a server, a daemon, a disk. Two more than there are processors keep these at work.
suite: $(STAMP)
	$(VENV)/bin/pytest --numprocesses=$$(($$(nproc) + 2)) --dist=worksteal

check: $(STAMP) ## ruff and mypy --strict
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

compiled: $(STAMP) # as pip does for a package it installs; a start from source takes 40 ms more
	@$(VENV)/bin/python -m compileall -q restore_core phd_daemon

demo: compiled ## the main job for real: disk, backup, change, Delta, daemon, control file, restore, compare
	@bash tests/machine/debian.sh demo
	@$(VENV)/bin/python -m tests.demo

bench: compiled ## speed against others in one run; writes docs/benchmarks.md (25 GB of scratch)
	@bash tests/machine/debian.sh bench
	@$(VENV)/bin/python -m tests.bench

proof: compiled ## the long proofs and the scoreboard; writes docs/scoreboard.md
	@bash tests/machine/debian.sh proof
	$(VENV)/bin/pytest tests/proof
	@$(VENV)/bin/python -m tests.proof

man: $(STAMP) ## docs/phd.1, out of the commands
	@$(VENV)/bin/python -m tests.man_page

pictures: $(STAMP) ## draw docs/pictures anew from the screens of the console
	@$(VENV)/bin/python -m tests.phd_daemon.console.pictures

clean: ## remove the environment and all scratch
	rm -rf $(VENV) .work .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find restore_core phd_daemon tests -name __pycache__ -type d -prune -exec rm -rf {} +
