# Sourced by the scripts beside it (bash): one virtual environment for the checkout, made and kept up to date.
# QTOP_VENV names another folder for it than .venv. Everything said here goes to standard error.

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV=${QTOP_VENV:-$ROOT/.venv}
case $VENV in /*) ;; *) VENV=$PWD/$VENV ;; esac
PY=$VENV/bin/python
LOG=$VENV/install.log

say() { printf '%s\n' "$*" >&2; }
die() { # die STATUS WORDS...
  local status=$1
  shift
  say "qtop: $*"
  exit "$status"
}

# Prints the first Python >= 3.11 that can make a virtual environment; fails with one line otherwise.
find_python() {
  local name found too_old='' no_venv=''
  for name in python3 python3.13 python3.12 python3.11 python3.14 python; do
    found=$(command -v "$name" 2>/dev/null) || continue
    "$found" -c 'pass' 2>/dev/null || continue # a version manager's shim for a version that is not there
    if ! "$found" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      too_old=${too_old:-$("$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)}
    elif ! "$found" -c 'import venv, ensurepip' 2>/dev/null; then
      no_venv=${no_venv:-$found}
    else
      printf '%s\n' "$found"
      return 0
    fi
  done
  if [ -n "$no_venv" ]; then
    say "qtop: $no_venv has no venv module: install it (on Debian and Ubuntu: apt install python3-venv)"
  elif [ -n "$too_old" ]; then
    say "qtop: Python 3.11 or newer is needed, and this is $too_old: install python3.11 or newer"
  else
    say "qtop: Python 3.11 or newer is needed, and there is no python3 on PATH: install it"
  fi
  return 2
}

# The last words of a failed installation as one line, and the exit status to go with it.
explain_install() {
  local last
  if grep -qiE 'No space left on device|Disk quota exceeded' "$LOG"; then
    die 2 "the disk is full, so the libraries could not be installed: free some space and run this again"
  elif grep -qiE 'NewConnectionError|ConnectTimeoutError|NameResolutionError|ReadTimeoutError|ProxyError|Retrying \(Retry' "$LOG"; then
    die 3 "the package index does not answer: check the network and pip's index and proxy settings, then run this again"
  fi
  last=$(grep -i '^ *error' "$LOG" | tail -n 1)
  die 2 "the libraries could not be installed (${last:-see $LOG}); all of pip's output is in $LOG"
}

# Shows what is being collected on a terminal, on one line that is redrawn; silent elsewhere.
show_collecting() {
  local line
  while IFS= read -r line; do
    case $line in
      Collecting\ *)
        line=${line#Collecting }
        printf '\r\033[K  %s' "${line%% (*}" >&2
        ;;
      *Installing\ collected*) printf '\r\033[K  unpacking' >&2 ;;
    esac
  done
  printf '\r\033[K' >&2
}

# pip_install WORDS...: installs into the environment, everything pip says in $LOG.
pip_install() {
  local status=0
  export PIP_USER=0 # a user's `user = true` would make pip refuse an environment
  if [ -t 2 ]; then
    "$PY" -m pip install --disable-pip-version-check --no-input --progress-bar off "$@" 2>&1 </dev/null |
      tee "$LOG" | show_collecting
    status=${PIPESTATUS[0]}
  else
    "$PY" -m pip install --disable-pip-version-check --no-input --progress-bar off "$@" >"$LOG" 2>&1 </dev/null || status=$?
  fi
  [ "$status" -eq 0 ] || explain_install
}

fingerprint() { # of what an installation depends on: the requirements, the interpreter, and where the checkout is
  { cat "$ROOT/pyproject.toml" && "$PY" -c 'import sys; print(sys.version)' && printf '%s\n' "$ROOT"; } | cksum
}

# ensure_venv EXTRA: the environment in $VENV has qtop (editable) with that extra; quick when nothing changed.
ensure_venv() {
  local extra=$1 python problem stamp=$VENV/.qtop-$1 before=$SECONDS
  # A lock on the checkout's own folder: two runs at once install once, and nothing is left lying about.
  if command -v flock >/dev/null 2>&1; then
    exec 9<"$ROOT"
    flock -n 9 || { say "another run is setting up; waiting for it" && flock 9; }
  fi
  if ! "$PY" -m pip --version >/dev/null 2>&1; then # none yet, or one cut short, or its interpreter is gone
    python=$(find_python) || exit $?
    if [ -e "$VENV" ] && [ ! -e "$VENV/pyvenv.cfg" ] && [ -n "$(ls -A "$VENV" 2>/dev/null)" ]; then
      die 2 "$VENV is there and is not a virtual environment: move it away, or set QTOP_VENV to another folder"
    fi
    say "making a virtual environment in $VENV ($("$python" -c 'import platform; print("Python", platform.python_version())'))"
    rm -rf "$VENV" 2>/dev/null
    if ! problem=$("$python" -m venv "$VENV" 2>&1 </dev/null); then
      problem=$(printf '%s\n' "$problem" | grep -v '^ *$' | tail -n 1)
      rm -rf "$VENV" 2>/dev/null
      die 2 "no virtual environment could be made in $VENV: $problem"
    fi
  fi
  if [ "$(fingerprint)" != "$(cat "$stamp" 2>/dev/null)" ]; then
    say "installing qtop and what it needs (a minute or so, once)"
    rm -f "$stamp"
    pip_install -e "${ROOT}[$extra]"
    fingerprint >"$stamp"
    say "installed in $((SECONDS - before)) s"
  fi
  exec 9<&-
}

# The tests' fake libraries are compiled: where there is no C compiler on PATH, one comes as a wheel, which tests/fakes finds.
ensure_compiler() {
  local name
  for name in cc gcc clang; do
    command -v "$name" >/dev/null 2>&1 && return 0
  done
  if ! "$PY" -c 'import ziglang' 2>/dev/null; then
    say "installing a C compiler for the tests, as there is none on PATH"
    pip_install ziglang
  fi
}
