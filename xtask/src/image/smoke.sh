# Runs inside the image, as postgres. A server of its own, so that it proves the files in the image
# and not the official entrypoint.
set -euo pipefail
bin=$(pg_config --bindir 2>/dev/null || echo /usr/lib/postgresql/17/bin)
data=$(mktemp -d)
"$bin/initdb" -D "$data/d" -A trust -E UTF8 --locale=C.UTF-8 >"$data/initdb"
"$bin/pg_ctl" -D "$data/d" -w -s -l "$data/log" \
    -o "-c listen_addresses='' -c unix_socket_directories=$data" start
trap '"$bin/pg_ctl" -D "$data/d" -m immediate -s stop; cat "$data/log"' EXIT
q() {
    echo "=> $1" >&2
    "$bin/psql" -X -At -v ON_ERROR_STOP=1 -h "$data" -d postgres -c "$1"
}
is() {
    got=$(q "$2")
    echo "$got" >&2
    if [ "$got" != "$1" ]; then echo "expected: $1" >&2; exit 1; fi
}
q "SELECT version()"
q "CREATE EXTENSION pg_mire"
is "2|2|f" "SELECT version, position, duplicate FROM mire.append('order-1', '[{\"type\": \"placed\", \"data\": {\"total\": 7}}, {\"type\": \"paid\", \"data\": {}}]', 0)"
is "1|placed|{\"total\": 7}
2|paid|{}" "SELECT version, type, data FROM mire.read_stream('order-1')"
is "1|order-1|placed
2|order-1|paid" "SELECT position, stream, type FROM mire.read_all()"
trap - EXIT
"$bin/pg_ctl" -D "$data/d" -m fast -s stop
echo "smoke test passed"
