#!/bin/sh
# The steps of an image: a virtual environment of the pinned packages and the wheel of a checkout, and the kernels, compiled.
#
#   deploy/image.sh SOURCE INTO
#
# NUMBA_CPU_NAME and NUMBA_CPU_FEATURES say for which processor kernels are compiled. PYTHON is the interpreter. An environment that
# is there already, with its packages, is used as it is, and so is a WHEEL that is named.
set -eu
source=$1 into=$2 python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

packages() { # of lock files into a new environment: by their hashes, nothing but what they name, and none is built here
  "$python" -m venv --without-pip "$1"
  of=$1
  shift
  "$python" -m pip --python "$of/bin/python" install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: "$@"
}

if [ -z "${WHEEL:-}" ]; then # in an environment of its own: what builds it is not in the image
  packages "$scratch/build" -r "$source/requirements.lock" -r "$source/requirements-build.lock"
  PATH="$scratch/build/bin:$PATH" "$python" -m pip --python "$scratch/build/bin/python" wheel --quiet --disable-pip-version-check \
    --no-deps --no-build-isolation --wheel-dir "$scratch" "$source"
  WHEEL=$(ls "$scratch"/feedmesh-*.whl)
fi
[ -x "$into/bin/python" ] || packages "$into" -r "$source/requirements.lock" -r "$source/requirements-training.lock" -r "$source/requirements-cluster.lock"
"$python" -m pip --python "$into/bin/python" install --quiet --disable-pip-version-check --no-deps --no-index "$WHEEL"
"$into/bin/python" -m services.ops.openmp

XDG_CACHE_HOME="$scratch/cache" "$into/bin/feedmesh" kernels
mkdir -p "$into/kernels"
cp -R "$scratch/cache/feedmesh/kernels/." "$into/kernels"
chmod -R a+rX "$into"
