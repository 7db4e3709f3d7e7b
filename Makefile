# Two commands: `make workbook` runs everything, `make test` checks everything.
PYTHON ?= python3
SCALE ?= laptop
SEEDS ?= 0,1,2
CORPUS ?= auto
VENV := .venv
RUN := $(VENV)/bin/python -m mome run --corpus $(CORPUS)

.PHONY: workbook smoke study plan test lowest lab docs clean

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
lowest:
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(VENV)-lowest/bin/uv pip compile --quiet --resolution lowest-direct --extra dev pyproject.toml --output-file $(VENV)-lowest/pins.txt
	$(VENV)-lowest/bin/uv pip install --quiet --python $(VENV)-lowest -r $(VENV)-lowest/pins.txt
	$(VENV)-lowest/bin/uv pip install --quiet --python $(VENV)-lowest --no-deps -e .
	$(VENV)-lowest/bin/python -m pytest

lab: $(VENV)/installed
	$(VENV)/bin/jupyter lab notebooks

docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict

$(VENV)/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-lowest data/store runs site
