#!/usr/bin/env bash
# Writes a manual page for every command, from the command tree itself.
#
#   scripts/man.sh [DIR]          default build/man; then: man build/man/lesson-epoll.1
set -euo pipefail
cd "$(dirname "$0")/.."
dir=${1:-build/man}
mkdir -p "$dir"
go run ./cmd/lesson man "$dir"
echo "manual pages are in $dir; try: man $dir/lesson.1"
