#!/bin/sh
# Print the first Python of one of the given versions that really runs and can make virtual environments:
#   tools/find_python.sh 3.12 3.11
# A command on the PATH may be a pyenv shim that only says "not found"; interpreters that pyenv and uv installed are on no PATH.
for version in "$@"; do
    for python in "python$version" python3 python \
        "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python \
        "$HOME/.local/share/uv/python/cpython-$version".*/bin/python3; do
        if "$python" -c "import ensurepip, sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" >/dev/null 2>&1; then
            "$python" -c "import sys; print(sys.executable)"
            exit 0
        fi
    done
done
exit 1
