#!/bin/sh
# Builds Argon2's bindings for the processor of this machine, in place of the wheel that fits every one. Never done by itself.
# The arguments are the pip to do it with: `tools/fast_argon2.sh .venv/bin/python -m pip`. Needs a C compiler. The source is
# that of the lock, by its hash; the tools that build it (CMake, Ninja) are not locked.
set -eu
here=$(dirname "$0")
lock=$here/requirements.txt # beside it in the image, above it in the repository
[ -f "$lock" ] || lock=$here/../requirements.txt
wanted=$(mktemp)
trap 'rm -f "$wanted"' EXIT
sed -n '/^argon2-cffi-bindings==/,/[^\\]$/p' "$lock" >"$wanted"
CFLAGS="-O3 -march=native" "$@" install --quiet --force-reinstall --no-deps --no-cache-dir \
    --no-binary argon2-cffi-bindings --require-hashes -r "$wanted"
