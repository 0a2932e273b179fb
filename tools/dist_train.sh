#!/usr/bin/env bash
# tools/train.py on several GPUs, with MMSegmentation's arguments and variables:
#
#   bash tools/dist_train.sh CONFIG GPUS [OPTIONS of tools/train.py]
#
# On several machines, the same on each: NNODES, NODE_RANK, MASTER_ADDR, PORT.
set -euo pipefail
if (( $# < 2 )); then
    echo "usage: $0 CONFIG GPUS [OPTIONS]" >&2
    exit 2
fi
exec torchrun \
    --nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}" \
    --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}" \
    --nproc_per_node "$2" \
    "$(dirname "$0")/train.py" "$1" --launcher pytorch "${@:3}"
