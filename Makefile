# make demo   all set-up, then the whole of it once: data, teacher, training, evaluation, replay
# make test   all set-up if need be, then lint, types, import contracts, every test
#
# TORCH=cpu|cuda chooses the build of torch; PYTHON=... the interpreter.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test install lint types contracts tests bench-learning bench-replay bench-scale clean

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

bench-learning: $(INSTALLED)
	$(BIN)/python -m benchmarks.learning

bench-replay: $(INSTALLED)
	$(BIN)/python -m benchmarks.replay

bench-scale: $(INSTALLED)
	$(BIN)/python -m benchmarks.scale

clean:
	rm -rf $(VENV) runs
