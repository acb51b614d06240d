# Everything happens in a private environment, .venv; nothing is installed outside of this directory.

VENV ?= .venv
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
PIP = $(VENV)/bin/python -m pip --quiet --disable-pip-version-check
BIN = $(VENV)/bin
SPELLED = daemon docs tests bench systemd launchd .github *.md *.toml Makefile
RESTORABLE = kimi-cli $(subst _,-,$(basename $(notdir $(wildcard daemon/sessiond/sources/recipes/[a-z]*.py))))
# The tests that it compiles are kept, even where PYTHONDONTWRITEBYTECODE is set.
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
RIVALS = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sessiond-bench/rivals

.PHONY: help run test check coverage lab lab-drift lab-restore bench bench-quick bench-rivals soak mutants pythons clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##\(.*\)/make \1:\2/p' Makefile

run: $(VENV)/.installed  ## install into .venv and run the daemon here; stop it with Ctrl-C
	$(BIN)/sessiond run

test: $(VENV)/.compiled-tests  ## run the tests (PYTEST_ARGS="..." adds arguments)
	$(PYTEST) -n auto --dist worksteal $(PYTEST_ARGS)

coverage: $(VENV)/.compiled-tests  ## run the tests and report the lines and branches that no test reaches
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n auto --dist worksteal $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: $(VENV)/.installed-dev  ## check style, types, layers, spelling, limits and documents
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy --platform darwin
	$(BIN)/lint-imports
	$(BIN)/codespell $(SPELLED)
	$(BIN)/python -m pytest tests/docs

pythons: $(VENV)/.installed-dev  ## install the wheel in a fresh environment of each Python that is here; use it, run the core's tests
	$(BIN)/python -m pytest -rs -m slow tests/process/test_pythons.py

lab: $(VENV)/.installed-dev  ## run the real tools offline while the daemon watches (installs them; an hour), renew docs/sources.md
	$(BIN)/python -m pytest -m lab tests/lab $(PYTEST_ARGS)

lab-restore: $(VENV)/.installed-dev  ## restore a session of each real tool on a second machine and resume it there (TOOLS="codex")
	set -e; for tool in $(or $(TOOLS),$(RESTORABLE)); do for scenario in $(or $(SCENARIOS),tool subagent fork); do bash tests/lab/restore.sh $$tool $(BIN)/sessiond $$scenario; done; done
	PYTHONPATH=daemon:tests $(BIN)/python tests/docs/sources_document.py

lab-drift: $(VENV)/.installed-dev  ## list versions of the tools that the lab has not tested, and compare what they write
	PYTHONPATH=daemon:tests $(BIN)/python -m lab.drift $(TOOLS)

bench: $(VENV)/.installed  ## measure what it costs, beside the floor and installed rivals (an hour; BENCH_ARGS="...")
	$(BIN)/python bench/run.py $(BENCH_ARGS)

bench-quick: $(VENV)/.installed  ## the same rows on 200 sessions, in two minutes
	$(BIN)/python bench/run.py --quick $(BENCH_ARGS)

bench-endpoint: $(VENV)/.installed  ## measure what hostile clients cost a normal one at the endpoint (half a minute)
	$(BIN)/python bench/endpoint_load.py

bench-steps: $(VENV)/.installed  ## measure the longest steps during which no other thread runs (half a minute)
	$(BIN)/python bench/steps.py

bench-rivals: $(VENV)/.created  ## install the rivals, each on its own, into the cache of the bench
	for name in agentsview sessionfs; do \
		$(BIN)/python -m venv "$(RIVALS)/$$name" && \
		"$(RIVALS)/$$name/bin/python" -m pip --quiet --disable-pip-version-check install $$name || exit 1; done

soak: $(VENV)/.installed  ## ten minutes of load with faults; what was written must be what arrives
	$(BIN)/python bench/soak.py $(SOAK_ARGS)

trials: $(VENV)/.installed-dev  ## kill a live store among other processes 300 times, send 300 odd requests to each operation (SESSIOND_TRIALS=...)
	SESSIOND_TRIALS=$(or $(SESSIOND_TRIALS),300) $(BIN)/python -m pytest -n auto --dist worksteal \
		tests/endpoint/test_second_process.py tests/endpoint/test_openapi.py -k "random_processes or as_described"

trials-fleet: $(VENV)/.installed-dev  ## kill servers, PostgreSQL and the object store under load, five minutes on each store (SESSIOND_TRIAL_SECONDS=...)
	SESSIOND_TRIAL_SECONDS=$(or $(SESSIOND_TRIAL_SECONDS),300) $(BIN)/python -m pytest -m slow -o timeout=3600 \
		tests/endpoint/test_trial.py

mutants: $(VENV)/.installed-dev  ## break the code on purpose: the tests have to notice (MUTANTS="spool --seed 2" selects)
	PYTHONPATH=tests $(BIN)/python -m mutants $(MUTANTS)

clean:  ## remove the environment and what the tools left behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .mutants .coverage* htmlcov

$(VENV)/.created:
	@test -n "$(PYTHON)" || { echo "sessiond needs Python 3.11 or newer; name one: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	# Groups of dependencies came with pip 25.1.
	$(PIP) install --upgrade "pip>=25.1"
	touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml
	$(PIP) install --editable .
	# Otherwise each command would compile it where PYTHONDONTWRITEBYTECODE is set.
	$(BIN)/python -m compileall -q daemon
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --group dev
	touch $@

# pytest takes longer to rewrite the assertions of all tests than to import them. Each of its workers would do it.
$(VENV)/.compiled-tests: $(VENV)/.installed-dev $(shell find tests -name '*.py')
	$(PYTEST) -qq --collect-only tests/unit > /dev/null & $(PYTEST) -qq --collect-only --ignore=tests/unit tests > /dev/null & wait
	touch $@
