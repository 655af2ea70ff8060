#!/bin/sh
# A rustc wrapper: pgrx's bindings of a PostgreSQL whose headers are not here are those that pgrx ships for its own
# documentation. Enough to type-check against that version, not to build for it.
case " $* " in
*" --crate-name pgrx_pg_sys "*) exec "$@" --cfg docsrs ;;
*) exec "$@" ;;
esac
