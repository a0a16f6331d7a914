#!/bin/sh
# The demonstration behind `make demo`: the sample documents, and three questions asked of them.
set -eu
rag=$1
here=$(dirname "$0")
store=${DEMO_STORE:-$here/../.rag}

run() {
    echo
    printf '$ rag'
    for word in "$@"; do
        case $word in *' '*) printf ' "%s"' "$word" ;; *) printf ' %s' "$word" ;; esac
    done
    echo
    "$rag" "$@" --store "$store"
}
