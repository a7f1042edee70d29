#!/usr/bin/env bash
# Runs every lesson against common clients, and fails on the first answer that is
# not complete. Needs curl, wget, nc and ab; uses wrk and
# python3 where they are installed.
#
#   scripts/smoke.sh
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in curl wget nc ab ss; do
  command -v "$tool" >/dev/null ||
    { echo "smoke.sh: $tool is missing; try: apt-get install curl wget netcat-openbsd apache2-utils iproute2" >&2; exit 1; }
done

work=$(mktemp -d)
pid=
cleanup() {
  [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
go build -o "$work/lesson" ./cmd/lesson

port=18200
fail() {
  echo "smoke.sh: $*" >&2
  cat "$work/log" >&2
  exit 1
}

# start ARGS... starts a lesson on the next port and waits until it listens.
start() {
  port=$((port + 1))
  url=http://127.0.0.1:$port/
  "$work/lesson" "$@" --addr "127.0.0.1:$port" > "$work/out" 2> "$work/log" &
  pid=$!
  for _ in $(seq 500); do
    [ -n "$(ss -ltnH "sport = :$port")" ] && return
    sleep 0.01
  done
  fail "$* does not listen"
}

# stop waits for a clean end: status 0 within two seconds of SIGTERM.
stop() {
  kill -TERM "$pid" 2>/dev/null || true
  local from=$SECONDS
  wait "$pid" || fail "$* ended with status $?"
  [ $((SECONDS - from)) -le 2 ] || fail "$* took more than two seconds to stop"
  pid=
}

same() { [ "$2" = "Hello, world!" ] || fail "$1 got: $2"; }

echo "blocking: one client each"
start blocking && same curl "$(curl -sS -m 5 "$url")" && stop blocking
start blocking && same wget "$(wget -qO- -T 5 "$url")" && stop blocking
start blocking && same nc "$(printf 'GET / HTTP/1.0\r\n\r\n' | nc -N -w 5 127.0.0.1 $port | tail -n 1)" && stop blocking

mapfile -t lessons < <("$work/lesson" list --json | sed -n 's/^ *"command": "lesson \(.*\)",$/\1/p')
for lesson in "${lessons[@]}" "epoll --loops 2" \
  "epoll --edge --loops 2" "epoll --defer-accept" "epoll --edge --defer-accept" \
  "epoll --cork --nodelay" "epoll --edge --cork --nodelay"; do
  [ "$lesson" != blocking ] || continue
  echo "$lesson"
  # shellcheck disable=SC2086  # the words of a command
  start $lesson
  same curl "$(curl -sS -m 5 "$url")"
  same "curl with a body" "$(head -c 100000 /dev/zero | curl -sS -m 5 --data-binary @- "$url")"
  same wget "$(wget -qO- -T 5 "$url")"
  same "nc -N" "$(printf 'GET / HTTP/1.0\r\n\r\n' | nc -N -w 5 127.0.0.1 $port | tail -n 1)"
  same "nc, bare line feeds" "$(printf 'hello\n\n' | nc -N -w 5 127.0.0.1 $port | tail -n 1)"
  if command -v python3 >/dev/null; then
    same http.client "$(python3 -c "
import http.client
c = http.client.HTTPConnection('127.0.0.1', $port, timeout=5)
c.request('GET', '/')
print(c.getresponse().read().decode())")"
  fi
  ab -q -n 5000 -c 100 "$url" > "$work/ab" || fail "ab: $(cat "$work/ab")"
  grep -Eq '^Complete requests: +5000$' "$work/ab" || fail "ab: $(cat "$work/ab")"
  grep -Eq '^Failed requests: +0$' "$work/ab" || fail "ab: $(cat "$work/ab")"
  if command -v wrk >/dev/null; then
    wrk -t1 -c50 -d1s -H 'Connection: close' "$url" > "$work/wrk"
    ! grep -Eq 'Non-2xx|connect [1-9]|read [1-9]|timeout [1-9]' "$work/wrk" || fail "wrk: $(cat "$work/wrk")"
  fi
  stop "$lesson"
done
echo "smoke.sh: every lesson answered every client"
