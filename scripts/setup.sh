#!/usr/bin/env bash
# Prepares all that `.venv/bin/fulltape`, its tests and its benchmarks need; `make setup` calls it.
# Quick and silent where nothing has changed. System packages are installed where this is root on Debian or Ubuntu;
# elsewhere a line says what to install. PYTHON names another interpreter than python3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}

say() { printf 'setup: %s\n' "$*" >&2; }

fail() {
  printf 'setup: error: %s\n' "$*" >&2
  exit 1
}

# Install system packages, or say which: install WHAT-FOR MACOS-MEND PACKAGE...
install() {
  local purpose=$1 macos=$2
  shift 2
  if [[ $(uname) == Darwin ]]; then
    fail "$purpose: $macos, then start again"
  elif ! command -v apt-get >/dev/null; then
    fail "$purpose: install what Debian calls $* with this system's package manager, then start again"
  elif [[ $(id -u) -ne 0 ]]; then
    fail "$purpose: sudo apt-get install $*, then start again"
  fi
  say "$purpose: installing $* with apt-get"
  [[ -n ${apt_updated:-} ]] || apt-get update -qq
  apt_updated=1
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

has_python_headers() {
  "$python" -c 'import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())'
}

has_java() { .venv/bin/python -c 'from fulltape.local.java import find_java; find_java()' 2>/dev/null; }

command -v "$python" >/dev/null || install "Python is missing" "brew install python@3.11" python3
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "$("$python" --version) is too old: install Python 3.11 or later and name it, as in PYTHON=python3.11 make setup"

# What the virtual environment depends on; its own path is in it because scripts in it hold that path.
wanted=$({ cat requirements.lock pyproject.toml scripts/setup.sh && "$python" --version && pwd; } | cksum)
stamp=.venv/setup-stamp

if [[ ! -f $stamp || $(<"$stamp") != "$wanted" ]]; then
  "$python" -c 'import ensurepip' 2>/dev/null || install "Python's venv is missing" "brew install python@3.11" python3-venv
  # Some packages come as source alone.
  { command -v g++ >/dev/null && has_python_headers; } ||
    install "a C compiler or Python's headers are missing" "xcode-select --install" gcc g++ libc6-dev python3-dev
  if [[ ! -x .venv/bin/python ]] || [[ $(.venv/bin/python --version 2>&1) != "$("$python" --version)" ]]; then
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
  fi
  rm -f "$stamp"
  quiet=()
  [[ -t 1 ]] || quiet=(--quiet)
  say "installing $(grep -c '^[a-z0-9]' requirements.lock) packages of requirements.lock into .venv (minutes, the first time)"
  .venv/bin/python -m pip install ${quiet[@]+"${quiet[@]}"} --disable-pip-version-check --use-pep517 --require-hashes \
    --requirement requirements.lock
  # Nothing is downloaded here: the build backend is in the lock.
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
  printf '%s' "$wanted" >"$stamp"
fi

if ! has_java; then
  java=openjdk-17-jre-headless
  # Later releases of Debian have only later ones.
  if command -v apt-cache >/dev/null && [[ -z $(apt-cache search --names-only "^$java\$") ]]; then
    java=default-jre-headless
  fi
  install "Java 17 or later is missing" "brew install openjdk@17" "$java"
  has_java || .venv/bin/python -c 'from fulltape.local.java import find_java; find_java()' # fails, and says why
fi

.venv/bin/python -m fulltape.local.jars
