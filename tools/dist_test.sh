#!/usr/bin/env bash
# tools/test.py on several GPUs, with MMSegmentation's arguments and variables:
#
#   bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [OPTIONS of tools/test.py]
#
# On several machines, the same on each: NNODES, NODE_RANK, MASTER_ADDR, PORT.
set -euo pipefail
if (( $# < 3 )); then
    echo "usage: $0 CONFIG CHECKPOINT GPUS [OPTIONS]" >&2
    exit 2
fi
exec torchrun \
    --nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}" \
    --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}" \
    --nproc_per_node "$3" \
    "$(dirname "$0")/test.py" "$1" "$2" --launcher pytorch "${@:4}"
