# HotLoRA's commands on Linux and macOS. On Windows use the plain ones in docs/standalone.md.
#
#   make demo     set up, train the demo LoRA on the CPU, name the files to look at
#   make test     all tests under both sets of packages, the newest and AUTOMATIC1111's; then lint
#   make bench    a training step here against plain loops over diffusers, transformers and peft: time and memory
#   make docs     build the documentation into the folder site; a link that leads nowhere is an error
#   make clean    remove what demo, tests and tools left behind, but not the virtual environments
#
# pip's own settings apply. Where no GPU is, this saves a download of gigabytes:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo

NEWEST := .venv/bin/python
A1111 := .venv-a1111/bin/python
INSTALL := -m pip install --disable-pip-version-check --quiet
CLASSES := requirements/original-classes.txt

# Waiting OpenMP threads spin by default; on a machine that does anything else, that makes steps several times slower.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test test-newest test-a1111 browser lint bench docs clean

demo: .venv/.ready
	$(NEWEST) demo/run_demo.py

test: test-newest test-a1111 lint

test-newest: .venv/.tests-ready browser
	$(NEWEST) -m pytest

# Python 3.10 is what AUTOMATIC1111 runs on. Without one only half of the promise is tested: said loudly, and an error in CI.
ifneq ($(or $(wildcard $(A1111)),$(shell tools/find_python.sh 3.10)),)
test-a1111: .venv-a1111/.ready browser
	$(A1111) -m pytest
else
test-a1111:
	@echo
	@echo "*** NOT TESTED: AUTOMATIC1111's set of packages. It needs Python 3.10, and there is none on this machine. ***"
	@echo "*** Install it (for example: pyenv install 3.10) and run: make test-a1111                               ***"
	@echo
	@[ "$$CI" != true ]
endif

# The tests of the page drive a browser. Without one they are skipped: said loudly, and an error in CI.
browser:
	@tools/find_browser.sh --install >/dev/null || { echo; \
		echo "*** NOT TESTED: the page. Its tests need Chromium or Chrome, and there is none on this machine.         ***"; \
		echo "*** Install one (for example: apt-get install chromium), or name yours in CHROME_PATH.                ***"; \
		echo; [ "$$CI" != true ]; }

lint: .venv/.ready
	$(NEWEST) -m ruff check .
	$(NEWEST) tools/check_sizes.py

bench: .venv/.ready
	$(NEWEST) tools/bench.py
	$(NEWEST) tools/bench_text.py

docs: .venv-docs/.ready
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict --quiet
	@echo "the documentation is in site/index.html"

# The stamps are renewed when a list of requirements changes.
.venv/.ready: requirements/newest.txt requirements/standalone.txt
	@[ -x $(NEWEST) ] || { python=$$(tools/find_python.sh 3.11 3.12 3.13 3.10) \
		|| { echo "There is no Python 3.10 to 3.13 that can make a virtual environment. Install one."; exit 1; }; \
		echo "setting up .venv with $$python (some minutes)"; "$$python" -m venv .venv; }
	$(NEWEST) $(INSTALL) -r requirements/newest.txt
	@touch $@

.venv/.tests-ready: .venv/.ready $(CLASSES) requirements/gradio4.txt
	$(NEWEST) $(INSTALL) --no-deps -r $(CLASSES) -r requirements/gradio4.txt
	@touch $@

.venv-a1111/.ready: requirements/a1111.txt requirements/standalone.txt $(CLASSES)
	@[ -x $(A1111) ] || { python=$$(tools/find_python.sh 3.10) && echo "setting up .venv-a1111 with $$python (some minutes)" \
		&& "$$python" -m venv .venv-a1111; }
	$(A1111) $(INSTALL) -r requirements/a1111.txt
	$(A1111) $(INSTALL) --no-deps -r $(CLASSES)
	@touch $@

.venv-docs/.ready: requirements/docs.txt
	@[ -x .venv-docs/bin/python ] || { python=$$(tools/find_python.sh 3.11 3.12 3.13 3.10) && "$$python" -m venv .venv-docs; }
	.venv-docs/bin/python $(INSTALL) -r requirements/docs.txt
	@touch $@

clean:
	rm -rf demo/output .pytest_cache .ruff_cache .mypy_cache build dist site extension/hotlora.egg-info
	find . -name .hotlora-cache -not -path './.venv*' -prune -exec rm -rf {} +
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
