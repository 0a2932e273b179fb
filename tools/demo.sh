#!/usr/bin/env bash
# See MoRe learn segmentation from image labels, on a machine without a GPU.
#
#   bash tools/demo.sh
#
# Sets up .venv, draws a data set of 1200 images, trains on the image labels of 1000,
# evaluates on the masks of 200 and leaves in work_dirs/demo the checkpoint, the log,
# metrics.json and grid.png.
#
# Settings, all optional:
#   SEED       seed of the training (default: 0); the data are always the same
#   CONFIG     default: configs/more/more_vit-t_shapes.py
#   WORK_DIR   default: work_dirs/demo
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

SEED=${SEED:-0}
CONFIG=${CONFIG:-configs/more/more_vit-t_shapes.py}
WORK_DIR=${WORK_DIR:-work_dirs/demo}

bash tools/setup_env.sh
PYTHON=.venv/bin/python
START=$SECONDS

say() { printf '\n[demo %3ds] %s\n' "$((SECONDS - START))" "$*"; }

say "drawing data/shapes"
"$PYTHON" tools/dataset_converters/make_shapes.py data/shapes

# Results of another run would be mistaken for this one's.
rm -rf "$WORK_DIR"/{metrics.json,grid.png,last_checkpoint} "$WORK_DIR"/*.pth
say "training $CONFIG with seed $SEED on image labels (4 to 6 minutes on two cores)"
"$PYTHON" tools/train.py "$CONFIG" --work-dir "$WORK_DIR" \
    --cfg-options randomness.seed="$SEED"

CHECKPOINT=$(cat "$WORK_DIR/last_checkpoint")
say "evaluating $CHECKPOINT on the masks of the validation set"
"$PYTHON" tools/test.py "$CONFIG" "$CHECKPOINT" --work-dir "$WORK_DIR" \
    --cfg-options test_evaluator.out_json="$WORK_DIR/metrics.json"

say "drawing $WORK_DIR/grid.png"
"$PYTHON" tools/analysis/draw_grid.py "$CONFIG" "$CHECKPOINT" "$WORK_DIR/grid.png"

say "done; results of $WORK_DIR/metrics.json, in percent:"
"$PYTHON" tools/analysis/print_metrics.py "$WORK_DIR/metrics.json"
