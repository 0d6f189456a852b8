{{settings}}
UPDATE powerpole.schemas SET kept = 0
$$
{{schemas}}
{{levels}}
{{grantor}}
-- The definer's own rights, the schemas' with a pattern that means exactly that schema, and the grantors' calls.
DROP PROCEDURE IF EXISTS powerpole.install_grants
$$
CREATE PROCEDURE powerpole.install_grants()
SQL SECURITY INVOKER
BEGIN
  DECLARE v_done INT DEFAULT 0;
  DECLARE v_schema VARCHAR(64);
  DECLARE v_kept TINYINT;
  DECLARE v_privileges VARCHAR(512);
  DECLARE v_name, v_host, v_routine VARCHAR(255);
  DECLARE v_schemas CURSOR FOR SELECT name, kept FROM powerpole.schemas;
  DECLARE v_calls CURSOR FOR SELECT g.name, g.host, r.routine FROM powerpole.grantors g, (
{{public_procedures}}) r;
  DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_done = 1;
  SELECT privilege_names INTO v_privileges FROM powerpole.levels WHERE level = 'ADMIN';
  OPEN v_schemas;
  every_one: LOOP
    FETCH v_schemas INTO v_schema, v_kept;
    IF v_done THEN LEAVE every_one; END IF;
    SET @powerpole_sql = CONCAT('GRANT ', v_privileges, ' ON `', {{schema_pattern}}, '`.* TO {{definer_quoted}} WITH GRANT OPTION');
    PREPARE powerpole_statement FROM @powerpole_sql;
    EXECUTE powerpole_statement;
    IF v_kept = 0 THEN
      -- Granted a line above, so that there is surely something to revoke.
      SET @powerpole_sql = CONCAT('REVOKE ', v_privileges, ', GRANT OPTION ON `', {{schema_pattern}}, '`.* FROM {{definer_quoted}}');
      PREPARE powerpole_statement FROM @powerpole_sql;
      EXECUTE powerpole_statement;
    END IF;
  END LOOP;
  CLOSE v_schemas;
  SET v_done = 0;
  OPEN v_calls;
  every_one: LOOP
    FETCH v_calls INTO v_name, v_host, v_routine;
    IF v_done THEN LEAVE every_one; END IF;
    SET @powerpole_sql = CONCAT('GRANT EXECUTE ON PROCEDURE powerpole.', v_routine, ' TO ', QUOTE(v_name), '@', QUOTE(v_host));
    PREPARE powerpole_statement FROM @powerpole_sql;
    EXECUTE powerpole_statement;
  END LOOP;
  CLOSE v_calls;
  DEALLOCATE PREPARE powerpole_statement;
END
$$
GRANT CREATE USER, PROCESS ON *.* TO {{definer}}
$$
{{kill_grant}}
$$
GRANT SELECT (User, Host) ON mysql.user TO {{definer}}
$$
GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE, EVENT ON powerpole.* TO {{definer}}
$$
CALL powerpole.install_grants()
$$
DROP PROCEDURE powerpole.install_grants
$$
DELETE FROM powerpole.schemas WHERE kept = 0
$$
DROP EVENT IF EXISTS powerpole.expire
$$
-- Short waits: a run that meets a lock gives up and the next one comes a second later.
CREATE DEFINER={{definer}} EVENT powerpole.expire
ON SCHEDULE EVERY 1 SECOND
ON COMPLETION PRESERVE
ENABLE
DO BEGIN
  SET SESSION lock_wait_timeout = 1;
  SET SESSION innodb_lock_wait_timeout = 1;
  CALL powerpole.sweep_expired();
END
$$
REPLACE INTO powerpole.settings (name, value) VALUES ('version', '{{version}}')
$$
