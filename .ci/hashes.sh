#!/bin/sh
# Writes deploy/requirements: what the images install, each version with the hashes of its files. Versions are those of
# constraints.txt; what is not among them, the CUDA libraries of torch, is what uv finds. Needs uv: `make hashes`.
set -eu
compile() {
    out=deploy/requirements/$1.txt
    shift
    uv pip compile --quiet --constraint constraints.txt --generate-hashes --python-version 3.11 --python-platform linux \
        --no-header --no-annotate --output-file "$out" "$@"
}
echo setuptools | compile build -
compile env pyproject.toml --extra atari
compile cuda pyproject.toml --extra server
libraries=$(sed -n 's/^\(torch\|triton\|cuda-[a-z-]*\|nvidia-[a-z0-9-]*\)==.*/--no-emit-package \1/p' deploy/requirements/cuda.txt)
# shellcheck disable=SC2086  # options
compile server pyproject.toml --extra atari --extra server --extra dashboard $libraries
awk '/^[a-z]/ { wanted = /^(torch|triton|cuda-|nvidia-)/ } wanted' deploy/requirements/cuda.txt > deploy/requirements/cuda.tmp
mv deploy/requirements/cuda.tmp deploy/requirements/cuda.txt
