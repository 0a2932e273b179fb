#!/usr/bin/env bash
# Install the package with other versions of what it needs, each in an environment of its own,
# run the quick tests there, and write one table (docs/stacks.md).
#
#   bash tools/analysis/stack_matrix.sh FOLDER                        # every stack
#   bash tools/analysis/stack_matrix.sh FOLDER floor-3.10 onedl-3.12  # these
#   bash tools/analysis/stack_matrix.sh FOLDER onedl-3.12 -- tests/test_compat.py -x
#
# FOLDER/matrix.md has a row for each stack that was ever run with this folder, FOLDER/NAME.log
# what pip and pytest said. What follows -- goes to pytest beside -m "not slow". A stack takes
# about 6 GB while it is at work and is removed afterwards; the exit status is 1 where an
# installation or a test failed. The package is copied (what git tracks, and new files), so that
# the checkout stays as it is.
#
# Settings, all optional:
#   KEEP=1   leave the environments in FOLDER/NAME; what is there is not installed again
# Python is taken from the PATH (python3.12, say) or from ~/.pyenv/versions. pip's own settings
# (PIP_* variables, pip.conf) apply as usual.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# name, Python, extra of setup.py, then what pip is given in addition
STACKS='
floor-3.10   3.10 lite  torch==2.6.* torchvision==0.21.* numpy==1.26.*
floor-3.12   3.12 lite  torch==2.6.* torchvision==0.21.* numpy==1.26.*
newest-3.10  3.10 lite  numpy>=2
numpy1-3.11  3.11 lite  numpy==1.26.*
newest-3.11  3.11 lite  numpy>=2
newest-3.12  3.12 lite  numpy>=2
newest-3.13  3.13 lite  numpy>=2
onedl-3.10   3.10 onedl numpy>=2
onedl-3.11   3.11 onedl numpy>=2
onedl-3.12   3.12 onedl numpy>=2
onedl-3.13   3.13 onedl numpy>=2
onedl-floor  3.11 onedl torch==2.6.* torchvision==0.21.* numpy>=2
onedl-numpy1 3.12 onedl numpy==1.26.*
'
NAMES=$(awk 'NF {print $1}' <<<"$STACKS")

say() { printf '[stacks %s] %s\n' "$(date -u +%H:%M:%S)" "$*"; }
die() { printf '[stacks] error: %s\n' "$*" >&2; exit 2; }

find_python() {
    local candidate
    for candidate in "python$1" "$HOME/.pyenv/versions/$1".*/bin/python; do
        # running it, not `command -v`: a version manager's shim may lead nowhere
        if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            printf '%s' "$candidate"
            return
        fi
    done
    return 1
}

# versions PYTHON: the cells of the table that say what is installed
versions() {
    "$1" - <<'END'
import platform
from importlib.metadata import PackageNotFoundError, version


def installed(*names):
    found = []
    for name in names:
        try:
            found.append(f'{name} {version(name)}')
        except PackageNotFoundError:
            pass
    return ', '.join(found)


parts = ('mmengine', 'mmcv', 'mmcv-lite', 'mmsegmentation', 'mmpretrain')
print(
    platform.python_version(),
    version('torch'),
    version('numpy'),
    version('setuptools'),
    installed(*parts, *(f'onedl-{part}' for part in parts)),
    sep=' | ',
)
END
}

# cell TEXT: one line without the sign that ends a cell
cell() { tr -s '\n|' '  ' <<<"$1" | cut -c 1-300; }

# run_stack NAME: install and test one stack, and write its row
run_stack() {
    local name=$1 python extra extras result cells='– | – | – | – | –'
    read -r _ python extra extras < <(awk -v name="$name" '$1 == name' <<<"$STACKS")
    local environment=$FOLDER/$name log=$FOLDER/$name.log
    : >"$log"
    if ! install_stack "$environment" "$python" "$extra" "$extras" >>"$log" 2>&1; then
        # what pip says first is the cause, and "Failed building" comes amid other output
        result=$(grep -oE '(ERROR: (Failed|No matching|Cannot|Could)|\[stacks\]).*' "$log" |
            head -n 1)
        result="not installed: ${result:-$(tail -n 1 "$log")}"
    else
        cells=$(versions "$environment/bin/python")
        say "$name: testing ($cells)"
        (
            cd "$environment/source"
            OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" "$environment/bin/python" -m pytest -q \
                -p no:cacheprovider -m 'not slow' "${PYTEST[@]}"
        ) >>"$log" 2>&1 || true
        # pytest's last line; without one it did not get to its end
        result=$(grep -E '^(=+ )?([0-9]+ (passed|failed|skipped|deselected|error)|no tests)' \
            "$log" | tail -n 1)
        result=${result:-"stopped: $(tail -n 1 "$log")"}
    fi
    result=$(cell "$result")
    printf '| %s | %s | %s | %s |\n' "$name" "$cells" "$result" "$(date -u +%F)" \
        >"$FOLDER/$name.row"
    [ -n "${KEEP:-}" ] || rm -rf "$environment"
    say "$name: $result"
    [[ $result =~ ^[0-9]+\ passed && ! $result =~ failed|error ]]
}

install_stack() {
    local environment=$1 python=$2 extra=$3 interpreter wanted
    read -ra wanted <<<"$4"
    if [ -e "$environment/.complete" ]; then
        copy_package "$environment/source"
        return
    fi
    rm -rf "$environment"
    interpreter=$(find_python "$python") || {
        echo "[stacks] no Python $python is on the PATH or in ~/.pyenv/versions"
        return 1
    }
    "$interpreter" -m venv "$environment" || return 1
    copy_package "$environment/source" || return 1
    local pip=("$environment/bin/python" -m pip --no-input)
    "${pip[@]}" install --upgrade pip || return 1
    # all in one call, so that pip finds versions that fit each other
    "${pip[@]}" install --progress-bar off torch torchvision 'setuptools>=77.0.3' \
        "${wanted[@]}" -e "$environment/source[$extra,tests]" || return 1
    touch "$environment/.complete"
}

# copy_package FOLDER: what git tracks and new files; what was built there stays
copy_package() {
    mkdir -p "$1"
    git -C "$ROOT" ls-files -z --cached --others --exclude-standard |
        tar -C "$ROOT" --null -T - --ignore-failed-read -c | tar -C "$1" -x
}

write_table() {
    {
        printf '| stack | Python | torch | numpy | setuptools | OpenMMLab packages |'
        printf ' quick tests | date |\n|---|---|---|---|---|---|---|---|\n'
        local name
        for name in $NAMES; do
            [ ! -e "$FOLDER/$name.row" ] || cat "$FOLDER/$name.row"
        done
    } >"$FOLDER/matrix.md"
}

[ $# -gt 0 ] || die "usage: bash tools/analysis/stack_matrix.sh FOLDER [STACK...] [-- PYTEST...]"
mkdir -p "$1"
FOLDER=$(cd "$1" && pwd)
shift
WANTED=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    grep -qxF -e "$1" <<<"$NAMES" || die "there is no stack $1; there are ${NAMES//$'\n'/ }"
    WANTED+=("$1")
    shift
done
PYTEST=("${@:2}")
[ ${#WANTED[@]} -gt 0 ] || read -ra WANTED <<<"${NAMES//$'\n'/ }"

status=0
for stack in "${WANTED[@]}"; do
    say "$stack: installing"
    run_stack "$stack" || status=1
    write_table
done
cat "$FOLDER/matrix.md"
exit "$status"
