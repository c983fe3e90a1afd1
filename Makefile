# The commands of the house. `make demo` and `make test` do all their own set-up (system packages through apt, a
# virtual environment, our package); both need root: they make loop devices, namespaces and virtual machines.
.DEFAULT_GOAL := help
.PHONY: help system venv demo test test-story test-machines check format bench clean

PYTHON ?= /usr/bin/python3
VENV := .venv
RUN := $(VENV)/bin/
PACKAGES := sis/system/packages.list
RINGS := run test
UNIT := tests/unit tests/golden tests/property

help:            ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

system:          ## install the Debian packages of sis/system/packages.list that are missing (RINGS="run test")
	@missing=$$(awk -v rings=" $(RINGS) " '!/^#/ && NF && index(rings, " " $$3 " ") {print $$1}' $(PACKAGES) | \
	  while read p; do \
	    [ "$$(dpkg-query -Wf '$${db:Status-Status}' $$p 2>/dev/null)" = installed ] || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	    echo "installing:" $$missing; \
	    apt-get update -q >/dev/null && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing >/dev/null; \
	fi

$(VENV)/.ready: pyproject.toml $(PACKAGES)
	@$(MAKE) --no-print-directory system
	@[ -x $(RUN)python ] || $(PYTHON) -m venv $(VENV)
	@echo "installing the Python packages"
	@$(RUN)python -m pip install -q --disable-pip-version-check -e '.[dev]' 2>&1 | grep -v '^WARNING: Location' || true
	@$(RUN)python -c 'import sis, configurator, blake3, fastapi, pytest, mypy'
	@touch $@

venv: $(VENV)/.ready   ## a ready .venv/bin/sis and .venv/bin/sis-node

demo: venv       ## the whole story: build, netboot, install, drift, heal, upgrade, roll back
	@$(RUN)python -m tests.vm.demo

check: venv      ## lint, types, layers, fast tests
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)mypy
	$(RUN)lint-imports
	$(RUN)pytest -q -n auto $(UNIT)

test: check      ## everything, virtual machines included
	$(RUN)pytest -q -n auto tests/hostile tests/crash
	@$(MAKE) --no-print-directory -j2 test-story test-machines

# Side by side, each with mounts of its own: else a build here would hold disks that are mounted there.
test-story: venv
	unshare --mount $(RUN)pytest -q tests/vm/test_story.py

test-machines: venv
	unshare --mount $(RUN)pytest -q tests/vm --ignore tests/vm/test_story.py

format: venv
	$(RUN)ruff format .
	$(RUN)ruff check --fix .

bench: venv      ## measure, side by side with rsync, casync and ostree (BENCH=small: 200 MB; BENCH=scale: a million files)
	@$(MAKE) --no-print-directory system RINGS=bench
	@$(RUN)python -m tests.bench
	@for part in render fleet service; do $(RUN)python -m tests.bench.$$part || exit; done

clean:           ## remove what make made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .demo
