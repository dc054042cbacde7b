# make demo    a rehearsal of the sample newsletter, from nothing but Python and make
# make fleet-demo    two workers, a PostgreSQL and a server to send to, on this machine, for half a minute
# make test    the whole suite against the built wheel   (PYTEST_ARGS="tests/unit -x" for a part)
#              WHEEL=dist/some.whl tests that wheel instead of one that is built from here
# make test-lowest   unit and protocol tests with every dependency at its lower bound
# make soak    the kill loop for ten minutes, large lists, more fuzzing   (MAILMERGE_SOAK_SECONDS=60)
# make docs    the documentation site in build/docs; it is read from there, too: build/docs/index.html
# make docs-links   try every link of the documentation to other sites, which takes minutes
# make check   formatting, lint, types, import contracts, workflows
# make bench   how fast it is compared with other tools, half an hour   (BENCH_ARGS="--only build run" for parts)
# make bench-quick   the same in about three minutes
# make clean   remove what the above made
#
# PYTHON=/path/to/python3.12 chooses another Python.

.PHONY: demo fleet-demo test test-lowest soak docs docs-links check bench bench-quick clean
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PIP = -m pip --disable-pip-version-check -qq
TEST = build/test
LOWEST = build/lowest
CHECK = build/check
BENCH = build/bench
SITE = build/site
SPHINX_OPTIONS = --fail-on-warning --keep-going --nitpicky --quiet
BENCH_ARGS ?=
PYTEST_ARGS ?=
NO_FLOOR = $(if $(PYTEST_ARGS),NO_FLOOR)
SOAK_TESTS = tests/reliability tests/protocol tests/unit/test_smtp_replies.py tests/integration/test_ledger.py tests/integration/test_ledger_contract.py tests/unit/test_files.py

define new_venv
	@python=$$(scripts/find-python) && rm -rf $(1) && "$$python" -m venv $(1)
	@$(1)/bin/python $(PIP) install --upgrade "pip>=25.1"
endef

define install_wheel
	@rm -rf $(TEST)/dist && mkdir -p $(TEST)/dist
	@if [ -n "$(WHEEL)" ]; then cp "$(WHEEL)" $(TEST)/dist/; \
	else $(TEST)/venv/bin/python $(PIP) wheel --no-deps --no-build-isolation --wheel-dir $(TEST)/dist .; fi
	@$(TEST)/venv/bin/python $(PIP) install --no-deps --force-reinstall $(TEST)/dist/*.whl
endef

define quietly
	@said=$$($(1) 2>&1) || { echo "$$said"; exit 1; }
endef

demo: .venv/installed
	@echo "Rehearsing: mailmerge rehearse samples/newsletter (the built-in server accepts the messages, nothing leaves this machine)"
	@.venv/bin/mailmerge rehearse samples/newsletter
	@echo "The command is .venv/bin/mailmerge; after '. .venv/bin/activate' plain mailmerge will do."

# PostgreSQL is Debian's (apt-get install postgresql); everything is stopped and removed at the end.
fleet-demo: .venv/fleet
	@.venv/bin/python scripts/fleet-demo

.venv/fleet: .venv/installed
	@.venv/bin/python $(PIP) install --editable ".[fleet]"
	@touch $@

.venv/installed: pyproject.toml
	@python=$$(scripts/find-python) && echo "Making .venv with $$python" && rm -rf .venv && "$$python" -m venv .venv
	@echo "Installing mailmerge-kit and what it needs into .venv with pip: about 250 MB, a minute if nothing is in pip's cache ..."
	@.venv/bin/python $(PIP) install --no-compile --editable .
	@touch $@

# The wheel is built and installed again each time, so that no test ever meets an older one. With -P and
# PYTHONSAFEPATH the checkout is on no import path, neither here nor in the commands that tests start.
test: export PYTHONSAFEPATH = 1
test: export MAILMERGE_TEST_WHEEL = 1
test: export COVERAGE_FILE = $(CURDIR)/$(TEST)/coverage/data
test:
	@scripts/install-test-programs & programs=$$!; installed=0; $(MAKE) $(TEST)/venv/installed || installed=$$?; \
	wait $$programs && exit $$installed
	@rm -rf $(TEST)/coverage && mkdir -p $(TEST)/coverage
	$(call install_wheel)
	@status=0; $(TEST)/venv/bin/python -P -m coverage run -m pytest -q $(PYTEST_ARGS) || status=$$?; \
	floor=0; $(TEST)/venv/bin/python scripts/coverage-total $(TEST)/coverage $(NO_FLOOR) || floor=$$?; \
	exit $$((status ? status : floor))

# The bounds of pyproject.toml are tried on the oldest Python, where old releases have wheels.
test-lowest: export PYTHONSAFEPATH = 1
test-lowest: $(LOWEST)/installed
	@$(LOWEST)/venv/bin/python $(PIP) install --no-deps --no-build-isolation --force-reinstall .
	@$(LOWEST)/venv/bin/python -P -m pytest -q tests/unit tests/integration tests/protocol

$(LOWEST)/installed: export PYTHON := $(or $(PYTHON),python3.11)
$(LOWEST)/installed: pyproject.toml scripts/lowest-versions
	@mkdir -p $(LOWEST)
	$(call new_venv,$(LOWEST)/venv)
	@scripts/lowest-versions >$(LOWEST)/constraints.txt
	@$(LOWEST)/venv/bin/python $(PIP) install --constraint $(LOWEST)/constraints.txt --group tests hatchling ".[all]"
	@touch $@

# The promises of docs/reliability.md, for as long as you like; -s shows seeds and scores.
soak: export PYTHONSAFEPATH = 1
soak: export MAILMERGE_SOAK_SECONDS ?= 600
soak: export MAILMERGE_RATE_SECONDS ?= 60
soak: $(TEST)/venv/installed
	@scripts/install-test-programs
	$(call install_wheel)
	@$(TEST)/venv/bin/python $(PIP) install --group soak
	@$(TEST)/venv/bin/python -P -m pytest -n0 -q -s --hypothesis-profile=soak $(SOAK_TESTS)
	@$(TEST)/venv/bin/python -P tests/soak/fuzz_replies.py --seconds 60
	@$(TEST)/venv/bin/python -P tests/soak/out_of_step.py --seconds 60
	@$(TEST)/venv/bin/python -P tests/soak/mutants.py --seconds $(MAILMERGE_SOAK_SECONDS)

$(TEST)/venv/installed: pyproject.toml
	$(call new_venv,$(TEST)/venv)
	@$(TEST)/venv/bin/python $(PIP) install --no-compile --group tests --group docs hatchling ".[imap,oauth,xls]"
	@$(TEST)/venv/bin/python $(PIP) uninstall -y mailmerge-kit
	@$(TEST)/venv/bin/python -m compileall -qq -j 0 $(TEST)/venv/lib >/dev/null || true  # some are of other versions
	@touch $@

docs: $(SITE)/venv/installed
	@rm -rf build/docs
	@$(SITE)/venv/bin/python -m sphinx $(SPHINX_OPTIONS) --doctree-dir $(SITE)/doctrees docs build/docs

docs-links: $(SITE)/venv/installed
	@$(SITE)/venv/bin/python -m sphinx $(SPHINX_OPTIONS) --builder linkcheck --doctree-dir $(SITE)/doctrees docs $(SITE)/links

$(SITE)/venv/installed: pyproject.toml
	$(call new_venv,$(SITE)/venv)
	@$(SITE)/venv/bin/python $(PIP) install --group docs
	@touch $@

check: $(CHECK)/venv/installed
	@$(CHECK)/venv/bin/ruff format --quiet --check .
	@$(CHECK)/venv/bin/ruff check --quiet .
	@$(CHECK)/venv/bin/mypy --no-error-summary
	$(call quietly,$(CHECK)/venv/bin/lint-imports --no-logo)
	$(call quietly,$(CHECK)/venv/bin/zizmor --offline --quiet --no-progress .github action.yml)
	$(call quietly,$(CHECK)/venv/bin/pre-commit validate-manifest .pre-commit-hooks.yaml)
	$(call quietly,$(CHECK)/venv/bin/pre-commit validate-config .pre-commit-config.yaml)

$(CHECK)/venv/installed: pyproject.toml
	$(call new_venv,$(CHECK)/venv)
	@$(CHECK)/venv/bin/python $(PIP) install --group dev --editable ".[all]"
	@touch $@

# Peers get an environment of their own each, where import names or languages clash.
bench bench-quick: $(BENCH)/installed
	@$(BENCH)/venv/bin/python $(PIP) install --no-build-isolation --force-reinstall --no-deps .
	@$(BENCH)/venv/bin/python benchmarks $(if $(filter bench-quick,$@),--quick,--write) $(BENCH_ARGS)

$(BENCH)/installed: pyproject.toml benchmarks/peers/package.json
	@mkdir -p $(BENCH)/node
	$(call new_venv,$(BENCH)/venv)
	$(call new_venv,$(BENCH)/rival)
	@$(BENCH)/venv/bin/python $(PIP) install hatchling -r benchmarks/peers/requirements.txt --group tests .
	@$(BENCH)/rival/bin/python $(PIP) install -r benchmarks/peers/rival.txt
	@cp benchmarks/peers/package.json $(BENCH)/node/
	@if command -v npm >/dev/null; then npm install --silent --no-fund --no-audit --prefix $(BENCH)/node; fi
	@touch $@

clean:
	@rm -rf build dist .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
