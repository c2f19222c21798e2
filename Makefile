# Two commands on a fresh Debian or Ubuntu machine: `make demo` and `make test`.
# Everything they install goes into .venv here and .demo (the demo's pod); neither touches your home.

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: demo test e2e slow fuzz lint advisories bench clean

demo: $(STAMP)
	@$(VENV)/bin/inv demo

test: $(STAMP)
	@$(VENV)/bin/inv test

e2e: $(STAMP)
	@$(VENV)/bin/inv e2e

slow: $(STAMP)
	@$(VENV)/bin/inv slow

fuzz: $(STAMP)
	@$(VENV)/bin/inv fuzz

lint: $(STAMP)
	@$(VENV)/bin/inv lint

advisories: $(STAMP)
	@$(VENV)/bin/inv advisories

bench: $(STAMP)
	@$(VENV)/bin/inv bench

$(STAMP): setup.cfg pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "python3 is missing: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$(PYTHON) is older than 3.10: give a newer one with make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "venv is missing: apt-get install python3-venv"; exit 1; }
	@echo "installing pi and its tools into $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .demo .fuzz build *.egg-info
