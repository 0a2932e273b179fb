#!/usr/bin/env bash
# Check the style of all code (ruff) and the types of the package (mypy), after the set-up if
# it is still needed. Both are configured in pyproject.toml.
#
#   bash tools/lint.sh          # report
#   bash tools/lint.sh --fix    # let ruff mend what it can first
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$ROOT/tools/setup_env.sh" --tests
cd "$ROOT"
PYTHON=.venv/bin/python

case "$*" in
    '') ;;
    --fix)
        "$PYTHON" -m ruff check --fix --quiet . || true
        "$PYTHON" -m ruff format --quiet .
        ;;
    *) printf 'usage: bash tools/lint.sh [--fix]\n' >&2; exit 2 ;;
esac

# all of them, so that one run shows everything
status=0
"$PYTHON" -m ruff check . || status=1
"$PYTHON" -m ruff format --check . || status=1
"$PYTHON" -m mypy || status=1
exit "$status"
