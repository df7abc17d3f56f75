# shellcheck shell=bash
# Is a server there, and which version: its greeting is read from the socket, so no client program is needed, and given servers
# are looked at in the same way as our own. Each prints the version and fails if there is no proper answer. Sourced by tests/run.

# exchange HOST PORT [REQUEST]: sends the request, if there is one, and prints the first bytes of the answer.
exchange() {
  timeout 5 bash -c 'exec 3<>"/dev/tcp/$0/$1" && printf "$2" >&3 && dd bs=4096 count=1 status=none <&3' "$1" "$2" "${3:-}" 2>/dev/null
}

probe_redis() {
  local answer
  answer=$(exchange "$1" "$2" 'INFO server\r\n' | tr -d '\0\r')
  case $answer in
    *redis_version:*) sed -n 's/^redis_version://p' <<<"$answer" ;;
    -NOAUTH*) echo 'of unknown version' ;;
    *) return 1 ;;
  esac
}

# The broker opens its listener last, so Connection.Start means that it is up.
probe_rabbitmq() {
  exchange "$1" "$2" 'AMQP\x00\x00\x09\x01' | LC_ALL=C tr -c '[:print:]' ' ' |
    sed -nE 's/.*versionS +([0-9][^ ]*).*/\1/p' | grep .
}

# A server that still starts accepts the connection, but greets only when it is ready.
probe_mysql() {
  exchange "$1" "$2" | LC_ALL=C tr '\0' '\n' | LC_ALL=C grep -aoE -m1 '^[0-9]+\.[0-9]+\.[0-9][[:print:]]*$' |
    sed 's/^5\.5\.5-//; s/ .*//'
}

# Only that somebody listens: what is behind TLS is left to the tests.
probe_port() {
  timeout 5 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2" 2>/dev/null && echo 'of unknown version'
}

# probe_url URL DEFAULT_PORT PROBE
probe_url() {
  local probe=$3 host port
  [[ $1 =~ ^([a-z+]+)://([^@/]*@)?(\[[^]]+\]|[^:/?]*)(:([0-9]+))? ]] || return 1
  case ${BASH_REMATCH[1]} in rediss | amqps) probe=probe_port ;; esac
  host=${BASH_REMATCH[3]:-127.0.0.1} port=${BASH_REMATCH[5]:-$2}
  host=${host#[} host=${host%]}
  "$probe" "$host" "$port"
}
