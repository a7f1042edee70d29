#!/usr/bin/env bash
# What a request costs, and what an idle connection costs, lesson by lesson.
#
#   scripts/bench.sh [ROUNDS]     default 9; about 2 minutes
#
# The server runs on processor 0 and ab (apache2-utils) on processor 1. Rounds are
# interleaved: every server in turn, again and again, so that a slow minute of
# the machine hits all of them. The figure to trust is processor time per request,
# as a ratio to `epoll` within the same round: requests per second mostly measure
# ab. nginx joins in when it is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-9}
requests=4000
clients=64
crowd=10000
port=18080

for tool in ab taskset ss awk; do
  command -v "$tool" >/dev/null ||
    { echo "bench.sh: $tool is missing; try: apt-get install apache2-utils util-linux iproute2" >&2; exit 1; }
done
[ "$(nproc)" -ge 2 ] || { echo "bench.sh: needs two processors" >&2; exit 1; }

work=$(mktemp -d)
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

go build -o "$work/lesson" ./cmd/lesson
go build -o "$work/idle" ./scripts/idle

names=(epoll edgetriggered epoll-defer edge-defer threaded netpoll)
declare -A command=(
  [epoll]="epoll"
  [edgetriggered]="edgetriggered"
  [epoll-defer]="epoll --defer-accept"
  [edge-defer]="edgetriggered --defer-accept"
  [threaded]="threaded"
  [netpoll]="threaded --netpoll"
)

# start NAME PORT leaves the server's process id in $pid once it listens.
start() {
  if [ "$1" = nginx ]; then
    mkdir -p "$work/nginx"
    cat > "$work/nginx/conf" <<CONF
daemon off; master_process off; pid $work/nginx/pid; error_log stderr crit;
events { worker_connections 15000; multi_accept on; }
http { access_log off; keepalive_timeout 0; server_tokens off; default_type text/plain;
  server { listen 127.0.0.1:$2 backlog=4096; location / { return 200 "Hello, world!"; } } }
CONF
    taskset -c 0 nginx -p "$work/nginx" -c conf 2>/dev/null &
  else
    # shellcheck disable=SC2086  # the words of a command
    taskset -c 0 "$work/lesson" ${command[$1]} --quiet --addr "127.0.0.1:$2" 2>/dev/null &
  fi
  pid=$!
  pids+=("$pid")
  for _ in $(seq 500); do
    [ -n "$(ss -ltnH "sport = :$2")" ] && return
    sleep 0.01
  done
  echo "bench.sh: $1 did not start" >&2
  exit 1
}

# Nanoseconds of processor time that all threads of a process have used.
cpu() { cat /proc/"$1"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f\n", sum }'; }

rss() { awk '/VmRSS/ { print $2 * 1024 }' /proc/"$1"/status; }

command -v nginx >/dev/null && names+=(nginx)

echo "## Processor time per request: $rounds rounds of ab -n $requests -c $clients" >&2
declare -A server
for i in "${!names[@]}"; do
  start "${names[i]}" $((port + i))
  server[${names[i]}]=$pid
done
for round in $(seq 0 "$rounds"); do # round 0 warms up
  for i in "${!names[@]}"; do
    name=${names[i]}
    before=$(cpu "${server[$name]}")
    taskset -c 1 ab -q -r -n $requests -c $clients "http://127.0.0.1:$((port + i))/" > "$work/ab"
    after=$(cpu "${server[$name]}")
    failed=$(awk '/^Failed requests/ { print $3 }' "$work/ab")
    rate=$(awk '/^Requests per second/ { print $4 }' "$work/ab")
    [ "$failed" = 0 ] || { echo "bench.sh: $name: $failed requests failed" >&2; exit 1; }
    [ "$round" = 0 ] || echo "$round $name $(((after - before) / requests)) $rate" >> "$work/runs"
  done
done
for pid in "${pids[@]}"; do kill "$pid"; done
wait 2>/dev/null || true
pids=()

echo "## Memory of an idle connection: $crowd of them (threaded: 900, a thread each)" >&2
for i in "${!names[@]}"; do
  name=${names[i]}
  n=$crowd
  [ "$name" = threaded ] && n=900
  case $name in *-defer) continue ;; esac # silent clients are never accepted
  start "$name" $((port + 100 + i))
  server=$pid
  before=$(rss "$server")
  mkfifo "$work/hold"
  "$work/idle" "127.0.0.1:$((port + 100 + i))" $n < "$work/hold" > "$work/idle.out" &
  pids+=("$!")
  exec 3> "$work/hold"
  held=0
  for _ in $(seq 300); do # until the server holds them all
    held=$(find /proc/"$server"/fd -type l | wc -l)
    [ "$held" -gt $n ] && break
    sleep 0.1
  done
  [ "$held" -gt $n ] || { echo "bench.sh: $name holds $held of $n" >&2; exit 1; }
  sleep 1 # threads that have just started have not used their stacks yet
  echo "$name $((($(rss "$server") - before) / n))" >> "$work/idle.bytes"
  exec 3>&-
  rm "$work/hold"
  kill "$server"
  wait "$server" 2>/dev/null || true
done

awk '
  function median(list,   v, n, i, j, t) {
    n = split(list, v, " ")
    for (i = 2; i <= n; i++)
      for (j = i; j > 1 && v[j - 1] + 0 > v[j] + 0; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
    return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
  }
  FILENAME ~ /bytes$/ { idle[$1] = $2; next }
  !($2 in ns) { order[++count] = $2 }
  { at[$1, $2] = $3; ns[$2] = ns[$2] " " $3; rate[$2] = rate[$2] " " $4; last = $1 }
  END {
    print "| server | CPU µs/request | ÷ epoll | requests/s | bytes/idle connection |"
    print "|---|---|---|---|---|"
    for (i = 1; i <= count; i++) {
      name = order[i]; ratios = ""
      for (r = 1; r <= last; r++) ratios = ratios " " at[r, name] / at[r, "epoll"]
      printf "| %s | %.1f | %.2f | %d | %s |\n", name, median(ns[name]) / 1000, median(ratios),
        median(rate[name]), (name in idle) ? idle[name] : "–"
    }
  }' "$work/idle.bytes" "$work/runs"
