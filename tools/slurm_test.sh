#!/usr/bin/env bash
# tools/test.py in a Slurm job, with MMSegmentation's arguments and variables:
#
#   bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [OPTIONS of tools/test.py]
#
# GPUS (4), GPUS_PER_NODE (4), CPUS_PER_TASK (5), SRUN_ARGS (none).
set -euo pipefail
if (( $# < 4 )); then
    echo "usage: $0 PARTITION JOB_NAME CONFIG CHECKPOINT [OPTIONS]" >&2
    exit 2
fi
# SRUN_ARGS are several words
# shellcheck disable=SC2086
exec srun -p "$1" --job-name "$2" \
    --gres "gpu:${GPUS_PER_NODE:-4}" --ntasks "${GPUS:-4}" \
    --ntasks-per-node "${GPUS_PER_NODE:-4}" --cpus-per-task "${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    python -u "$(dirname "$0")/test.py" "$3" "$4" --launcher slurm "${@:5}"
