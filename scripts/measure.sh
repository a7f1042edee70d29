#!/usr/bin/env bash
# Measures every figure that the pages quote, and updates the pages, in less than 10
# minutes. Let nothing else run meanwhile; the pages show the machine and the load.
#
#   scripts/measure.sh [NAME…]     bench, stall, peers, crowd; all when none is named
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o "$work/" ./cmd/lesson
export PATH="$work:$PATH"
mkdir -p docs/results

# What a request costs each lesson.
bench() {
  lesson bench -o docs/results/bench.json \
    --also 'epoll --defer-accept=exec lesson epoll --quiet --defer-accept --addr {addr}' \
    --also 'edgetriggered --defer-accept=exec lesson edgetriggered --quiet --defer-accept --addr {addr}'
}

# A server that stalls for 200 ms of each second, seen by an open loop.
stall() {
  lesson bench --only epoll --rate 1000 --conns 8 --rounds 3 --duration 2s -o docs/results/stall.json \
    --also 'stalls=lesson epoll --quiet --addr {addr} & while sleep 0.8; do kill -STOP $!; sleep 0.2; kill -CONT $!; done'
}

# The same request on servers of other projects.
peers() { scripts/peers.sh; }

# What an idle connection costs.
crowd() { lesson crowd --json > docs/results/crowd.json; }

[ $# -gt 0 ] || set -- bench stall peers crowd
for name in "$@"; do "$name"; done
go generate ./docs
