#!/usr/bin/env bash
# Prepares all that `.venv/bin/fulltape`, its tests and its benchmarks need; `make setup` calls it.
# Quick and silent where nothing has changed. System packages are installed where this is root on Debian or Ubuntu;
# elsewhere a line says what to install. PYTHON names another interpreter than python3.
# With --tests it also installs what only tests need: a browser, the PostgreSQL that stands in for Redshift, and a
# Kubernetes control plane, which it builds. With --cluster it also installs and builds a node for that.
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
  start_no_services
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

# Debian starts a service with its package; what asks leave of this file is told no. One that is there stays as it is.
start_no_services() {
  local policy=/usr/sbin/policy-rc.d
  [[ ! -e $policy ]] || return 0
  trap "rm -f $policy" EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
}

# Install a package that much works without, where this may; tried once for each .venv: install_optional WHAT-FOR PACKAGE
install_optional() {
  if command -v apt-get >/dev/null && [[ $(id -u) -eq 0 && ! -e .venv/without-$2 ]]; then
    (install "$1" "" "$2") || { say "going on without $2" && touch ".venv/without-$2"; }
  fi
}

has() { command -v "$1" >/dev/null; }

has_python_headers() {
  "$python" -c 'import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())'
}

has_postgresql() { has postgres || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; }

has_java() { .venv/bin/python -c 'from fulltape.local.java import find_java; find_java()' 2>/dev/null; }

may_be_a_node() { [[ $(uname) == Linux && $(id -u) -eq 0 ]] && has apt-get; }

# What makes a network and a base image, builds the other images, and filters system calls.
install_what_a_node_needs() {
  local package missing=()
  for package in buildah debootstrap containernetworking-plugins nftables iproute2 procps e2fsprogs libseccomp-dev pkg-config gcc libc6-dev; do
    dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [[ ${#missing[@]} -eq 0 ]] || install "a Kubernetes node needs more" "" "${missing[@]}"
}

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
  rm -f "$stamp" .venv/class-archive
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

# Without Alertmanager, alerts are on the page and in the terminal alone; without Chromium and PostgreSQL, the tests of
# the page and of Redshift are skipped.
if ! has prometheus-alertmanager && ! has alertmanager; then
  install_optional "Alertmanager is missing" prometheus-alertmanager
  # Nor shall the package's service start with the machine: fulltape runs an Alertmanager of its own.
  ! has update-rc.d || update-rc.d prometheus-alertmanager disable >/dev/null 2>&1 || true
fi
if [[ ${1:-} == --tests ]]; then
  has chromium || install_optional "Chromium is missing" chromium
  has_postgresql || install_optional "PostgreSQL is missing" postgresql
fi

.venv/bin/python -m fulltape.local.jars

# With an archive of its classes Spark starts in half the time; tests start it some fifty times.
if [[ ${1:-} == --tests && ! -e .venv/class-archive ]]; then
  say "writing Spark's class archive"
  .venv/bin/python -m fulltape_spark.session 2>/dev/null && touch .venv/class-archive
fi

# The control plane that the operator's tests run against; without Go these tests are skipped.
if [[ ${1:-} == --tests || ${1:-} == --cluster ]]; then
  if has go; then
    .venv/bin/python -m tests.control_plane.build >/dev/null
  else
    say "Go is missing: going on without the tests of the operator; install Go 1.26 or later for them"
  fi
fi

# The node of the end-to-end tests, which only root on Linux can make; without it they need FULLTAPE_TEST_KUBECONFIG.
if [[ ${1:-} == --cluster ]]; then
  if may_be_a_node && has go; then
    install_what_a_node_needs
    .venv/bin/python -m tests.cluster.build >/dev/null
  else
    say "no node is built here, which needs Go, and root on Debian or Ubuntu"
  fi
fi
