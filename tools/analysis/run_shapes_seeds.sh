#!/usr/bin/env bash
# The table of the README: MoRe and the baseline on the shapes, three seeds each.
#
#   bash tools/analysis/run_shapes_seeds.sh [SEED...]     # default: 0 1 2
#
# Runs tools/demo.sh once per config and seed (about an hour on two cores) into
# work_dirs/shapes/CONFIG/SEED and prints the figures with their means.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [ "$#" -eq 0 ]; then
    set -- 0 1 2
fi
for config in more_vit-t_shapes more_vit-t_shapes_baseline; do
    files=()
    for seed in "$@"; do
        SEED=$seed CONFIG=configs/more/$config.py \
            WORK_DIR=work_dirs/shapes/$config/$seed bash tools/demo.sh
        files+=("work_dirs/shapes/$config/$seed/metrics.json")
    done
    printf '\n%s\n' "$config"
    .venv/bin/python tools/analysis/print_metrics.py "${files[@]}"
done
