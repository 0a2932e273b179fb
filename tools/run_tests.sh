#!/usr/bin/env bash
# Run the tests, after the set-up if it is still needed. Arguments go to pytest:
#
#   bash tools/run_tests.sh                      # everything
#   bash tools/run_tests.sh -m "not slow"        # the quick ones
#   bash tools/run_tests.sh tests/test_models -k lam
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$ROOT/tools/setup_env.sh" --tests
cd "$ROOT"
# One thread each in the workers that some tests start; the tests' own process sets two
# (tests/conftest.py). More of them than cores make small tensors many times slower.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec .venv/bin/python -m pytest -q --durations=15 "$@"
