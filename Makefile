# Two commands: `make workbook` runs everything, `make test` checks everything.
PYTHON ?= python3
SCALE ?= laptop
SEEDS ?= 0,1,2
CORPUS ?= auto
# Linux without an NVIDIA GPU takes PyTorch's CPU build, a tenth of that with CUDA; `make TORCH=cuda` takes that.
TORCH ?= $(shell [ "$$(uname)" = Linux ] && ! command -v nvidia-smi > /dev/null && echo cpu)
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
UV := $(VENV)/bin/uv pip
CPU_TORCH := torch==$(shell sed -n 's/^torch==\([^ ;]*\).*/\1/p' requirements.txt)
RUN := $(VENV)/bin/python -m mome run --corpus $(CORPUS)

.PHONY: workbook smoke study plan test lowest lab demo lock docs clean

workbook: $(VENV)/installed
	$(RUN) --scale $(SCALE) --seeds $(SEEDS)

plan: $(VENV)/installed
	$(RUN) --scale $(SCALE) --seeds $(SEEDS) --dry-run

smoke: $(VENV)/installed
	$(RUN) --scale smoke --seeds 0,1

# All that is left to a choice: every loss, schedule, order and control, both optimizers. Twice as long.
study: $(VENV)/installed
	$(VENV)/bin/python -m mome sweep notebooks/study.yaml

test: $(VENV)/installed
	$(VENV)/bin/python -m pytest

# The suite on the lowest versions that pyproject.toml allows (torch comes with CUDA then: several GB).
lowest: $(VENV)/bin/uv
	$(PYTHON) -m venv $(VENV)-lowest
	$(UV) compile --quiet --resolution lowest-direct --python $(VENV)-lowest --all-extras pyproject.toml --output-file $(VENV)-lowest/pins.txt
	$(UV) install --quiet --python $(VENV)-lowest -r $(VENV)-lowest/pins.txt
	$(UV) install --quiet --python $(VENV)-lowest --no-deps -e .
	$(VENV)-lowest/bin/python -m pytest

# LAB holds options for JupyterLab, such as --no-browser.
lab: $(VENV)/installed
	$(VENV)/bin/mome lab -- --LabApp.default_url=/lab/tree/00_start_here.ipynb $(LAB)

# DEMO holds options, such as --scale smoke --corpus mini, or --export FOLDER.
demo: $(VENV)/installed
	$(VENV)/bin/mome demo $(DEMO)

docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict

# Every package, for all platforms and Pythons. What is there and still fits stays; `make lock LOCK=--upgrade` takes the newest.
# CUDA's packages are left out: the build of torch that has it names its own, exactly.
lock: $(VENV)/bin/uv
	$(UV) compile --quiet --universal --python-version 3.11 --all-extras --no-annotate --custom-compile-command "make lock" \
	  $(LOCK) pyproject.toml --output-file requirements.txt
	grep -vE '^(nvidia-|cuda-|triton=)' requirements.txt > $(VENV)/lock.txt
	cp $(VENV)/lock.txt requirements.txt

$(VENV)/bin/uv:
	$(PYTHON) -m venv $(VENV)
	$(PIP) -c requirements.txt uv

$(VENV)/installed: requirements.txt pyproject.toml | $(VENV)/bin/uv
ifeq ($(TORCH),cpu)
	$(PIP) --no-deps $(CPU_TORCH)+cpu 2> /dev/null || $(UV) install --quiet --python $(VENV) --no-deps --torch-backend cpu $(CPU_TORCH) || \
	  { echo "PyTorch's CPU build cannot be fetched: check the network, or take the 3 GB with CUDA by make TORCH=cuda" >&2; exit 1; }
endif
	$(UV) install --quiet --python $(VENV) -r requirements.txt
	$(UV) install --quiet --python $(VENV) --no-deps -e .
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-lowest data/store runs site
