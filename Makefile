# make help lists what there is. All of it runs in .venv, which is made once from constraints.txt.

PYTHON ?= python3.11
ARGS ?=
PY := .venv/bin/python
STAMP := .venv/.installed-from-constraints
QUIET := -qq --disable-pip-version-check
UNUSED := /tests?/|/transformers/|/torch/(testing/_internal|_inductor)/|/(pip|pyglet|debugpy|fontTools|lexers)/

# one thread for each process: what runs side by side are processes (DESIGN: two threads are slower here)
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help run test check lab play bench site notebooks readme export format clean needs-venv

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

run: $(STAMP)  ## train and evaluate the agents in the labyrinth (about 20 min; ARGS="--quick" about 2)
	@$(PY) -m lwm_nb reproduce $(ARGS)

test: $(STAMP)  ## everything: checks, all notebooks, tests/
	@$(PY) tools/test.py

check: needs-venv  ## library, notebooks and README agree, lint, format (seconds; installs nothing)
	@$(PY) tools/test.py --only checks

lab: $(STAMP)  ## JupyterLab on the first notebook, on this machine only
	@.venv/bin/jupyter lab --ip=127.0.0.1 $(if $(filter 0,$(shell id -u)),--allow-root) --config=tools/jupyter_config.py --ServerApp.root_dir="$(CURDIR)" nbs/00_tour.ipynb $(ARGS)

play: $(STAMP)  ## play the labyrinth: the play notebook as an app in the browser, on this machine only
	@$(PY) tools/play.py $(ARGS)

bench: $(STAMP)  ## how fast environment, learner, whitening transforms, Atari replay and agent, and the play panel are
	@$(PY) -m lwm_nb bench labyrinth $(ARGS)
	@$(PY) -c "from lwm_nb.whitening.bench import bench_table, bench_transforms; print(bench_table(bench_transforms()))"
	@$(PY) -c "from lwm_nb.atari.replay import bench_replay; print('Atari replay, windows of 121 frames per second:', bench_replay())"
	@$(PY) -c "from lwm_nb.atari.bench import bench_atari; print(bench_atari().round(2).to_string())"
	@$(PY) tools/bench_play.py

site: $(STAMP)  ## a static site of all notebooks in _site/, with search and all functions; links are checked
	@$(PY) tools/site_builder.py $(ARGS)

notebooks: $(STAMP)  ## execute the library notebooks in place, in reading order
	@$(PY) tools/nb.py execute

readme: needs-venv  ## README.md from nbs/index.ipynb, nbs/FUNCTIONS.md from all notebooks
	@$(PY) tools/nb.py readme
	@$(PY) tools/nb.py functions

export: needs-venv  ## lwm_nb/ from the notebooks
	@.venv/bin/nbdev_export

format: needs-venv  ## sort imports and format (changes code cells: execute those notebooks afterwards)
	@.venv/bin/ruff check --quiet --select I --fix --exit-zero tools tests nbs setup.py
	@.venv/bin/ruff format tools tests nbs setup.py

clean:  ## remove .venv, caches and build results; runs/ stays
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis _proc _docs _site screenshots
	find . -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf

needs-venv:
	@test -x $(PY) && test -x .venv/bin/ruff || { echo "There is no complete .venv here: type 'make test' once, which makes it." >&2; exit 1; }

$(STAMP): constraints.txt settings.ini setup.py
	@command -v $(PYTHON) >/dev/null && $(PYTHON) -c '' 2>/dev/null || { echo "$(PYTHON) is missing: install Python 3.11 (Debian: apt-get install python3.11 python3.11-venv)." >&2; exit 1; }
	@test -x $(PY) || { echo "Making .venv (a few minutes, once) ..."; $(PYTHON) -m venv .venv; }
	@$(PY) -m pip install $(QUIET) -c constraints.txt setuptools wheel
	@# what is pinned needs no search for versions that go together, so it is installed side by side; then all the rest
	@xargs -P 2 -n 58 $(PY) -m pip install $(QUIET) --no-compile --no-deps --no-build-isolation < constraints.txt
	@$(PY) -m pip install $(QUIET) --no-compile -c constraints.txt --no-build-isolation -e ".[dev,atari,minigrid,minari,panels,cluster,tensorboard,retro,controller,tokens]"
	@# pip compiles on one core, and the packages' own tests (and much that nobody imports) with the rest; files for another Python fail, and may
	@$(PY) -m compileall -qq -j 0 -x '$(UNUSED)' .venv/lib || true
	@touch $@
