#!/usr/bin/env bash
# Runs three lessons behind HAProxy, each on a machine of its own, stops one of them
# under load, and counts the lost requests.
#
#   sudo scripts/balance.sh [REQUESTS]     default 20000 a round; less than a minute
#
# The machines are network namespaces that this script makes and removes: a client
# (ab), a balancer, three servers. None of this affects the network of this
# machine, but making namespaces needs root. There are four rounds: the lesson gets
# SIGTERM, and HAProxy retries only if it could not connect; the same, and HAProxy also
# retries if a connection ended without a byte of an answer; the same, but the lesson
# is killed (SIGKILL); and, without retries, HAProxy stops sending new clients to the
# lesson before it gets SIGTERM.
set -euo pipefail
cd "$(dirname "$0")/.."

requests=${1:-20000}
clients=50

die() {
  echo "balance.sh: $*" >&2
  exit 1
}

[[ $requests =~ ^[1-9][0-9]*$ && $requests -le 25000 ]] ||
  die "REQUESTS must be from 1 to 25000: the client has 28,232 ports, and each is used once"
for tool in ab haproxy ip nc awk ss go; do
  command -v "$tool" > /dev/null ||
    die "$tool is missing; try: apt-get install apache2-utils haproxy iproute2 netcat-openbsd"
done
[ "$(id -u)" = 0 ] || die "making network namespaces needs root; try: sudo scripts/balance.sh"

work=$(mktemp -d)
net=lesson-$$ # what the names of the namespaces begin with
machines=(client front server1 server2 server3)
pids=()
cleanup() {
  stop_all
  for machine in "${machines[@]}"; do ip netns del "$net-$machine" 2> /dev/null || true; done
  rm -rf "$work"
}
stop_all() {
  for pid in "${pids[@]}"; do kill -KILL "$pid" 2> /dev/null || true; done
  wait 2> /dev/null || true
  pids=()
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# start MACHINE COMMAND... starts a command there, and leaves its process id in $pid
# (ip becomes the command: it stays the same process).
start() {
  local machine=$1
  shift
  ip netns exec "$net-$machine" "$@" > "$work/$machine.log" 2>&1 &
  pid=$!
  pids+=("$pid")
}

# cable A B N is a network 10.77.N.0/30 with two ends: .1 at A, .2 at B.
cable() {
  ip -n "$net-$1" link add "to-$2" type veth peer name "to-$1" netns "$net-$2"
  ip -n "$net-$1" addr add "10.77.$3.1/30" dev "to-$2"
  ip -n "$net-$2" addr add "10.77.$3.2/30" dev "to-$1"
  ip -n "$net-$1" link set "to-$2" up
  ip -n "$net-$2" link set "to-$1" up
}

for machine in "${machines[@]}"; do
  ip netns add "$net-$machine" || die "no network namespace to be had here: is this a container?"
  ip -n "$net-$machine" link set lo up
done
cable front client 0
for n in 1 2 3; do cable front server$n $n; done
go build -o "$work/lesson" ./cmd/lesson

# listening MACHINE PORT waits for a listener there.
listening() {
  for _ in $(seq 500); do
    [ -z "$(ip netns exec "$net-$1" ss -ltnH "sport = :$2")" ] || return 0
    sleep 0.01
  done
  die "no process listens on $1, port $2: $(cat "$work"/*.log)"
}

configure() {
  cat > "$work/haproxy.cfg" << CONF
global
  stats socket $work/admin level admin
defaults
  mode http
  timeout connect 1s
  timeout client 5s
  timeout server 5s
  retries 3
  option redispatch 1
  retry-on $1
frontend all
  bind 10.77.0.1:80
  default_backend lessons
backend lessons
  balance roundrobin
  server server1 10.77.1.2:8080 check inter 200ms fall 1
  server server2 10.77.2.2:8080 check inter 200ms fall 1
  server server3 10.77.3.2:8080 check inter 200ms fall 1
CONF
}

# counter NAME [SERVER] is a column of HAProxy's statistics: of one, or the sum of all.
counter() {
  echo "show stat" | nc -U -N "$work/admin" | awk -F, -v name="$1" -v server="${2:-server}" '
    NR == 1 { for (i = 1; i <= NF; i++) { sub(/^# /, "", $i); column[$i] = i } }
    $1 == "lessons" && index($2, server) == 1 { sum += $(column[name]) }
    END { print sum + 0 }'
}

# drain lets HAProxy send no more clients to server2, and waits for those it has there.
drain() {
  echo "set server lessons/server2 state drain" | nc -U -N "$work/admin" > /dev/null
  for _ in $(seq 500); do
    [ "$(counter scur server2)" != 0 ] || return 0
    sleep 0.01
  done
  die "server2 has clients forever"
}

# round TITLE HOW RETRY-ON is one run of the load, with server2 taken away by a
# signal, or "drain".
round() {
  configure "$3"
  local server2=
  for n in 1 2 3; do
    start server$n "$work/lesson" epoll --quiet --addr "10.77.$n.2:8080"
    [ $n != 2 ] || server2=$pid
    listening server$n 8080
  done
  start front haproxy -db -f "$work/haproxy.cfg"
  listening front 80

  start client timeout 60 ab -q -r -n "$requests" -c "$clients" http://10.77.0.1/
  local load=$pid
  local third=$((requests / 3)) # the load is under way
  for _ in $(seq 3000); do
    [ "$(counter stot)" -lt "$third" ] || break
    sleep 0.01
  done
  kill -0 "$load" 2> /dev/null || die "the load was over too soon: try more requests"
  local signal=$2
  if [ "$2" = drain ]; then
    drain
    signal=TERM
  fi
  kill "-$signal" "$server2"
  { wait "$server2"; } 2> /dev/null || true # bash says of a killed one that it was killed
  wait "$load" || die "ab: $(cat "$work/client.log")"

  local complete failed
  complete=$(awk '/^Complete requests/ { print $3 }' "$work/client.log")
  failed=$(awk '/^Failed requests/ { print $3 }' "$work/client.log") # no answer, or another one
  printf '%-34s %8d %8d %8d %8d %12d\n' "$1" "$complete" $((complete - failed)) "$failed" \
    "$(counter wretr)" "$(counter wredis)"
  stop_all
}

printf '%-34s %8s %8s %8s %8s %12s\n' "" sent answered lost retried redispatched
round "SIGTERM, retry: connect" TERM conn-failure
round "SIGTERM, retry: connect, empty" TERM "conn-failure empty-response"
round "SIGKILL, retry: connect, empty" KILL "conn-failure empty-response"
round "drain, SIGTERM, retry: none" drain none
