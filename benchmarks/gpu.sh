#!/usr/bin/env bash
# What scoring does on a GPU: runs gpu/run.py on a machine that has one, for at most ten minutes.
#
#     bash benchmarks/gpu.sh --prepare          # first, on a machine with a network
#     bash benchmarks/gpu.sh OUT.json           # on the machine with the GPU, which needs none
#     bash benchmarks/gpu.sh OUT.json --toy     # tiny sizes on the CPU, anywhere
#
# The GPU's machine must have torch, transformers, accelerate, pandas and pyarrow. --prepare brings
# what else is imported, as wheels for its Python (PYTHON_VERSION, by default 3.12, on x86-64).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
wheels=$root/benchmarks/wheels

if [ "${1:-}" = --prepare ]; then
	mapfile -t packages < <(grep -E '^(duckdb|pebble)==' "$root/requirements.txt")
	platforms=()
	for name in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014; do
		platforms+=(--platform "${name}_x86_64")
	done
	rm -rf "$wheels"
	"$python" -m pip download -q --no-deps --only-binary=:all: -d "$wheels" --implementation cp \
		--python-version "${PYTHON_VERSION:-3.12}" "${platforms[@]}" "${packages[@]}"
	du -sh "$wheels"
	exit
fi

export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
if ! "$python" -c 'import duckdb, pebble' 2>/dev/null; then
	if [ ! -d "$wheels" ]; then
		echo "duckdb and pebble are not installed, and $wheels is missing; where there is a network," \
			"run: bash benchmarks/gpu.sh --prepare" >&2
		exit 1
	fi
	site=$(mktemp -d)
	trap 'rm -rf "$site"' EXIT
	"$python" -m pip install -q --no-index --no-deps --target "$site" "$wheels"/*.whl
	PYTHONPATH=$PYTHONPATH:$site
fi
"$python" -m benchmarks.gpu.run "$@"
