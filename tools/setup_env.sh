#!/usr/bin/env bash
# Create .venv in this checkout with everything that training and the demo need.
#
#   bash tools/setup_env.sh            # to train, test, infer; the demo
#   bash tools/setup_env.sh --tests    # what tests and checks need as well
#
# The third-party packages (about 5.5 GB) are installed once per machine, in a folder that
# every checkout with the same requirements shares; what the tests need on top of them lies
# in a folder of its own beside them. .venv refers to both and holds this project alone. What
# is finished is not done again, what was interrupted starts over. What nothing here needs,
# such as mim, comes by .venv/bin/python -m pip install -r requirements/mim.txt.
#
# Settings, all optional:
#   PYTHON               the interpreter (default: python3.11 where there is one, else python3)
#   MMSEG_MORE_ENV_DIR   where the shared packages go (default: ~/.cache/mmseg_more)
#   TORCH_INDEX_URL      package index to take torch and torchvision from, for example
#                        https://download.pytorch.org/whl/cpu for a smaller CPU-only build
# pip's own settings (PIP_* variables, pip.conf) apply as usual.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
WITH_TESTS=
case "$*" in
    '') ;;
    --tests) WITH_TESTS=1 ;;
    *) printf 'usage: bash tools/setup_env.sh [--tests]\n' >&2; exit 2 ;;
esac
CACHE_HOME=${XDG_CACHE_HOME:-$HOME/.cache}
ENV_DIR=${MMSEG_MORE_ENV_DIR:-$CACHE_HOME/mmseg_more}
START=$SECONDS

say() { printf '[setup %3ds] %s\n' "$((SECONDS - START))" "$*"; }
die() { printf '[setup] error: %s\n' "$*" >&2; exit 1; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3}; do
        # running it, not `command -v`: a version manager's shim may lead nowhere
        if "$candidate" -c '' 2>/dev/null; then
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
                die "$candidate is $("$candidate" -V 2>&1), 3.10 or newer is needed." \
                    "Set PYTHON=/path/to/python3.11."
            "$candidate" -c 'import ensurepip, venv' 2>/dev/null ||
                die "$candidate has no venv module. Install it (Debian and Ubuntu:" \
                    "apt install python3-venv) or set PYTHON to another interpreter."
            printf '%s' "$candidate"
            return
        fi
    done
    die "no working Python among: ${PYTHON:-python3.11 python3}." \
        "Install Python 3.11 or set PYTHON=/path/to/python3."
}

# checksum of the standard input; sha256sum is not on every system, Python is
checksum() {
    "$PYTHON_BIN" -c 'import hashlib, sys
print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:12])'
}

# with_lock FILE COMMAND...: one at a time on this machine, where flock exists
with_lock() {
    local file=$1
    shift
    if command -v flock >/dev/null; then
        (
            flock -n 9 || { say "another set-up is at work, waiting for it"; flock 9; }
            "$@"
        ) 9>"$file"
    else
        "$@"
    fi
}

# step MESSAGE COMMAND...: output goes to the log, its end is shown on failure
step() {
    say "$1"
    shift
    "$@" >>"$LOG" 2>&1 || {
        tail -n 30 "$LOG" >&2
        die "this failed: $*
[setup] the full log is $LOG. Run the same command again when it is remedied."
    }
}

install_packages() {
    # the other of two that started together has finished it in the meantime
    [ -e "$SHARED/.complete" ] && return
    rm -rf "$SHARED" "$TESTS"
    local free_gb
    free_gb=$(df -Pk "$ENV_DIR" | awk 'NR == 2 {print int($4 / 1048576)}')
    [ "$free_gb" -ge 7 ] ||
        say "only $free_gb GB are free in $ENV_DIR; 7 are needed unless torch is CPU-only"
    LOG=$ENV_DIR/$(basename "$SHARED").log
    : >"$LOG"
    say "packages go to $SHARED, pip's output to $LOG"
    step "creating the environment" "$PYTHON_BIN" -m venv "$SHARED"
    local pip=("$SHARED/bin/python" -m pip --no-input install --progress-bar off)
    local requirements=$ROOT/requirements
    # torch first and together with torchvision, so that they are of one release
    step "installing torch and torchvision (1 to 3 minutes)" \
        "${pip[@]}" ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} \
        $(grep -E '^torch' "$requirements/runtime.txt")
    "$SHARED/bin/python" -m pip freeze | grep -E '^torch' >"$SHARED/torch.txt"
    step "installing the OpenMMLab packages and the rest (1 to 2 minutes)" \
        "${pip[@]}" -c "$SHARED/torch.txt" -r "$requirements/runtime.txt" \
        -r "$requirements/mminstall.txt" -r "$requirements/lite.txt"
    step "checking torch against torchvision (they must come from the same index)" \
        "$SHARED/bin/python" -c 'import torchvision; torchvision.ops.nms'
    step "checking OpenCV and the dense CRF" \
        "$SHARED/bin/python" -c 'import cv2, sys
if sys.version_info < (3, 13): import pydensecrf.densecrf'
    touch "$SHARED/.complete"
}

# What tests need goes into an environment of its own, which sees the shared packages and
# installs nothing that is there already.
install_test_packages() {
    [ -e "$TESTS/.complete" ] && return
    rm -rf "$TESTS"
    LOG=$TESTS.log
    : >"$LOG"
    step "creating the environment of the tests" "$PYTHON_BIN" -m venv --without-pip "$TESTS"
    refer "$TESTS" "$SHARED" _shared_packages
    "$SHARED/bin/python" -m pip freeze >"$TESTS/constraints.txt"
    step "installing what the tests need (half a minute)" "$TESTS/bin/python" -m pip \
        --no-input install --progress-bar off -c "$TESTS/constraints.txt" \
        -r "$ROOT/requirements/tests.txt" -r "$ROOT/requirements/deploy.txt" \
        -r "$ROOT/requirements/coco.txt" -r "$ROOT/requirements/backbones.txt"
    touch "$TESTS/.complete"
}

# refer FROM TO NAME: let the environment FROM see the packages of the environment TO
refer() {
    local paths='import sysconfig; print(sysconfig.get_path("purelib"))' other
    other=$("$2/bin/python" -c "$paths")
    # addsitedir, not the bare path: the .pth files in there are read as well
    printf 'import site; site.addsitedir(%s)\n' \
        "$("$PYTHON_BIN" -c 'import sys; print(ascii(sys.argv[1]))' "$other")" \
        >"$("$1/bin/python" -c "$paths")/$3.pth"
}

# Scripts of a shared environment (mim, torchrun, pytest, ...), run with .venv's Python
link_scripts() {
    local script name
    for script in "$1"/bin/*; do
        name=$(basename "$script")
        if [ -e "$VENV/bin/$name" ] || ! head -c 2 "$script" | grep -q '^#!' ||
            ! head -n 1 "$script" | grep -q python; then
            continue
        fi
        # a path in #! may be too long: the shell reads line 2 as exec, Python as a string
        {
            printf '#!/bin/sh\n'
            printf "'''exec' \"%s\" \"\$0\" \"\$@\"\n' '''\n" "$VENV/bin/python"
            tail -n +2 "$script"
        } >"$VENV/bin/$name"
        chmod +x "$VENV/bin/$name"
    done
}

create_venv() {
    [ "$(cat "$MARK" 2>/dev/null)" = "$STAMP" ] && return
    if [ -e "$VENV" ] && [ ! -e "$MARK" ]; then
        die "$VENV exists and is not this script's. Move it away and run again."
    fi
    rm -rf "$VENV"
    mkdir "$VENV"
    # left empty, and thus out of date, until everything below is done
    : >"$MARK"
    LOG=$VENV/setup.log
    : >"$LOG"
    step "creating .venv" "$PYTHON_BIN" -m venv --without-pip "$VENV"
    refer "$VENV" "$SHARED" _shared_packages
    link_scripts "$SHARED"
    step "installing this project, editable" "$VENV/bin/python" -m pip --no-input install \
        --no-deps --no-build-isolation -e "$ROOT"
    step "checking that everything registers" "$VENV/bin/python" -c 'import mmseg_more'
    printf '%s\n' "$STAMP" >"$MARK"
    say "ready: $VENV"
}

add_tests() {
    [ "$(cat "$TESTS_MARK" 2>/dev/null)" = "$TESTS" ] && return
    refer "$VENV" "$TESTS" _test_packages
    link_scripts "$TESTS"
    printf '%s\n' "$TESTS" >"$TESTS_MARK"
    say "ready for tests and checks"
}

PYTHON_BIN=$(find_python)
PLATFORM=$("$PYTHON_BIN" -c 'import platform, sys
print(sys.implementation.cache_tag, platform.system(), platform.machine())')
# requirements NAME...: the lines of files of requirements/, without comments
requirements() {
    local name
    for name in "$@"; do
        sed 's/#.*//' "$ROOT/requirements/$name.txt" | grep .
    done
}
SHARED=$ENV_DIR/env-$({
    requirements runtime mminstall lite
    echo "$PLATFORM ${TORCH_INDEX_URL:-}"
} | checksum)
TESTS=$SHARED-tests-$(requirements tests deploy coco backbones | checksum)
MARK=$VENV/.made-by-setup_env
TESTS_MARK=$VENV/.with-tests
STAMP="$ROOT $SHARED $(cat "$ROOT/setup.py" "$ROOT/pyproject.toml" \
    "$ROOT/mmseg_more/version.py" | checksum)"

if [ ! -e "$SHARED/.complete" ]; then
    mkdir -p "$ENV_DIR"
    with_lock "$SHARED.lock" install_packages
fi
if [ "$(cat "$MARK" 2>/dev/null)" != "$STAMP" ]; then
    with_lock "$ROOT/.venv.lock" create_venv
fi
[ -n "$WITH_TESTS" ] || exit 0
if [ ! -e "$TESTS/.complete" ]; then
    with_lock "$SHARED.lock" install_test_packages
fi
if [ "$(cat "$TESTS_MARK" 2>/dev/null)" != "$TESTS" ]; then
    with_lock "$ROOT/.venv.lock" add_tests
fi
