#!/usr/bin/env bash
# All that a GPU can show of this package, within 8 minutes:
#
#   bash benchmarks/gpu.sh OUT
#
# from the project's root, in an environment in which its tests run. OUT gets
#   summary.txt          a line per part: exit status, seconds, last line of its output
#   gpu.json, gpu.md     rates, training step, maps and masks (benchmarks/gpu.py)
#   demo.json            metrics of the shapes demo, trained and validated on the GPU
#   logs.tar.gz          the output of each part
# First the measurements, alone; then, side by side, the tests with a GPU in sight, the
# reference figures computed on it, and the demo. A part that fails stops no other.
#
# Settings, all optional:
#   PYTHON     interpreter (default: python3)
#   DEVICE     default: cuda; cpu is for trying this script out
#   MEASURE    arguments of benchmarks/gpu.py (default: the ViT-B of VOC at 448 pixels)
#   TESTS      arguments of pytest (default: -n 6 -m "not slow")
#   GOLDEN     files with reference figures (default: all)
#   DRAW       arguments of make_shapes.py, DEMO settings of the demo's config
#              (default: none, the whole demo)
#   LIMIT      seconds for the measurements, and for what follows (default: 270 180)
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ $# -ne 1 ]; then
    sed -n '2,25p' "${BASH_SOURCE[0]}"
    exit 2
fi
OUT=$(mkdir -p "$1" && cd "$1" && pwd)
PYTHON=${PYTHON:-python3}
DEVICE=${DEVICE:-cuda}
MEASURE=${MEASURE:-configs/more/more_vit-b_voc.py --size 448}
TESTS=${TESTS:--n 6 -p no:benchmark -m "not slow"}
GOLDEN=${GOLDEN:-tests/test_models/test_golden_steps.py
    tests/test_models/test_golden_inference.py tests/test_models/test_category_graph.py
    tests/test_models/test_losses/test_golden_losses.py
    tests/test_localization/test_golden_ops.py}
read -r MEASURE_LIMIT REST_LIMIT <<<"${LIMIT:-270 180}"
LOGS=$(mktemp -d)
SCRATCH=$(mktemp -d)
trap 'rm -rf "$LOGS" "$SCRATCH"' EXIT
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
[ "$DEVICE" = cpu ] || export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0}

part() {  # NAME SECONDS COMMAND...: run it, say how it ended
    local name=$1 limit=$2 start=$SECONDS status
    shift 2
    timeout "$limit" "$@" >"$LOGS/$name.log" 2>&1
    status=$?
    printf '%s: exit %d after %d s: %s\n' "$name" "$status" $((SECONDS - start)) \
        "$(tail -n 1 "$LOGS/$name.log" | cut -c1-200)" | tee -a "$OUT/summary.txt"
}

rm -f "$OUT/summary.txt"
nvidia-smi >"$LOGS/nvidia-smi.log" 2>&1
read -ra measure <<<"$MEASURE"
part measurements "$MEASURE_LIMIT" "$PYTHON" benchmarks/gpu.py "${measure[@]}" \
    --device "$DEVICE" --out "$OUT"
rm -f "$OUT/trace.json"

eval "tests=($TESTS)"
read -ra golden <<<"${GOLDEN//$'\n'/ }"
read -ra draw <<<"${DRAW:-}"
read -ra demo <<<"${DEMO:-}"
export OMP_NUM_THREADS=2
part tests "$REST_LIMIT" "$PYTHON" -m pytest -q -p no:cacheprovider "${tests[@]}" &
MMSEG_MORE_TEST_DEVICE=$DEVICE part reference-figures "$REST_LIMIT" \
    "$PYTHON" -m pytest -q -p no:cacheprovider "${golden[@]}" &
part gpu-tests "$REST_LIMIT" "$PYTHON" -m pytest -q -rs -p no:cacheprovider tests/test_cuda.py &
{
    part drawing "$REST_LIMIT" "$PYTHON" tools/dataset_converters/make_shapes.py "$SCRATCH/shapes" \
        "${draw[@]}"
    part demo "$REST_LIMIT" "$PYTHON" tools/train.py configs/more/more_vit-t_shapes.py \
        --work-dir "$SCRATCH/demo" --cfg-options \
        train_dataloader.dataset.data_root="$SCRATCH/shapes" \
        val_dataloader.dataset.data_root="$SCRATCH/shapes" \
        test_dataloader.dataset.data_root="$SCRATCH/shapes" \
        val_evaluator.out_json="$OUT/demo.json" "${demo[@]}"
} &
wait
tar czf "$OUT/logs.tar.gz" -C "$LOGS" .
echo "written: $OUT/summary.txt, gpu.md, gpu.json, demo.json, logs.tar.gz"
