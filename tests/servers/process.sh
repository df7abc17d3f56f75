# shellcheck shell=bash
# Processes that a test run owns: a free port, a start, a bounded wait for an answer, an end. Sourced by tests/run.
#
# Every server runs in a session of its own, so that a Ctrl-C meets it only through `end_all`, after the tests are gone. Unless
# they are to be kept, the kernel ends the servers when the run itself is killed (the parent-death signal).

declare -A PID=() BORN=() PORT=() URL=() VERSION=()   # by the server's name
declare -A PORTS_TAKEN=()
STARTED=()                                            # names, in the order of their start

# Sets REPLY to a loopback port below the kernel's ephemeral range that nobody uses now. Another run may still be faster: a server
# that ends before it answers is started again on another port.
free_port() {
  local hex
  while :; do
    REPLY=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    printf -v hex ':%04X ' "$REPLY"
    [[ -z ${PORTS_TAKEN[$REPLY]:-} ]] && ! grep -qsF "$hex" /proc/net/tcp /proc/net/tcp6 && break
  done
  PORTS_TAKEN[$REPLY]=1
}

# launch NAME COMMAND…: starts it in the background, its output in RUN_DIR/NAME.log.
launch() {
  local name=$1 guard=(setpriv --pdeathsig TERM)
  shift
  [[ $KEEP == no ]] || guard=()
  "${guard[@]}" setsid "$@" </dev/null >>"$RUN_DIR/$name.log" 2>&1 &
  PID[$name]=$!
  BORN[$name]=$(born "$!")
  STARTED+=("$name")
  echo "$! ${BORN[$name]} $name" >>"$RUN_DIR/processes"
}

# When the process was started, in ticks since boot: with it, a number that was given to another process is not mistaken for ours.
born() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  stat=${stat##*) }
  set -- $stat
  # A zombie has ended, whether or not the shell has noticed.
  [[ $1 == Z ]] || echo "${20}"
}

alive() { # PID BORN
  [[ -n $2 && $(born "$1") == "$2" ]]
}

# Whether the process itself listens on the port: on a busy machine an answer alone could be somebody else's.
listens() { # PID PORT
  local hex inode
  printf -v hex '0100007F:%04X' "$2"
  inode=$(awk -v here="$hex" '$2 == here && $4 == "0A" { print $10; exit }' /proc/net/tcp)
  [[ -n $inode && -n $(find "/proc/$1/fd" -lname "socket:\[$inode\]" 2>/dev/null) ]]
}

# await NAME SECONDS PROBE: 0 when our own server answers (its VERSION is then known), 1 when it has ended, 2 when time is up.
await() {
  local name=$1 until=$((SECONDS + $2)) probe=$3
  while ((SECONDS < until)); do
    alive "${PID[$name]}" "${BORN[$name]}" || return 1
    if listens "${PID[$name]}" "${PORT[$name]}"; then
      VERSION[$name]=$("$probe" 127.0.0.1 "${PORT[$name]}") && return 0
    fi
    sleep 0.1
  done
  return 2
}

# end SECONDS NAME…: asks all of them to stop, waits at most that long for all together, then kills what is left.
end() {
  local until=$((SECONDS + $1)) name running=() left
  shift
  for name; do
    alive "${PID[$name]:-}" "${BORN[$name]:-}" && kill -TERM "${PID[$name]}" 2>/dev/null && running+=("$name")
  done
  while :; do
    left=()
    for name in "${running[@]}"; do
      alive "${PID[$name]}" "${BORN[$name]}" && left+=("$name")
    done
    ((${#left[@]} > 0 && SECONDS < until)) || break
    sleep 0.1
  done
  for name in "${running[@]}"; do
    # The whole session: a server's children go with it.
    kill -KILL -- "-${PID[$name]}" 2>/dev/null
  done
  for name in "${left[@]}"; do
    echo "tests/run: $name did not stop when asked, it was killed" >&2
  done
  return 0
}

# Ends every server of this run; the port mapper last, because the broker needs it to say goodbye.
end_all() {
  local name first=() last=()
  for name in "${STARTED[@]}"; do
    if [[ $name == epmd ]]; then last+=("$name"); else first+=("$name"); fi
  done
  end 20 "${first[@]}"
  end 5 "${last[@]}"
  STARTED=()
}

# Reads back what another run has kept in FOLDER (`--stop`).
adopt() {
  local pid born name
  while read -r pid born name; do
    PID[$name]=$pid BORN[$name]=$born
    STARTED+=("$name")
  done <"$1/processes"
}
