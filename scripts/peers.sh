#!/usr/bin/env bash
# Measures what the same request costs other servers: net/http, event libraries for
# Go, and nginx if it is installed (apt-get install nginx-light).
#
#   scripts/peers.sh [FLAG…]     about 2 minutes; flags are for lesson bench
#
# They are a module of their own in scripts/peers, with their own requirements. Where a
# library leaves the protocol to the program, the server uses that of the lessons; the
# others answer in HTTP, with the same body, and close. Each has one processor, so
# GOMAXPROCS is 1.
#
# The results go to docs/results/peers.json; `go generate ./docs` makes tables and
# charts of them.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

go build -o "$work/" ./cmd/lesson
(cd scripts/peers && go build -o "$work/peers/" ./...)
mkdir -p docs/results
export PATH="$work:$work/peers:$PATH"

also=(
  --also 'net/http=exec nethttp {addr}'
  --also 'fasthttp=exec fasthttp {addr}'
  --also 'gnet=exec gnet {addr}'
  --also 'evio=exec evio {addr}'
  --also 'cloudwego/netpoll=exec netpoll {addr}'
  --also 'nbio=exec nbio {addr}'
)
if command -v nginx >/dev/null; then
  export NGINX_HOME="$work/nginx"
  mkdir "$NGINX_HOME"
  cp scripts/peers/nginx.conf "$NGINX_HOME/template"
  also+=(--also 'nginx=cd "$NGINX_HOME" && sed "s/ADDR/{addr}/" template > nginx.conf && exec nginx -p . -c nginx.conf')
else
  echo "peers.sh: nginx is not installed and is left out" >&2
fi

lesson bench --conns 64 --rounds 9 --duration 1s --only epoll,edgetriggered,netpoll,threaded \
  "${also[@]}" -o docs/results/peers.json "$@"
