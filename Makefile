# Everything works from a fresh clone: each target creates the virtual environment it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help install demo test check format lock train-tiny clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# torch first, by its exact version: a range could pull another build.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

install: $(READY)  ## Create .venv with the tested versions

demo: $(READY)  ## Encode, compress and ask about a sample clip with the embedded model
	@mkdir -p demo
	$(BIN)/stsimdiff encode sample_videos/flash.mp4 -o demo/flash.tokens.safetensors --force
	$(BIN)/stsimdiff compress demo/flash.tokens.safetensors -o demo/flash.safetensors --ratio 0.3 --force
	$(BIN)/stsimdiff inspect demo/flash.safetensors
	$(BIN)/stsimdiff ask demo/flash.safetensors "What happens in this video?" "How many objects are there?"

test: $(READY)  ## Run the tests
	$(BIN)/python -m pytest

check: $(READY)  ## Format, lint, types and import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy stsimdiff_cli
	$(BIN)/lint-imports

format: $(READY)  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(READY)  ## Write the installed versions to constraints.txt
	{ sed -n 1p constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed -E 's/\+(cpu|cu[0-9]+)$$//'; } > constraints.new
	mv constraints.new constraints.txt

train-tiny: $(READY)  ## Train the embedded model again (hours on a CPU)
	$(BIN)/python -m stsimdiff_cli.models.tiny.train

clean:  ## Remove what was built
	rm -rf $(VENV) build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
