#!/bin/sh
# The steps of an image: a virtual environment of the pinned packages and the wheel of a checkout, and the kernels, compiled.
#
#   deploy/image.sh SOURCE INTO [OPTIONS OF PIP]
#
# NUMBA_CPU_NAME and NUMBA_CPU_FEATURES say for which processor kernels are compiled. PYTHON is the interpreter.
set -eu
source=$1 into=$2
shift 2
python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

install() { # into an environment, and nothing but what is named: the lock files name all
  environment=$1
  shift
  "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$@"
}

# The wheel is made in an environment of its own: what builds it is not in the image.
"$python" -m venv "$scratch/build"
install "$scratch/build" --require-hashes --only-binary :all: "$@" \
  -r "$source/requirements.lock" -r "$source/requirements-build.lock"
PATH="$scratch/build/bin:$PATH" "$scratch/build/bin/python" -m pip wheel --quiet --disable-pip-version-check \
  --no-deps --no-build-isolation --wheel-dir "$scratch" "$source"

"$python" -m venv "$into"
install "$into" --require-hashes --only-binary :all: "$@" \
  -r "$source/requirements.lock" -r "$source/requirements-training.lock"
install "$into" --no-index "$scratch"/feedmesh-*.whl
"$into/bin/python" -m services.ops.openmp
"$into/bin/python" -m pip uninstall --quiet --yes pip 2>/dev/null || true
"$into/bin/python" -m compileall -q "$into/lib"

XDG_CACHE_HOME="$scratch/cache" "$into/bin/feedmesh" kernels
mkdir -p "$into/kernels"
cp -R "$scratch/cache/feedmesh/kernels/." "$into/kernels"
chmod -R a+rX "$into"
