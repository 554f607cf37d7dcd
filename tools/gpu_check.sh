#!/usr/bin/env bash
# On a machine with CUDA: the tests that need it, then one update of each learner on the processor and on the card.
# Under eight minutes. PYTHON names the interpreter (default: the one in .venv).
set -uo pipefail
cd "$(dirname "$0")/.."
export PYTHON=${PYTHON:-.venv/bin/python} OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
"$PYTHON" -m pytest -q -p no:cacheprovider --noconftest tests/test_cuda.py
failed=$?
"$PYTHON" tools/gpu_times.py || failed=1
exit $failed
