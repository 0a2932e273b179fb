#!/usr/bin/env bash
# Does mixed precision train as well as float32? On the shapes, seed by seed.
#
#   bash tools/analysis/run_shapes_amp.sh [SEED...]              # default: 0 1 2
#   STEPS=200 bash tools/analysis/run_shapes_amp.sh 0            # the losses alone
#
# Trains into work_dirs/amp/{float32,DTYPE}/SEED, tests and compares: all losses have to
# be finite, and the mean mIoU of segmentation, LAM and CAM within a point. Six trainings
# of 6 to 8 minutes on two cores; with STEPS, a minute or two, in which all losses count
# from iteration 50 on.
#
# Settings, all optional:
#   DTYPE      bfloat16 (default), or float16 on a GPU
#   STEPS      iterations of each training; without a test
#   CONFIG     default: configs/more/more_vit-t_shapes.py
#   WORK_DIR   default: work_dirs/amp
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

DTYPE=${DTYPE:-bfloat16}
STEPS=${STEPS:-}
CONFIG=${CONFIG:-configs/more/more_vit-t_shapes.py}
WORK_DIR=${WORK_DIR:-work_dirs/amp}
if [ "$#" -eq 0 ]; then
    set -- 0 1 2
fi

bash tools/setup_env.sh
PYTHON=.venv/bin/python
"$PYTHON" tools/dataset_converters/make_shapes.py data/shapes

options=(default_hooks.logger.interval=1)
if [ -n "$STEPS" ]; then
    options+=(train_cfg.max_iters="$STEPS"
              model.losses.{ptc,cre,ure,seg,energy}.begin=49)
fi
for precision in float32 "$DTYPE"; do
    for seed in "$@"; do
        folder=$WORK_DIR/$precision/$seed
        rm -rf "$folder"  # another run's log would be mistaken for this one's
        if [ "$precision" = float32 ]; then
            amp=()
        else
            amp=(--amp)
        fi
        "$PYTHON" tools/train.py "$CONFIG" --work-dir "$folder" ${amp[@]+"${amp[@]}"} \
            --cfg-options randomness.seed="$seed" "${options[@]}" \
            ${amp[@]+optim_wrapper.dtype="$precision"}
        if [ -z "$STEPS" ]; then
            "$PYTHON" tools/test.py "$CONFIG" "$(cat "$folder/last_checkpoint")" \
                --work-dir "$folder" \
                --cfg-options test_evaluator.out_json="$folder/metrics.json"
        fi
    done
done
"$PYTHON" tools/analysis/compare_runs.py "$WORK_DIR/float32" "$WORK_DIR/$DTYPE" \
    ${STEPS:+--losses}
