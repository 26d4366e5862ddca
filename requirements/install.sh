#!/bin/sh
# Makes the virtual environment that the Makefile uses, or brings it up to date.
#
#   requirements/install.sh [.venv]
#
# TORCH=cpu|cuda chooses the build of torch; unset, the machine decides (see choose_torch).
set -eu

venv=${1:-.venv}
root=$(cd "$(dirname "$0")/.." && pwd)
constraints=$root/requirements/constraints.txt
cpu_index=https://download.pytorch.org/whl/cpu

fail() {
    echo "install: $1" >&2
    exit 1
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "expected Python 3.11 or newer and found none; install one, or name it: make PYTHON=..."
}

has_gpu() {
    command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU'
}

reaches_cpu_index() {
    "$venv/bin/python" -c "import urllib.request as r; r.urlopen('$cpu_index/torch/', timeout=10)" \
        2>/dev/null
}

# The default index has CUDA builds of several GB: right with a GPU, and harmless on macOS, where
# they do not exist. Elsewhere PyTorch's own index has the small build; where that cannot be
# reached, the configured index must do.
choose_torch() {
    case ${TORCH:-} in
        cpu | cuda) echo "$TORCH" && return ;;
        '') ;;
        *) fail "expected TORCH=cpu or TORCH=cuda, got TORCH=$TORCH" ;;
    esac
    if has_gpu || [ "$(uname)" = Darwin ]; then echo cuda
    elif reaches_cpu_index; then echo cpu
    else echo configured
    fi
}

python=$(find_python)
# Also where an earlier try left one without pip.
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "install: making $venv with $("$python" --version)"
    "$python" -m venv "$venv" ||
        fail "Python's venv module is missing; on Debian and Ubuntu: apt install python3-venv"
fi

pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

build=$(choose_torch)
echo "install: torch ($build)"
# Before all that depends on it, which would bring the default build along.
if [ "$build" = cpu ]; then
    pip install --quiet --constraint "$constraints" torch --index-url "$cpu_index"
else
    pip install --quiet --constraint "$constraints" torch
fi
echo "install: everything else"
pip install --quiet --constraint "$constraints" --editable "$root[train,postgres,plot,data,docs,dev,otel]"
pip check
