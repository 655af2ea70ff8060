-- execute_all: executes statements with parameters many times, one after the other, in one call: what a driver would send as so
-- many messages, each with an answer of its own. Whoever handles a page of events writes a row for each; this is what makes
-- it fast (Transaction::queue of the Rust client).
-- With the caller's rights and search path, as if the caller had sent each statement; plans are kept as those of prepared
-- statements are.
-- Locks: those of the statements.   Raises: what the statements raise; 22023, 22P03; 0A000 for BEGIN, COMMIT and COPY.
CREATE FUNCTION mire.execute_all(statements text[], parameters integer[], types oid[], calls bytea)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'execute_all_wrapper';
COMMENT ON FUNCTION mire.execute_all(text[], integer[], oid[], bytea) IS
'For drivers: executes statements many times in one call, and gives how often. parameters: how many each statement has; '
'types: theirs, of one statement after the other. calls: for each execution an int16, which statement (from 0), and for each '
'parameter an int32, its length (-1: NULL), and its value in binary format, as in the protocol''s Bind. Results are not '
'given. Raises what the statements raise, and undoes them all; 22023, 22P03 for what is malformed; 0A000 for BEGIN, COMMIT, COPY';
