# Sourced by run.sh and test.sh: a .venv with exactly the locked packages of the files given.

find_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11 python; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "Python 3.11 or newer is needed and was not found." >&2
    exit 1
}

# The version of the .venv's Python. Fails without one, and without pip: half made, or made for a Python that was replaced.
venv_version() {
    .venv/bin/python -c 'import pip, sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

# Installs only when a file, or Python, changed since the last time: an unchanged start costs next to nothing.
ensure_venv() {
    if ! version=$(venv_version); then
        if [ -L .venv ] || { [ -f .venv/pyvenv.cfg ] && grep -q '^uv = ' .venv/pyvenv.cfg; }; then
            echo ".venv has no pip, and was not made here. Take it away, or install pip in it." >&2
            exit 1
        fi
        "$(find_python)" -m venv --clear .venv
        version=$(venv_version)
    fi
    for file in "$@"; do
        stamp=".venv/installed-$version-$file"
        if ! cmp -s "$file" "$stamp"; then
            echo "Installing $file (once) ..."
            .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$file"
            cp "$file" "$stamp"
        fi
    done
}
