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
"$rag" --version >/dev/null
run ingest "$here/halden/docs"
echo
echo "# Answered from page 2 of a PDF:"
run ask --extractive "How long does the battery pack of a KL-40 last with four PT-2 probes at 15 minutes?"
echo
echo "# Needs two documents:"
run ask --extractive "Within how many days must travel claims be filed under the policy of 2023 and under the policy of 2025?"
echo
echo "# Not in the documents:"
run ask --extractive "Can customers pay in bitcoin?"
