# make demo · make test · make bench. Needs Python 3.11+ and git; everything else comes from requirements.lock.
PYTHON ?= python3
VENV := .venv
LABELSTUDIO := .venv-labelstudio
CONSUMERS := .venv-consumers
BIN := $(VENV)/bin
# Telemetry of every dependency is off, also for what make starts itself.
export DO_NOT_TRACK := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Stages are short processes: without bytecode each would compile the modules of the one before anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup browser postgres labelstudio consumers llm demo demo-llm test test-fast lint bench lock clean

setup: $(VENV)/.installed

# uv installs the locked wheels in seconds; where it can't be had, pip does the same, slower. Both check every hash, and
# both compile: without bytecode every stage would spend most of its time on imports (3 times as long, measured).
$(VENV)/.installed: requirements.lock requirements-uv.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements-uv.lock \
	  && $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock \
	  || $(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# The tests talk to a real Label Studio, which needs an environment of its own: its 158 packages and ours don't agree on versions.
# Without a network the tests say so and are skipped, unless FLYWHEEL_REQUIRE_LABELSTUDIO=1 asks for them (.ci/run does).
labelstudio: $(LABELSTUDIO)/.installed

$(LABELSTUDIO)/.installed: requirements-labelstudio.lock | setup
	rm -rf $(LABELSTUDIO)
	$(PYTHON) -m venv $(LABELSTUDIO)
	( $(BIN)/uv pip install --quiet --compile-bytecode --python $(LABELSTUDIO)/bin/python --require-hashes -r requirements-labelstudio.lock \
	  || $(LABELSTUDIO)/bin/pip install --quiet --require-hashes -r requirements-labelstudio.lock ) \
	  && touch $@ || test "$$FLYWHEEL_REQUIRE_LABELSTUDIO" != 1

# Those who read our data sets and exports (TRL, inspect, lm-eval, …) are tested in an environment of their own, and promptfoo by
# node, where there is one. Without a network the tests say so and are skipped, unless FLYWHEEL_REQUIRE_CONSUMERS=1 asks for them.
consumers: $(CONSUMERS)/.installed $(CONSUMERS)/promptfoo/.installed

# torch's wheel for processors alone (a tenth of the other's size) is on no ordinary index: uv looks where pip is told to look
# (PIP_FIND_LINKS), then where PyTorch keeps it. The lock names every package, so nothing else is resolved (--no-deps).
UV_CONSUMERS = UV_FIND_LINKS="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}" $(BIN)/uv pip install --quiet --no-deps --require-hashes \
  --python $(CONSUMERS)/bin/python -r requirements-consumers.lock

$(CONSUMERS)/.installed: requirements-consumers.lock | setup
	rm -rf $(CONSUMERS)
	$(PYTHON) -m venv $(CONSUMERS)
	( $(UV_CONSUMERS) || $(UV_CONSUMERS) --torch-backend cpu \
	  || $(CONSUMERS)/bin/pip install --quiet --no-compile --no-deps --require-hashes -r requirements-consumers.lock ) \
	  && touch $@ || test "$$FLYWHEEL_REQUIRE_CONSUMERS" != 1

# Without the scripts of packages, which would fetch browsers and models that no test needs.
$(CONSUMERS)/promptfoo/.installed: tests/promptfoo/package-lock.json | $(CONSUMERS)/.installed
	mkdir -p $(CONSUMERS)/promptfoo && cp tests/promptfoo/package*.json $(CONSUMERS)/promptfoo
	( cd $(CONSUMERS)/promptfoo && npm ci --silent --ignore-scripts --omit=optional --no-audit --no-fund ) \
	  && touch $@ || test "$$FLYWHEEL_REQUIRE_CONSUMERS" != 1 || ! command -v npm

# Language models: torch for processors, TRL, PEFT and accelerate, into the same environment (the rest of what they need is in
# requirements.lock already). Without a network the tests of it are skipped, unless FLYWHEEL_REQUIRE_LLM=1 asks for them.
# On a machine with a GPU install the torch of your CUDA first, and then: pip install -e '.[llm]'.
llm: $(VENV)/.llm

UV_LLM = UV_FIND_LINKS="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}" $(BIN)/uv pip install --quiet --compile-bytecode --no-deps --require-hashes \
  --python $(BIN)/python -r requirements-llm.lock

$(VENV)/.llm: requirements-llm.lock $(VENV)/.installed
	( $(UV_LLM) || $(UV_LLM) --torch-backend cpu \
	  || $(BIN)/pip install --quiet --no-deps --require-hashes -r requirements-llm.lock ) \
	  && touch $@ || test "$$FLYWHEEL_REQUIRE_LLM" != 1

demo: setup
	$(BIN)/flywheel demo

# A tiny language model, from nothing: it reads the demo's texts, learns from corrections, then from its own mistakes. Minutes, on a CPU.
demo-llm: llm
	$(BIN)/python -m demo.llm

test: setup lint browser postgres labelstudio consumers llm
	$(BIN)/pytest -n 2 -r s

# The review page is tested in a real Chromium, which is no Python package.
browser:
	sh tests/install_chromium.sh

# The loop on servers is tested on a real PostgreSQL, which is no Python package either.
postgres:
	sh tests/install_postgres.sh

test-fast: setup
	$(BIN)/pytest -m "not slow"

lint: setup
	$(BIN)/ruff check .

bench: setup
	$(BIN)/python -m benchmarks.demo_seeds
	$(BIN)/python -m benchmarks.real_turn
	$(BIN)/python -m benchmarks.gate
	$(BIN)/python -m benchmarks.gate_demo

# Exact versions and hashes, and no address of any package registry.
lock: setup
	$(BIN)/uv pip compile pyproject.toml --group dev --python-version 3.11 --universal --generate-hashes \
	  --no-emit-index-url --no-annotate --quiet --output-file requirements.lock
	echo 'uv==0.13.9' | $(BIN)/uv pip compile - --python-version 3.11 --universal --generate-hashes \
	  --no-emit-index-url --no-annotate --quiet --output-file requirements-uv.lock
	echo 'label-studio==1.23.2' | $(BIN)/uv pip compile - --python-version 3.11 --universal --generate-hashes \
	  --no-emit-index-url --no-annotate --quiet --output-file requirements-labelstudio.lock
	printf '%s\n' trl torch==2.13.0+cpu inspect-ai lm-eval openai peft addict pillow omegaconf | UV_FIND_LINKS="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}" \
	  $(BIN)/uv pip compile - --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --quiet \
	  --output-file requirements-consumers.lock
	# Their own bounds fit no newer TRL and bring a page of their own each; what reads data in them is what is tested.
	printf '%s\n' llamafactory==0.9.5 axolotl==0.19.0 | $(BIN)/uv pip compile - --no-deps --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header --quiet >> requirements-consumers.lock
	# Of the same versions, what our own lock lacks: torch and TRL have the rest in common with MLflow, DVC and `datasets`.
	awk '/^[^ ]/ {on = 0} /^(accelerate|mpmath|peft|sympy|torch|trl)==/ {on = 1} on' requirements-consumers.lock > requirements-llm.lock
	cd tests/promptfoo && npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved --no-audit --no-fund --silent

clean:
	rm -rf $(VENV) $(LABELSTUDIO) $(CONSUMERS) demo-workspace .pytest_cache .ruff_cache
