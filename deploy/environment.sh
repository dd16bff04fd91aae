# Sourced by quickstart and test: one virtual environment, made once, brought up to date when
# setup.cfg changes. What is printed goes to standard error: standard output belongs to the caller.

# make_environment ROOT EXTRAS: EXTRAS is "" or an extra of setup.cfg such as "test".
make_environment() {
  local root=$1 extras=$2 python stamp wanted
  python=${PYTHON:-}
  if [ -z "$python" ]; then
    for python in /usr/bin/python3 python3; do
      if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi
    done
  fi
  if ! "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "sealbox: needs Python 3.11 or newer with venv (Debian, Ubuntu: apt install python3 python3-venv)" >&2
    return 1
  fi
  [ -x "$root/.venv/bin/python" ] || {
    echo "sealbox: making a virtual environment in .venv" >&2
    "$python" -m venv "$root/.venv"
  }
  wanted="$extras $(cksum <"$root/setup.cfg") $("$root/.venv/bin/python" --version)"
  stamp="$root/.venv/sealbox-installed-${extras:-base}"
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "sealbox: installing (a minute or two, once)" >&2
    "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      --editable "$root${extras:+[$extras]}" 1>&2
    printf '%s' "$wanted" >"$stamp"
  fi
}
