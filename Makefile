# make demo        a fresh machine -> .venv, install, the FuseMax figures in build/fusemax/
# make test        a fresh machine -> everything the tests need, all the gates, the test suite
# make lint        the gates only           make format      let ruff rewrite what it can
# make test-slow   the long tests           make clean       remove what was built, .venv included

PYTHON ?= python3
# Extras that the tests need; `make lint EXTRAS=dev` does without PyTorch.
EXTRAS ?= dev,torch,rtl,cluster,optimize,report
# Debian packages that the tests need: the Verilog simulator; a browser to open reports in.
SYSTEM_PACKAGES ?= iverilog chromium chromium-driver

VENV := .venv
BIN := $(VENV)/bin
# Stamps live inside .venv: deleting it forgets them too.
BASE := $(VENV)/.installed
comma := ,
DEV := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))

.DEFAULT_GOAL := test
.DELETE_ON_ERROR:
# Two cores: each gate may use both, so they run one after the other.
.NOTPARALLEL:
.PHONY: demo test test-slow lint wheel format clean system

demo: $(BASE)
	$(BIN)/archsim reproduce fusemax -o build/fusemax

test: system lint
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: system $(DEV)
	$(BIN)/python -m pytest -m slow

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) wheel

# The wheel is built from the sdist, in a fresh folder: it proves that the sdist is complete, and no
# file of an earlier build can slip in.
wheel: $(DEV)
	rm -rf build/dist
	$(BIN)/python -m build --no-isolation --outdir build/dist
	$(BIN)/check-wheel-contents build/dist/*.whl

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Order-only: the interpreter's date says nothing about what is installed.
$(BASE): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(DEV): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[$(EXTRAS)]"
	touch $(BASE) $@

system:
	@missing=""; \
	for package in $(SYSTEM_PACKAGES); do \
	    dpkg-query -W -f='$${Status}' "$$package" 2>/dev/null | grep -q "install ok installed" \
	        || missing="$$missing $$package"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" -ne 0 ]; then \
	    echo "missing system packages, run: sudo apt-get install$$missing" >&2; exit 1; \
	fi; \
	apt-get update && apt-get install --yes --no-install-recommends $$missing
