# shellcheck shell=bash
# The four servers of a test run: how each is started here, on what settings, and when it counts as up. Sourced by tests/run.

# A server that ended before it answered has most likely lost its port to another run: it gets this many tries.
START_TRIES=3
# The variables in which the caller gave a server.
GIVEN=()
# What the caller wants of Redis besides.
REDIS_OPTIONS=()

start_redis() {
  local dir=$RUN_DIR/redis options=()
  mkdir -p "$dir"
  free_port
  PORT[redis]=$REPLY URL[redis]=redis://127.0.0.1:$REPLY
  # Faults are provoked with DEBUG, which Redis 7 and later must be told to allow.
  [[ $(redis-server --version) =~ v=([0-9]+) ]] && ((BASH_REMATCH[1] >= 7)) && options+=(--enable-debug-command local)
  # On the settings that are delivered: what is tested is what is shipped.
  launch redis redis-server "$SERVERS/../../config/deploy/redis.conf" --port "$REPLY" --bind 127.0.0.1 --dir "$dir" --daemonize no \
    "${options[@]}" "${REDIS_OPTIONS[@]}"
}

start_rabbitmq() {
  local dir=$RUN_DIR/rabbitmq
  mkdir -p "$dir"
  # A port mapper of our own: the machine's would outlive the run, or be shared with brokers that are none of our business.
  free_port
  PORT[epmd]=$REPLY
  launch epmd epmd -port "$REPLY" -address 127.0.0.1
  await epmd 10 probe_port || return 0
  free_port
  local distribution=$REPLY
  free_port
  PORT[rabbitmq]=$REPLY URL[rabbitmq]=amqp://127.0.0.1:$REPLY/%2f
  cat >"$dir/rabbitmq.conf" <<END
listeners.tcp.local = 127.0.0.1:$REPLY
log.console = true
log.file = false
# Small enough for a laptop; a test that wants the alarm lowers it.
vm_memory_high_watermark.absolute = 768MiB
disk_free_limit.absolute = 50MB
# Quorum queues keep their log in memory up to this size, half a gigabyte by default.
raft.wal_max_size_bytes = 33554432
END
  echo '[].' >"$dir/enabled_plugins"
  # A clean environment: RABBITMQ_* of the machine would redirect folders. Said to run under systemd, the script becomes the
  # virtual machine instead of waiting for it, so its process id is the broker's. A broker that is stopped while it starts leaves a core of
  # its database where it stands: in its own folder.
  launch rabbitmq env -C "$dir" -i PATH="$PATH" HOME="$dir" LANG=C.UTF-8 RUNNING_UNDER_SYSTEMD=true \
    ERL_EPMD_PORT="${PORT[epmd]}" ERL_EPMD_ADDRESS=127.0.0.1 ERL_CRASH_DUMP_SECONDS=0 \
    RABBITMQ_NODENAME="rushgate-$REPLY@localhost" RABBITMQ_DIST_PORT="$distribution" \
    RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_CONFIG_FILE="$dir/rabbitmq.conf" RABBITMQ_ADVANCED_CONFIG_FILE="$dir/advanced.config" \
    RABBITMQ_ENABLED_PLUGINS_FILE="$dir/enabled_plugins" RABBITMQ_MNESIA_BASE="$dir/data" RABBITMQ_LOG_BASE="$dir/log" \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -start_epmd false -kernel inet_dist_use_interface {127,0,0,1}' \
    "$RABBITMQ_SERVER"
}

is_mariadb() {
  command -v mariadbd >/dev/null
}

# The machine's own server: default-mysql-server is MariaDB on Debian, MySQL on Ubuntu.
start_mysql() {
  if is_mariadb; then
    mysqld_options mysql
    mariadb-install-db --no-defaults "${OPTIONS[@]}" --skip-test-db --skip-name-resolve \
      --auth-root-authentication-method=normal >"$RUN_DIR/mysql.log" 2>&1 || return
    launch_mysqld mysql mariadbd --no-defaults --innodb-log-file-size="${MYSQL_REDO_LOG:-64M}"
  else
    start_oracle_mysqld mysql ''
  fi
}

start_real_mysql() {
  local tree
  tree=$("$SERVERS/real-mysql") || return
  start_oracle_mysqld real-mysql "$tree"
}

# start_oracle_mysqld NAME TREE: the MySQL that is installed under TREE. It runs through the loader, because that finds the tree's own
# libraries, and because Ubuntu confines /usr/sbin/mysqld by its path to /var/lib/mysql.
start_oracle_mysqld() {
  local lib command
  lib=$2/usr/lib/$(uname -m)-linux-gnu
  command=("$(echo "$lib"/ld-linux*.so.*)" --library-path "$lib" "$2/usr/sbin/mysqld"
    --no-defaults --basedir="$2/usr" --secure-file-priv=NULL)
  mysqld_options "$1"
  "${command[@]}" "${OPTIONS[@]}" --initialize-insecure >"$RUN_DIR/$1.log" 2>&1 || return
  launch_mysqld "$1" "${command[@]}" --mysqlx=OFF
}

# Sets OPTIONS to what both kinds need, when they make their data and when they run.
mysqld_options() { # NAME
  local dir=$RUN_DIR/$1
  mkdir -p "$dir/tmp"
  # A server that starts clears its tmpdir of temporary tables: in a shared one those of other servers. Native AIO is off, because its
  # kernel-wide quota does not last for several runs at once.
  OPTIONS=(--datadir="$dir/data" --tmpdir="$dir/tmp" --innodb-use-native-aio=0)
  # mysqld refuses to be root by accident.
  ((EUID != 0)) || OPTIONS+=(--user=root)
}

# launch_mysqld NAME COMMAND…
launch_mysqld() {
  local name=$1 dir=$RUN_DIR/$1
  shift
  free_port
  PORT[$name]=$REPLY URL[$name]=mysql://root@127.0.0.1:$REPLY/rushgate
  # One statement per line. The server runs them before it greets anybody.
  cat >"$dir/init.sql" <<'END'
CREATE DATABASE IF NOT EXISTS rushgate;
CREATE USER IF NOT EXISTS root@'127.0.0.1';
GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
END
  # Durable as in production.
  launch "$name" "$@" "${OPTIONS[@]}" --init-file="$dir/init.sql" --socket="$dir/sock" --pid-file="$dir/pid" \
    --bind-address=127.0.0.1 --port="$REPLY" --skip-name-resolve --character-set-server=utf8mb4 --max-connections=500 \
    --innodb-flush-log-at-trx-commit=1 --innodb-buffer-pool-size="${MYSQL_BUFFER_POOL:-128M}"
}

probe_real_mysql() {
  probe_mysql "$@"
}

# bring_up NAME…: starts all, then waits for each; fails with the name and the last words of the one that cannot be had.
bring_up() {
  local name
  for name; do
    "start_${name//-/_}" || { give_up "$name"; return 1; }
  done
  for name; do
    wait_or_restart "$name" || { give_up "$name"; return 1; }
    printf '%-10s  %s  %s\n' "$name" "${VERSION[$name]}" "${URL[$name]}"
  done
}

wait_or_restart() {
  local try code
  for ((try = 1; ; try++)); do
    code=1
    [[ -z ${PID[$1]:-} ]] || { code=0; await "$1" 90 "probe_${1//-/_}" || code=$?; }
    ((code == 1 && try < START_TRIES)) || return "$code"
    echo "$1 ended before it answered; once more, on another port"
    forget "$1"
    "start_${1//-/_}" || return
  done
}

give_up() {
  local hint=''
  [[ $1 != real-mysql ]] || hint=' (--without-real-mysql leaves it out)'
  echo "tests/run: $1 cannot be started$hint" >&2
  [[ ! -s $RUN_DIR/$1.log ]] || { echo 'its last words:' && tail -n 40 "$RUN_DIR/$1.log"; } >&2
}

# Leaves nothing of a failed start but its log.
forget() {
  local name names=("$1")
  [[ $1 != rabbitmq ]] || names+=(epmd)
  for name in "${names[@]}"; do
    [[ -z ${PID[$name]:-} ]] || end 10 "$name"
    PID[$name]='' BORN[$name]=''
  done
  rm -rf "${RUN_DIR:?}/$1"
}

# use_given NAME VARIABLE DEFAULT_PORT: a server that the caller has set, looked at once.
use_given() {
  local url=${!2}
  VERSION[$1]=$(probe_url "$url" "$3" "probe_${1//-/_}") || {
    echo "tests/run: $1 does not answer, at the URL given in $2" >&2
    return 1
  }
  URL[$1]=$url
  GIVEN+=("$2")
  # A URL may hold a password: it is not printed.
  printf '%-10s  %s  given in %s\n' "$1" "${VERSION[$1]}" "$2"
  VERSION[$1]+=' (given)'
}

# Sets up all four, given or our own, and exports where they are.
start_servers() {
  local own=()
  if [[ -n ${RUSHGATE_TEST_REDIS_URL:-} ]]; then use_given redis RUSHGATE_TEST_REDIS_URL 6379 || return; else own+=(redis); fi
  if [[ -n ${RUSHGATE_TEST_AMQP_URL:-} ]]; then use_given rabbitmq RUSHGATE_TEST_AMQP_URL 5672 || return; else own+=(rabbitmq); fi
  if [[ -n ${RUSHGATE_TEST_MYSQL_URL:-} ]]; then use_given mysql RUSHGATE_TEST_MYSQL_URL 3306 || return; else own+=(mysql); fi
  if [[ $REAL_MYSQL == no ]]; then
    URL[real-mysql]=none
    LEFT_OUT+=('everything on a real MySQL (--without-real-mysql)')
  elif [[ -n ${RUSHGATE_TEST_REAL_MYSQL_URL:-} ]]; then
    use_given real-mysql RUSHGATE_TEST_REAL_MYSQL_URL 3306 || return
  elif is_mariadb; then
    own+=(real-mysql)
  elif [[ -n ${RUSHGATE_TEST_MYSQL_URL:-} ]]; then
    start_real_mysql() { start_oracle_mysqld real-mysql ''; }
    own+=(real-mysql)
  fi
  bring_up "${own[@]}" || return
  if [[ -z ${URL[real-mysql]:-} ]]; then
    URL[real-mysql]=${URL[mysql]} VERSION[real-mysql]="${VERSION[mysql]} (the same)"
    LEFT_OUT+=("MariaDB: this system's own server is MySQL")
  fi
  export RUSHGATE_TEST_REDIS_URL=${URL[redis]} RUSHGATE_TEST_AMQP_URL=${URL[rabbitmq]}
  export RUSHGATE_TEST_MYSQL_URL=${URL[mysql]} RUSHGATE_TEST_REAL_MYSQL_URL=${URL[real-mysql]}
}

# The caller has the given ones already, and they may hold passwords.
print_exports() {
  local variable
  for variable in RUSHGATE_TEST_{REDIS,AMQP,MYSQL,REAL_MYSQL}_URL; do
    [[ " ${GIVEN[*]} " == *" $variable "* ]] || printf 'export %s=%q\n' "$variable" "${!variable}"
  done
  [[ -z ${RUSHGATE_TEST_PROMTOOL:-} ]] || printf 'export RUSHGATE_TEST_PROMTOOL=%q\n' "$RUSHGATE_TEST_PROMTOOL"
}
