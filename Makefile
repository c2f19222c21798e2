# Two commands on a fresh Debian or Ubuntu machine: `make demo` and `make test`.
# They install Debian packages that are missing if they can become root; else they unpack these into .machine.
# All else goes into .venv and .demo (the demo's pod); neither command touches your home.

# The distribution's Python is built with profile-guided optimization: one that pyenv compiles takes twice as long.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 10))
ifeq ($(origin PYTHON), undefined)
PYTHON := $(shell for python in /usr/bin/python3 python3; do \
	$$python -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$python && exit; done; echo python3)
endif
VENV := .venv
STAMP := $(VENV)/.installed
UNPACKED_PIP = $(wildcard .machine/root/usr/share/python-wheels/pip-*.whl)

.PHONY: demo test e2e slow fuzz lint advisories bench clean for-python for-shells for-ssh for-network for-haproxy for-vllm

demo: for-ssh for-vllm $(STAMP)
	@$(VENV)/bin/inv demo $(if $(UNTIL),--until $(UNTIL))

e2e: for-ssh for-network for-haproxy for-vllm $(STAMP)
	@$(VENV)/bin/inv e2e

test: for-shells for-ssh for-network for-haproxy $(STAMP)
	@$(VENV)/bin/inv test $(if $(PART),--part "$(PART)")

slow bench: for-ssh for-network $(STAMP)
	@$(VENV)/bin/inv $@

fuzz lint advisories: $(STAMP)
	@$(VENV)/bin/inv $@

for-python for-shells for-ssh for-network for-haproxy for-vllm:
	@PYTHON=$(PYTHON) sh chores/machine.sh $(@:for-%=%)

$(STAMP): setup.cfg pyproject.toml | for-python
	@$(PYTHON) -c '$(NEW_ENOUGH)' || \
		{ echo "$(PYTHON) is older than 3.10: give a newer one with make PYTHON=python3.12"; exit 1; }
	@echo "installing pi and its tools into $(VENV)"
	@$(PYTHON) -m venv $(if $(UNPACKED_PIP),--without-pip) $(VENV)
	@$(if $(UNPACKED_PIP),$(VENV)/bin/python $(UNPACKED_PIP)/pip install -qq --disable-pip-version-check pip)
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .machine .demo .fuzz build *.egg-info
