-- History cannot be changed: not by the owner, not under session_replication_role = replica (ENABLE ALWAYS).
-- erase_events is the one way past these triggers.
CREATE FUNCTION mire_internal.refuse_history_change()
RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, mire, pg_temp
AS $$
BEGIN
  IF TG_OP <> 'DELETE' OR NOT mire_internal.erasing() THEN
    PERFORM mire_internal.raise_append_only(TG_OP);
  END IF;
  RETURN NULL;
END
$$;

CREATE TRIGGER history_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON mire.events
  FOR EACH STATEMENT EXECUTE FUNCTION mire_internal.refuse_history_change();
ALTER TABLE mire.events ENABLE ALWAYS TRIGGER history_is_append_only;
