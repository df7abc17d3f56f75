# shellcheck shell=bash
# What must be on the machine. Installs what is missing with the system's package manager. Sourced by tests/run.

# The program that must be there, and the package that brings it.
PROGRAMS=(redis-server:redis-server faketime:faketime nginx:nginx haproxy:haproxy epmd:erlang-base valgrind:valgrind curl:curl)
# The same for what only the scripts of loadtest/k6 want.
K6_PROGRAMS=(npm:npm pip3:python3-pip)
# And for what the console is looked at with, unless RUSHGATE_TEST_CHROMIUM names another.
CONSOLE_PROGRAMS=(npm:npm chromium:chromium)
# Not the wrapper in PATH: that one insists on the packaged user, folders and logs.
RABBITMQ_SERVER=/usr/lib/rabbitmq/bin/rabbitmq-server

# Sets MISSING to the packages to install. With --quick only what the compiler needs.
find_missing() {
  local pair
  MISSING=()
  # Part of the library is C (SQLite, ring).
  command -v cc >/dev/null || MISSING+=(gcc libc6-dev)
  [[ $QUICK == no ]] || return 0
  for pair in "${PROGRAMS[@]}"; do
    command -v "${pair%%:*}" >/dev/null || MISSING+=("${pair#*:}")
  done
  # MariaDB is about to drop the old name.
  command -v mariadbd mysqld >/dev/null || MISSING+=(default-mysql-server)
  [[ -x $RABBITMQ_SERVER ]] || MISSING+=(rabbitmq-server)
}

install_packages() {
  find_missing
  if ((${#MISSING[@]} == 0)); then
    echo 'nothing is missing'
    return 0
  fi
  echo "missing: ${MISSING[*]}"
  command -v apt-get >/dev/null || {
    echo "tests/run installs packages on Debian and Ubuntu only; here please install the equivalents of: ${MISSING[*]}" >&2
    return 1
  }
  local root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || { echo "neither root nor sudo: ask an administrator for: apt-get install ${MISSING[*]}" >&2; return 1; }
    # Without a terminal nobody can type a password.
    if [[ -t 0 ]]; then root=(sudo); else root=(sudo -n); fi
  fi
  # Lists that cannot be refreshed may still do.
  "${root[@]}" apt-get -qq update || true
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "${MISSING[@]}" </dev/null || true
  find_missing
  if ((${#MISSING[@]} > 0)); then
    echo "could not be installed: ${MISSING[*]}" >&2
    return 1
  fi
}
