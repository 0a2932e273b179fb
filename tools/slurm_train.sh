#!/usr/bin/env bash
# tools/train.py in a Slurm job, with MMSegmentation's arguments and variables:
#
#   bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [OPTIONS of tools/train.py]
#
# GPUS (4), GPUS_PER_NODE (4), CPUS_PER_TASK (5), SRUN_ARGS (none).
set -euo pipefail
if (( $# < 3 )); then
    echo "usage: $0 PARTITION JOB_NAME CONFIG [OPTIONS]" >&2
    exit 2
fi
# SRUN_ARGS are several words
# shellcheck disable=SC2086
exec srun -p "$1" --job-name "$2" \
    --gres "gpu:${GPUS_PER_NODE:-4}" --ntasks "${GPUS:-4}" \
    --ntasks-per-node "${GPUS_PER_NODE:-4}" --cpus-per-task "${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    python -u "$(dirname "$0")/train.py" "$3" --launcher slurm "${@:4}"
