-- A log must not be lost by accident: dropping mire.events while it holds events is refused, by whatever command and
-- CASCADE, unless mire.allow_drop_with_events is on. The event trigger loads the library before a DROP begins, and tells its
-- object-access hook which table to guard (pg_mire/src/drop_guard.rs).
CREATE FUNCTION mire_internal.arm_drop_guard(events regclass)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT AS 'MODULE_PATHNAME', 'arm_drop_guard_wrapper';

CREATE FUNCTION mire_internal.watch_drop()
RETURNS event_trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, mire, pg_temp
AS $$
BEGIN
  PERFORM mire_internal.arm_drop_guard('mire.events'::regclass);
END
$$;

-- Only commands that can reach the table by themselves or by CASCADE; other DDL costs nothing.
CREATE EVENT TRIGGER mire_drop_guard ON ddl_command_start
  WHEN TAG IN ('DROP EXTENSION', 'DROP SCHEMA', 'DROP OWNED', 'DROP LANGUAGE', 'DROP TABLE', 'DROP SEQUENCE',
               'DROP TYPE', 'DROP FUNCTION', 'DROP PROCEDURE', 'DROP ROUTINE', 'DROP VIEW')
  EXECUTE FUNCTION mire_internal.watch_drop();
ALTER EVENT TRIGGER mire_drop_guard ENABLE ALWAYS;
