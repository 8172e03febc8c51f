# The door to everything that is done with a checkout. `make` alone lists it.
PYTHON ?= python3
ARGS ?=

# Prints the path of the Python of an up-to-date environment with httpio built in it (.venv-<version>).
PREPARE = $(PYTHON) tools/prepare.py

.DEFAULT_GOAL := help
.PHONY: help demo test test-all bench faults lint docs wheel sanitize clean

help:  ## list the targets
	@echo "PYTHON=python3.12 chooses the Python; ARGS='...' is handed on to pytest, the benchmark or the faults."
	@sed -n 's/^\([a-z-]*\):  ## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

demo:  ## move 120,000 small objects from the embedded server, beside http.client
	@python=$$($(PREPARE)) && $$python bench/demo.py $(ARGS)

test:  ## build, and run all tests with this machine's Python
	@python=$$($(PREPARE)) && $$python -m pytest $(ARGS)

test-all:  ## the same with each Python from 3.10 up that is found; heavy tests once
	@$(PYTHON) tools/every_python.py $(ARGS)

bench:  ## run the benchmarks
	@python=$$($(PREPARE) --extras test,bench) && $$python bench/run.py $(ARGS)

faults:  ## play the faults to httpio and other clients, and write docs/faults.md
	@python=$$($(PREPARE)) && $$python faults/run.py $(ARGS)

lint:  ## ruff, and mypy --strict over the package
	@python=$$($(PREPARE) --extras test,lint) && $$python -m ruff check . && $$python -m mypy

docs:  ## draw the state tables, and build the documentation into build/docs
	@python=$$($(PREPARE) --extras test,docs) && $$python tools/draw_states.py \
		&& $$python -m sphinx --quiet --fail-on-warning --doctree-dir build/docs/.doctrees docs build/docs \
		&& echo build/docs/index.html

wheel:  ## build the sdist, and the wheel from it, into dist/
	@python=$$($(PREPARE)) && $$python -m build --outdir dist .

sanitize:  ## run the tests of parser and cases with the extension under ASan and UBSan
	@python=$$($(PREPARE)) && tools/sanitize.sh $$python tests/test_parser.py tests/test_direct_chunks.py tests/test_cases.py tests/test_request_cases.py $(ARGS)

clean:  ## remove what was built; vendor/llhttp stays
	rm -rf .venv-*/ build/ dist/ bench/.build/ src/httpio.egg-info/
	rm -rf .mypy_cache/ .pytest_cache/ .ruff_cache/ .hypothesis/
	rm -f src/httpio/_parser.*.so src/httpio/_parser.*.pyd
	find src tests bench faults tools vendor -name __pycache__ -prune -exec rm -rf {} +
