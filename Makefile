# HotLoRA's commands on Linux and macOS. On Windows use the plain ones in docs/standalone.md.
#
#   make demo        set up, train the demo LoRA on the CPU, name the files to look at
#   make test        lint, then all tests under three sets of packages: the newest, AUTOMATIC1111's, Forge Neo's; in four parts, three at a time
#   make test-gradio the page's tests under the newest Gradio, laid over the newest packages
#   make test-faults the whole fault harness, some minutes: kills, full disks, damage, odd inputs; `make test` has its short form
#   make test-hosts  the whole stories in a running AUTOMATIC1111, Forge and text-generation-webui; where those are: see below
#   make bench       a training step here against plain loops over diffusers, transformers and peft: time and memory
#   make bench-presets  what the image presets learn on the demo's model, against plain runs of as many steps; some 15 minutes
#   make gpu         what the documentation claims of a card, tried on this machine's, in under ten minutes
#   make docs        build the documentation into the folder site; a link that leads nowhere is an error
#   make clean       remove what demo, tests and tools left behind, but not the virtual environments
#
# pip's own settings apply. Where no GPU is, this saves a download of gigabytes:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo

NEWEST := .venv/bin/python
A1111 := .venv-a1111/bin/python
NEO := .venv-neo/bin/python
GRADIO := .venv-gradio/bin/python
INSTALL := -m pip install --disable-pip-version-check --quiet
CLASSES := requirements/original-classes.txt

# Waiting OpenMP threads spin by default; on a machine that does anything else, that makes steps several times slower.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test test-newest test-page test-a1111 test-neo test-gradio test-faults test-hosts real-a1111 real-forge real-textgen real-classes browser lint bench bench-presets gpu docs clean

demo: .venv/.ready
	$(NEWEST) demo/run_demo.py

# One thread each: runs are many and small. Three at a time on two cores, as tests also wait; the longest first, so that none is left alone.
test: export OMP_NUM_THREADS := 1
test: lint
	@$(MAKE) --no-print-directory --jobs=3 --output-sync=target test-a1111 test-newest test-page test-neo

# AUTOMATIC1111 and the Forges never have these packages: their own sets test what is theirs.
test-newest: .venv/.tests-ready
	$(NEWEST) -m pytest $(addprefix --ignore=tests/,hosts/a1111 hosts/forge hosts/webui ui)

test-page: .venv/.tests-ready browser
	$(NEWEST) -m pytest tests/ui

# Without the Python of a program only a part of the promise is tested: said loudly, and an error in CI.
NOT_TESTED_UNDER = @echo; echo "*** NOT TESTED: $(1) set of packages. It needs Python $(2), and there is none on this machine. ***"; \
	echo "*** Install it (for example: pyenv install $(2)) and run: make $(3) ***"; echo; [ "$$CI" != true ]

# The demo, the benchmarks and the installed package run by themselves, under the newest packages; what only reads the code needs no packages.
ifneq ($(or $(wildcard $(A1111)),$(shell tools/find_python.sh 3.10)),)
test-a1111: .venv-a1111/.ready browser
	$(A1111) -m pytest $(addprefix --ignore=tests/,demo tools test_architecture.py test_readme.py test_sentences.py test_wheel.py)
else
test-a1111:
	$(call NOT_TESTED_UNDER,AUTOMATIC1111's,3.10,test-a1111)
endif

# What trains pictures, and of the page what its Gradio 4.40 could draw otherwise than the 4.37 of the newest packages; but no texts.
NEO_PAGE := $(addprefix tests/ui/test_,$(addsuffix .py,a1111_tab accessibility form page samples_page upload))
ifneq ($(or $(wildcard $(NEO)),$(shell tools/find_python.sh 3.13)),)
test-neo: .venv-neo/.ready browser
	$(NEO) -m pytest tests/engine tests/pictures tests/sd tests/hosts/forge tests/hosts/webui tests/hosts/shared $(NEO_PAGE)
else
test-neo:
	$(call NOT_TESTED_UNDER,Forge Neo's,3.13,test-neo)
endif

# No program has it yet; the stand-alone page does, where somebody installs Gradio today.
test-gradio: export OMP_NUM_THREADS := 1
test-gradio: .venv-gradio/.ready browser
	$(GRADIO) -m pytest tests/ui --ignore=tests/ui/test_textgen_plugin.py

# What it reached goes into docs/reliability.md. Two sessions at once, one thread each: runs are many and small.
test-faults: export OMP_NUM_THREADS := 1
test-faults: export HOTLORA_FAULTS := full
test-faults: export HOTLORA_FAULTS_INTO := output/faults
test-faults: .venv/.tests-ready
	rm -rf output/faults
	$(NEWEST) -m pytest tests/faults/test_kills.py & \
	$(NEWEST) -m pytest tests/faults --ignore tests/faults/test_kills.py; rest=$$?; \
	wait $$!; kills=$$?; \
	$(NEWEST) tests/faults/tally.py output/faults docs/reliability.md; exit $$((rest + kills))

# The programs that hold models, with this checkout linked into their folder of extensions. What starts them is no affair of this file:
#   HOTLORA_A1111_URL (--api, the demo's checkpoint loaded), HOTLORA_A1111_LORA_DIR (its models/Lora); HOTLORA_A1111_PYTHON (its Python:
#     that packages stay what they were)
#   HOTLORA_FORGE_URL, HOTLORA_FORGE_LORA_DIR and HOTLORA_FORGE_PYTHON likewise; what loads the demo's tiny checkpoint there is up to you
#   HOTLORA_TEXTGEN_URL and HOTLORA_TEXTGEN_API (--api --extensions hotlora, a small model loaded); HOTLORA_TEXTGEN_PYTHON
#   HOTLORA_A1111_FOLDER, HOTLORA_TEXTGEN_FOLDER: their files, for tests that need nothing running
# Without an address its tests are skipped: said loudly, and an error in CI.
NOT_TESTED = @echo; echo "*** NOT TESTED: $(1) ***"; echo "*** Name $(2) and run: make test-hosts ***"; echo; [ "$$CI" != true ]

REAL_WEBUI := tests/ui/test_real_webui_story.py $(wildcard tests/hosts/webui/test_real_*.py)

test-hosts: real-a1111 real-forge real-textgen real-classes

ifneq ($(and $(HOTLORA_A1111_URL),$(HOTLORA_A1111_LORA_DIR)),)
real-a1111: .venv/.tests-ready browser
	$(NEWEST) -m pytest $(REAL_WEBUI) -k a1111
else
real-a1111:
	$(call NOT_TESTED,a running AUTOMATIC1111,HOTLORA_A1111_URL and HOTLORA_A1111_LORA_DIR)
endif

ifneq ($(and $(HOTLORA_FORGE_URL),$(HOTLORA_FORGE_LORA_DIR)),)
real-forge: .venv/.tests-ready browser
	$(NEWEST) -m pytest $(REAL_WEBUI) -k forge
else
real-forge:
	$(call NOT_TESTED,a running Forge,HOTLORA_FORGE_URL and HOTLORA_FORGE_LORA_DIR)
endif

ifneq ($(and $(HOTLORA_TEXTGEN_URL),$(HOTLORA_TEXTGEN_API)),)
real-textgen: .venv/.tests-ready browser
	$(NEWEST) -m pytest tests/ui/test_real_textgen_story.py
else
real-textgen:
	$(call NOT_TESTED,a running text-generation-webui,HOTLORA_TEXTGEN_URL and HOTLORA_TEXTGEN_API)
endif

ifneq ($(and $(HOTLORA_A1111_FOLDER),$(HOTLORA_TEXTGEN_FOLDER)),)
real-classes: .venv/.tests-ready
	$(NEWEST) -m pytest tests/hosts/a1111/test_a1111_queue.py tests/hosts/textgen/test_textgen_lock.py
else
real-classes: .venv/.tests-ready
	@$(NEWEST) -m pytest tests/hosts/a1111/test_a1111_queue.py tests/hosts/textgen/test_textgen_lock.py
	$(call NOT_TESTED,the hosts' own locks; only stand-ins were,HOTLORA_A1111_FOLDER and HOTLORA_TEXTGEN_FOLDER)
endif

# The tests of the page drive a browser. Without one they are skipped: said loudly, and an error in CI.
browser:
	@tools/find_browser.sh --install >/dev/null || { echo; \
		echo "*** NOT TESTED: the page. Its tests need Chromium or Chrome, and there is none on this machine.         ***"; \
		echo "*** Install one (for example: apt-get install chromium), or name yours in CHROME_PATH.                ***"; \
		echo; [ "$$CI" != true ]; }

lint: .venv/.ready
	$(NEWEST) -m ruff check .
	$(NEWEST) -m ruff format --check .
	$(NEWEST) -m mypy
	$(NEWEST) tools/check_sizes.py

bench: .venv/.ready
	$(NEWEST) tools/bench.py
	$(NEWEST) tools/bench_text.py

bench-presets: export OMP_NUM_THREADS := 1
bench-presets: .venv/.ready
	$(NEWEST) tools/bench_presets.py

gpu: .venv/.ready
	$(NEWEST) tools/gpu_check.py

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

.venv-neo/.ready: requirements/neo.txt requirements/standalone.txt $(CLASSES)
	@[ -x $(NEO) ] || { python=$$(tools/find_python.sh 3.13) && echo "setting up .venv-neo with $$python (some minutes)" \
		&& "$$python" -m venv .venv-neo; }
	$(NEO) $(INSTALL) -r requirements/neo.txt
	$(NEO) $(INSTALL) --no-deps -r $(CLASSES)
	@touch $@

.venv-gradio/.ready: .venv/.tests-ready requirements/gradio-newest.txt
	@[ -x $(GRADIO) ] || $(NEWEST) -m venv .venv-gradio
	$(NEWEST) -c "import sysconfig; print(sysconfig.get_path('purelib'))" > $$($(GRADIO) -c "import sysconfig; print(sysconfig.get_path('purelib'))")/newest.pth
	$(GRADIO) $(INSTALL) -r requirements/gradio-newest.txt
	@touch $@

.venv-docs/.ready: requirements/docs.txt
	@[ -x .venv-docs/bin/python ] || { python=$$(tools/find_python.sh 3.11 3.12 3.13 3.10) && "$$python" -m venv .venv-docs; }
	.venv-docs/bin/python $(INSTALL) -r requirements/docs.txt
	@touch $@

clean:
	rm -rf demo/output .pytest_cache .ruff_cache .mypy_cache build dist site extension/hotlora.egg-info
	find . -name .hotlora-cache -not -path './.venv*' -prune -exec rm -rf {} +
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
