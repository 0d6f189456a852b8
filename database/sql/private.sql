DROP PROCEDURE IF EXISTS powerpole.read_clock
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.read_clock(OUT o_now BIGINT)
SQL SECURITY DEFINER
BEGIN
  -- A caller may have set either of these; both decide what the clock says. Where setting the
  -- first is a privilege, the caller could not have set it either.
  DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
  SET SESSION timestamp = DEFAULT;
  SET SESSION time_zone = '+00:00';
  SET o_now = UNIX_TIMESTAMP(SYSDATE());
END
$$
-- Every public procedure begins here: nothing that the caller's session holds or was set to may reach into it.
DROP PROCEDURE IF EXISTS powerpole.reset_settings
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.reset_settings()
SQL SECURITY DEFINER
BEGIN
  -- Where setting one is a privilege, the caller could not have set it either.
  DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
  SET SESSION max_error_count = 64;
  SET SESSION lock_wait_timeout = 50;
  SET SESSION innodb_lock_wait_timeout = 50;
  SET SESSION foreign_key_checks = 1;
  SET SESSION unique_checks = 1;
  SET SESSION max_join_size = DEFAULT;
  -- After the one before, which turns it off.
  SET SESSION sql_big_selects = 1;
  SET SESSION sql_select_limit = DEFAULT;
  SET SESSION sql_safe_updates = 0;
  SET SESSION sql_auto_is_null = 0;
  SET SESSION sql_buffer_result = 0;
  SET SESSION group_concat_max_len = DEFAULT;
  SET SESSION max_sort_length = DEFAULT;
  SET SESSION tmp_table_size = DEFAULT;
  SET SESSION max_heap_table_size = DEFAULT;
  SET SESSION optimizer_switch = DEFAULT;
  SET SESSION profiling = 0;
--{mysql
  SET SESSION max_execution_time = 0;
  SET SESSION use_secondary_engine = DEFAULT;
  SET SESSION optimizer_trace = DEFAULT;
--}
--{mariadb
  SET SESSION max_session_mem_used = DEFAULT;
  SET SESSION tmp_memory_table_size = DEFAULT;
  SET SESSION tmp_disk_table_size = DEFAULT;
  SET SESSION default_regex_flags = '';
  SET SESSION skip_replication = 0;
  SET SESSION optimizer_trace = DEFAULT;
--}
END
$$
DROP PROCEDURE IF EXISTS powerpole.begin_call
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.begin_call()
SQL SECURITY DEFINER
BEGIN
  -- Before any table is read: what the caller's transaction reads it keeps. In an XA branch this is error 1399, and
  -- the call ends here. From here on each statement is its own transaction, whatever breaks the call off.
  ROLLBACK AND NO CHAIN NO RELEASE;
  SET SESSION completion_type = 0;
  SET SESSION autocommit = 1;
  SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE;
  CALL powerpole.reset_settings();
END
$$
DROP PROCEDURE IF EXISTS powerpole.note
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.note(
  p_called VARCHAR(32), p_request TEXT, p_outcome VARCHAR(32), p_detail TEXT)
SQL SECURITY DEFINER
BEGIN
  INSERT INTO powerpole.calls (called_at, id, called_by, called, request, outcome, detail)
    VALUES (UNIX_TIMESTAMP(SYSDATE()), UUID(), LEFT(USER(), 300), p_called, LEFT(p_request, 64), p_outcome, LEFT(p_detail, 128));
  COMMIT AND NO CHAIN NO RELEASE;
END
$$
DROP PROCEDURE IF EXISTS powerpole.refuse
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.refuse(
  p_called VARCHAR(32), p_request TEXT, p_code VARCHAR(32), p_detail TEXT)
SQL SECURITY DEFINER
BEGIN
  DECLARE v_message VARCHAR(128);
  ROLLBACK AND NO CHAIN NO RELEASE;
  CALL powerpole.note(p_called, p_request, p_code, p_detail);
  SET v_message = LEFT(CONCAT('powerpole ', p_code, ': ', COALESCE(p_detail, '')), 128);
  SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = v_message;
END
$$
DROP PROCEDURE IF EXISTS powerpole.caller_host
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.caller_host(p_called VARCHAR(32), p_request TEXT, OUT o_host VARCHAR(255))
SQL SECURITY DEFINER
BEGIN
  SET o_host = SUBSTRING_INDEX(USER(), '@', -1);
  IF o_host IS NULL OR CHAR_LENGTH(o_host) > 15
     OR NOT o_host REGEXP '^[0-9]{1,3}[.][0-9]{1,3}[.][0-9]{1,3}[.][0-9]{1,3}$' THEN
    CALL powerpole.refuse(p_called, p_request, 'host_refused',
      'the server did not see an IPv4 address (skip_name_resolve must be on)');
  END IF;
END
$$
DROP PROCEDURE IF EXISTS powerpole.check_ticket
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.check_ticket(
  p_called VARCHAR(32), p_purpose VARCHAR(8), p_now BIGINT, p_host VARCHAR(255),
  p_key_id TEXT, p_request TEXT, p_account TEXT, p_level TEXT, p_schemas TEXT,
  p_not_after BIGINT, p_nonce TEXT, p_mac TEXT)
SQL SECURITY DEFINER
BEGIN
  DECLARE v_inner, v_outer VARBINARY(64) DEFAULT NULL;
  DECLARE v_expected CHAR(64);
  DECLARE v_blind VARCHAR(64);
  DECLARE v_rest TEXT;
  DECLARE v_name TEXT;
  DECLARE v_found INT DEFAULT 0;
  DECLARE v_max_s BIGINT DEFAULT NULL;

  -- p_host is what caller_host saw, and never an argument of the caller: a ticket is its bastion's alone.
  -- REGEXP is asked only for what must not be there: an end anchor would let a last newline through.
  IF CONCAT(p_key_id, p_request, p_account, p_level, p_schemas, p_not_after, p_nonce, p_mac) IS NULL THEN
    CALL powerpole.refuse(p_called, p_request, 'argument_refused', 'an argument is missing');
  END IF;
  IF CHAR_LENGTH(p_request) <> 30 OR LEFT(p_request, 4) <> 'req-' OR SUBSTRING(p_request, 5) REGEXP '[^0-9a-z]' THEN
    CALL powerpole.refuse(p_called, p_request, 'argument_refused', 'not a request id');
  END IF;
  IF CHAR_LENGTH(p_key_id) NOT BETWEEN 1 AND 32 OR p_key_id REGEXP '[^0-9a-z-]' THEN
    CALL powerpole.refuse(p_called, p_request, 'argument_refused', 'not a key id');
  END IF;
  IF CHAR_LENGTH(p_account) NOT BETWEEN 1 AND 32 OR p_account REGEXP '[^0-9a-z._-]'
     OR p_account IN ('root', 'rdsadmin', 'rdsrepladmin') OR LEFT(p_account, 6) = 'mysql.'
     OR LEFT(p_account, 8) = 'mariadb.' OR LEFT(p_account, 9) = 'powerpole' THEN
    CALL powerpole.refuse(p_called, p_request, 'argument_refused', 'not an account name of ours');
  END IF;
  SELECT COUNT(*) INTO v_found FROM powerpole.levels WHERE level = p_level;
  IF v_found <> 1 OR p_level REGEXP '[^A-Z]' THEN
    CALL powerpole.refuse(p_called, p_request, 'argument_refused', 'not an access level');
  END IF;
  IF CHAR_LENGTH(p_nonce) <> 32 OR p_nonce REGEXP '[^0-9a-f]' THEN
    CALL powerpole.refuse(p_called, p_request, 'argument_refused', 'not a nonce');
  END IF;
  IF CHAR_LENGTH(p_mac) <> 64 OR p_mac REGEXP '[^0-9a-f]' THEN
    CALL powerpole.refuse(p_called, p_request, 'argument_refused', 'not a MAC');
  END IF;
  IF CHAR_LENGTH(p_schemas) NOT BETWEEN 1 AND 2080 OR p_schemas REGEXP '[^0-9A-Za-z_,]' THEN
    CALL powerpole.refuse(p_called, p_request, 'argument_refused', 'not a list of schema names');
  END IF;
  SET v_rest = CONCAT(p_schemas, ',');
  WHILE v_rest <> '' DO
    SET v_name = SUBSTRING_INDEX(v_rest, ',', 1);
    SET v_rest = SUBSTRING(v_rest, CHAR_LENGTH(v_name) + 2);
    IF CHAR_LENGTH(v_name) NOT BETWEEN 1 AND 64 THEN
      CALL powerpole.refuse(p_called, p_request, 'argument_refused', 'not a list of schema names');
    END IF;
    IF LOWER(v_name) IN ('mysql', 'sys', 'information_schema', 'performance_schema', 'powerpole') THEN
      CALL powerpole.refuse(p_called, p_request, 'schema_refused', 'a system schema');
    END IF;
    SELECT COUNT(*) INTO v_found FROM powerpole.schemas WHERE name = v_name AND kept = 1;
    IF v_found <> 1 THEN
      CALL powerpole.refuse(p_called, p_request, 'schema_refused', CONCAT(v_name, ' is not among the installed schemas'));
    END IF;
  END WHILE;

  SELECT inner_block, outer_block INTO v_inner, v_outer FROM powerpole.ticket_keys WHERE key_id = p_key_id;
  IF v_inner IS NULL THEN
    CALL powerpole.refuse(p_called, p_request, 'ticket_refused', 'the key is not known here');
  END IF;
  SET v_expected = SHA2(CONCAT(v_outer, UNHEX(SHA2(CONCAT(v_inner, CONCAT_WS(UNHEX('0A'),
    IF(p_purpose = 'open', 'powerpole-ticket-v2', 'powerpole-extension-v2'),
    p_key_id, p_request, p_account, p_host, p_level, p_schemas, p_not_after, p_nonce, '')), 256))), 256);
  -- Compared under a random hash, so that the time it takes says nothing about the MAC.
  SET v_blind = UUID();
  IF SHA2(CONCAT(v_blind, p_mac), 256) <> SHA2(CONCAT(v_blind, v_expected), 256) THEN
    CALL powerpole.refuse(p_called, p_request, 'ticket_refused', CONCAT('the MAC does not match what ', p_host, ' asks for'));
  END IF;
  IF p_not_after <= p_now THEN
    CALL powerpole.refuse(p_called, p_request, 'ticket_refused', 'the ticket has run out');
  END IF;
  SELECT CAST(value AS SIGNED) INTO v_max_s FROM powerpole.settings WHERE name = 'max_window_s';
  IF v_max_s IS NULL OR p_not_after > p_now + v_max_s THEN
    CALL powerpole.refuse(p_called, p_request, 'deadline_refused', 'the ticket reaches beyond the maximum');
  END IF;
END
$$
DROP PROCEDURE IF EXISTS powerpole.use_nonce
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.use_nonce(
  p_called VARCHAR(32), p_purpose VARCHAR(8), p_now BIGINT, p_request TEXT, p_not_after BIGINT, p_nonce TEXT)
SQL SECURITY DEFINER
BEGIN
  DECLARE EXIT HANDLER FOR 1062
    CALL powerpole.refuse(p_called, p_request, 'ticket_used', 'the ticket was used before');
  INSERT INTO powerpole.nonces (nonce, request, purpose, used_at, not_after)
    VALUES (p_nonce, p_request, p_purpose, p_now, p_not_after);
END
$$
DROP PROCEDURE IF EXISTS powerpole.kill_one
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.kill_one(p_connection BIGINT UNSIGNED)
SQL SECURITY DEFINER
BEGIN
  -- 1094: it ended by itself. Anything else shows in the count of those left.
  DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
{{kill}}
END
$$
-- Ends connections of the grantors but this one: with p_all every one, else those whose transaction is 10 s old, those that have
-- asked nothing for 10 s, and those that the event saw 30 s ago, whatever they are about (a caller can set the clock that TIME
-- goes by, and SLEEP): a bastion that went without a word would keep the one connection that all bastions share. No procedure
-- leaves a transaction that ran to its end; one that was broken off may, and START TRANSACTION WITH CONSISTENT SNAPSHOT does.
DROP PROCEDURE IF EXISTS powerpole.end_grantors
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.end_grantors(p_all TINYINT)
SQL SECURITY DEFINER
BEGIN
  DECLARE v_connection BIGINT UNSIGNED DEFAULT 0;
  DECLARE v_last BIGINT UNSIGNED DEFAULT 0;
  DECLARE v_held INT;
  DECLARE v_now, v_seen BIGINT;
  DECLARE v_from VARCHAR(300);
  CALL powerpole.read_clock(v_now);
  -- trx_started is in the system's time zone; an hour that the zone has twice shows as a start in the future.
  SET SESSION time_zone = 'SYSTEM';
  WHILE v_connection IS NOT NULL DO
    SET v_connection = NULL;
    SELECT MIN(ID) INTO v_connection FROM information_schema.PROCESSLIST
      WHERE ID > v_last AND ID <> CONNECTION_ID()
        AND CONVERT(USER USING utf8mb4) COLLATE utf8mb4_bin IN (SELECT name FROM powerpole.grantors);
    IF v_connection IS NOT NULL THEN
      SET v_last = v_connection, v_held = p_all;
      IF p_all = 0 THEN
        SELECT COUNT(*) INTO v_held FROM information_schema.INNODB_TRX
          WHERE trx_mysql_thread_id = v_connection
            AND (trx_started < SYSDATE() - INTERVAL 10 SECOND OR trx_started > SYSDATE() + INTERVAL 60 SECOND);
        SELECT v_held + COUNT(*) INTO v_held FROM information_schema.PROCESSLIST
          WHERE ID = v_connection AND COMMAND = 'Sleep' AND TIME > 10;
        SET v_seen = NULL;
        SELECT COALESCE(MAX(HOST), '') INTO v_from FROM information_schema.PROCESSLIST WHERE ID = v_connection;
        SELECT MAX(seen_at) INTO v_seen FROM powerpole.grantor_logins WHERE id = v_connection AND called_from = v_from;
        IF v_seen IS NULL THEN
          REPLACE INTO powerpole.grantor_logins (id, called_from, seen_at) VALUES (v_connection, v_from, v_now);
          COMMIT AND NO CHAIN NO RELEASE;
        ELSEIF v_seen NOT BETWEEN v_now - 30 AND v_now THEN
          SET v_held = 1;
        END IF;
      END IF;
      IF v_held > 0 THEN CALL powerpole.kill_one(v_connection); END IF;
    END IF;
  END WHILE;
  SET SESSION time_zone = '+00:00';
  IF p_all = 1 THEN
    DO SLEEP(0.2);
  ELSE
    DELETE FROM powerpole.grantor_logins WHERE id NOT IN (SELECT ID FROM information_schema.PROCESSLIST);
    COMMIT AND NO CHAIN NO RELEASE;
  END IF;
END
$$
DROP PROCEDURE IF EXISTS powerpole.end_grantors_quietly
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.end_grantors_quietly()
SQL SECURITY DEFINER
BEGIN
  DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
  CALL powerpole.end_grantors(0);
END
$$
DROP PROCEDURE IF EXISTS powerpole.attempt_once
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.attempt_once(p_sql TEXT, OUT o_error VARCHAR(256))
SQL SECURITY DEFINER
BEGIN
  DECLARE v_errno INT;
  DECLARE v_text TEXT;
  DECLARE EXIT HANDLER FOR SQLEXCEPTION
  BEGIN
    GET DIAGNOSTICS CONDITION 1 v_errno = MYSQL_ERRNO, v_text = MESSAGE_TEXT;
    -- A session may keep no errors (max_error_count): one that is not told is an error all the same.
    SET o_error = LEFT(CONCAT(COALESCE(v_errno, 0), ' ', COALESCE(v_text, 'an error that the server did not tell')), 256);
    SET @powerpole_sql = NULL;
  END;
  SET o_error = NULL;
  SET @powerpole_sql = p_sql;
  PREPARE powerpole_statement FROM @powerpole_sql;
  SET @powerpole_sql = NULL;
  EXECUTE powerpole_statement;
  DEALLOCATE PREPARE powerpole_statement;
END
$$
DROP PROCEDURE IF EXISTS powerpole.attempt
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.attempt(p_sql TEXT, OUT o_error VARCHAR(256))
SQL SECURITY DEFINER
BEGIN
  CALL powerpole.attempt_once(p_sql, o_error);
  IF LEFT(o_error, 5) = '1461 ' THEN
    -- Whoever holds max_prepared_stmt_count statements holds them until the connection ends. Our own callers hold none.
    CALL powerpole.end_grantors(1);
    CALL powerpole.attempt_once(p_sql, o_error);
  END IF;
END
$$
DROP PROCEDURE IF EXISTS powerpole.kill_all
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.kill_all(p_account TEXT, p_host TEXT, OUT o_killed INT, OUT o_left INT)
SQL SECURITY DEFINER
BEGIN
  DECLARE v_round INT DEFAULT 0;
  DECLARE v_connection BIGINT UNSIGNED;
  DECLARE v_last BIGINT UNSIGNED;
  SET o_killed = 0, o_left = 1;
  WHILE o_left > 0 AND v_round < 20 DO
    SET v_last = 0, v_connection = 0;
    WHILE v_connection IS NOT NULL DO
      -- A SELECT that MySQL cannot check the rights of in time sets nothing and is no error: it must end the loop too.
      SET v_connection = NULL;
      SELECT MIN(ID) INTO v_connection FROM information_schema.PROCESSLIST
        WHERE USER = p_account AND SUBSTRING_INDEX(HOST, ':', 1) = p_host AND ID > v_last;
      IF v_connection IS NOT NULL THEN
        CALL powerpole.kill_one(v_connection);
        SET v_last = v_connection;
        IF v_round = 0 THEN SET o_killed = o_killed + 1; END IF;
      END IF;
    END WHILE;
    IF v_last > 0 THEN DO SLEEP(0.05); END IF;
    SELECT COUNT(*) INTO o_left FROM information_schema.PROCESSLIST
      WHERE USER = p_account AND SUBSTRING_INDEX(HOST, ':', 1) = p_host;
    SET v_round = v_round + 1;
  END WHILE;
END
$$
DROP PROCEDURE IF EXISTS powerpole.account_exists
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.account_exists(p_account TEXT, p_host TEXT, OUT o_exists INT)
SQL SECURITY DEFINER
BEGIN
  SELECT COUNT(*) INTO o_exists FROM mysql.user
    WHERE CONVERT(User USING utf8mb4) COLLATE utf8mb4_bin = p_account
      AND CONVERT(Host USING utf8mb4) COLLATE utf8mb4_bin = p_host;
END
$$
-- Names what has the account as its definer, as far as our definer sees it: routines and views of the installed
-- schemas. Triggers and events are seen by their own rights alone; `powerpole database check` names those too.
DROP PROCEDURE IF EXISTS powerpole.objects_of
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.objects_of(p_account TEXT, p_host TEXT, OUT o_objects VARCHAR(256))
SQL SECURITY DEFINER
BEGIN
  DECLARE v_object TEXT;
  DECLARE v_done INT DEFAULT 0;
  DECLARE v_objects CURSOR FOR
    SELECT CONCAT(LOWER(ROUTINE_TYPE), ' ', ROUTINE_SCHEMA, '.', ROUTINE_NAME) FROM information_schema.ROUTINES
      WHERE CONVERT(DEFINER USING utf8mb4) COLLATE utf8mb4_bin = CONCAT(p_account, '@', p_host)
    UNION ALL
    SELECT CONCAT('view ', TABLE_SCHEMA, '.', TABLE_NAME) FROM information_schema.VIEWS
      WHERE CONVERT(DEFINER USING utf8mb4) COLLATE utf8mb4_bin = CONCAT(p_account, '@', p_host);
  DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_done = 1;
  SET o_objects = '';
  OPEN v_objects;
  every_one: LOOP
    FETCH v_objects INTO v_object;
    IF v_done OR CHAR_LENGTH(o_objects) > 200 THEN LEAVE every_one; END IF;
    SET o_objects = LEFT(CONCAT(o_objects, IF(o_objects = '', '', ', '), v_object), 256);
  END LOOP;
  CLOSE v_objects;
END
$$
-- lock -> revoke -> kill until none is left -> drop -> read back. Each step is tried whatever became of the
-- one before; what is not done stays 'closing' and is tried again by the event.
DROP PROCEDURE IF EXISTS powerpole.close_one
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.close_one(p_id BIGINT UNSIGNED, p_reason VARCHAR(64))
SQL SECURITY DEFINER
one: BEGIN
  DECLARE v_account VARCHAR(32) DEFAULT NULL;
  DECLARE v_host VARCHAR(15);
  DECLARE v_name VARCHAR(64);
  DECLARE v_exists, v_left, v_killed INT DEFAULT 0;
  DECLARE v_errors VARCHAR(512) DEFAULT '';
  DECLARE v_error, v_objects VARCHAR(256);
  DECLARE v_now BIGINT;
  -- A caller may break off its own call and begin again without end: what it claims keeps the event away for 2 s
  -- beyond the account's end and no longer.
  DECLARE v_event TINYINT DEFAULT p_reason IN ('again', 'lease', 'deadline');
  CALL powerpole.read_clock(v_now);
  UPDATE powerpole.accounts
    SET state = 'closing', close_reason = COALESCE(close_reason, p_reason),
      claimed_until = IF(v_event, v_now + 4, GREATEST(claimed_until,
        LEAST(v_now + 4, LEAST(COALESCE(deadline, not_after), not_after, lease_until) + 2)))
    WHERE id = p_id AND state IN ('opening', 'open', 'closing');
  COMMIT AND NO CHAIN NO RELEASE;
  SELECT account, host INTO v_account, v_host FROM powerpole.accounts WHERE id = p_id AND state = 'closing';
  IF v_account IS NULL THEN LEAVE one; END IF;
  -- Both parts were checked letter by letter before they came into the registry.
  SET v_name = CONCAT('''', v_account, '''@''', v_host, '''');
  CALL powerpole.account_exists(v_account, v_host, v_exists);
  IF v_exists > 0 THEN
    CALL powerpole.attempt(CONCAT('ALTER USER ', v_name, ' ACCOUNT LOCK'), v_error);
    SET v_errors = LEFT(CONCAT(v_errors, COALESCE(CONCAT('lock: ', v_error, '; '), '')), 512);
    CALL powerpole.attempt(CONCAT('REVOKE ALL PRIVILEGES, GRANT OPTION FROM ', v_name), v_error);
    SET v_errors = LEFT(CONCAT(v_errors, COALESCE(CONCAT('revoke: ', v_error, '; '), '')), 512);
  END IF;
  CALL powerpole.kill_all(v_account, v_host, v_killed, v_left);
  UPDATE powerpole.accounts SET connections_killed = connections_killed + v_killed WHERE id = p_id;
  COMMIT AND NO CHAIN NO RELEASE;
  IF v_left > 0 THEN
    SET v_errors = LEFT(CONCAT(v_errors, 'kill: ', v_left, ' connections left; '), 512);
  END IF;
  IF v_exists > 0 THEN
    CALL powerpole.attempt(CONCAT('DROP USER IF EXISTS ', v_name), v_error);
    SET v_errors = LEFT(CONCAT(v_errors, COALESCE(CONCAT('drop: ', v_error, '; '), '')), 512);
    IF LEFT(v_error, 5) = '4006 ' THEN
      CALL powerpole.objects_of(v_account, v_host, v_objects);
      SET v_errors = LEFT(CONCAT(v_errors, 'objects: ', IF(v_objects = '', 'see powerpole database check', v_objects), '; '), 512);
    END IF;
  END IF;
  CALL powerpole.account_exists(v_account, v_host, v_exists);
  SELECT COUNT(*) INTO v_left FROM information_schema.PROCESSLIST
    WHERE USER = v_account AND SUBSTRING_INDEX(HOST, ':', 1) = v_host;
  CALL powerpole.read_clock(v_now);
  IF v_exists = 0 AND v_left = 0 THEN
    UPDATE powerpole.accounts
      SET state = 'closed', closed_at = v_now, closed_by = LEFT(USER(), 300), last_error = NULLIF(v_errors, '')
      WHERE id = p_id AND state = 'closing';
  ELSE
    UPDATE powerpole.accounts
      SET last_error = LEFT(CONCAT(v_errors, 'read back: account ', v_exists, ', connections ', v_left), 512),
          claimed_until = IF(v_event, v_now + 2, claimed_until)
      WHERE id = p_id AND state = 'closing';
  END IF;
  COMMIT AND NO CHAIN NO RELEASE;
END
$$
DROP PROCEDURE IF EXISTS powerpole.close_quietly
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.close_quietly(p_id BIGINT UNSIGNED, p_reason VARCHAR(64))
SQL SECURITY DEFINER
BEGIN
  DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
  CALL powerpole.close_one(p_id, p_reason);
END
$$
-- MySQL ends a login well that began before its account was locked and dropped, and until then does not say whose it is: such a
-- session has no rights, belongs to nobody, and comes within connect_timeout of the account's end.
DROP PROCEDURE IF EXISTS powerpole.end_latecomers
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.end_latecomers(p_now BIGINT)
SQL SECURITY DEFINER
BEGIN
  DECLARE v_id BIGINT UNSIGNED DEFAULT 0;
  DECLARE v_last BIGINT UNSIGNED DEFAULT 0;
  DECLARE v_account VARCHAR(32);
  DECLARE v_host VARCHAR(15);
  DECLARE v_again, v_killed, v_left INT DEFAULT 0;
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN END;
  WHILE v_id IS NOT NULL DO
    SET v_id = NULL;
    SELECT MIN(id) INTO v_id FROM powerpole.accounts
      WHERE closed_at >= p_now - @@GLOBAL.connect_timeout - 10 AND state = 'closed' AND id > v_last;
    IF v_id IS NOT NULL THEN
      SET v_last = v_id;
      SELECT account, host INTO v_account, v_host FROM powerpole.accounts WHERE id = v_id;
      -- Another grant of the same person may have the same address by now.
      SELECT COUNT(*) INTO v_again FROM powerpole.accounts
        WHERE account = v_account AND host = v_host AND state IN ('opening', 'open', 'closing');
      IF v_again = 0 THEN
        CALL powerpole.kill_all(v_account, v_host, v_killed, v_left);
        UPDATE powerpole.accounts SET connections_killed = connections_killed + v_killed WHERE id = v_id AND v_killed > 0;
        COMMIT AND NO CHAIN NO RELEASE;
      END IF;
    END IF;
  END WHILE;
END
$$
DROP PROCEDURE IF EXISTS powerpole.sweep_expired
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.sweep_expired()
SQL SECURITY DEFINER
BEGIN
  DECLARE v_start, v_now BIGINT;
  DECLARE v_last BIGINT UNSIGNED DEFAULT 0;
  DECLARE v_id BIGINT UNSIGNED DEFAULT 0;
  DECLARE v_reason VARCHAR(64);
  DECLARE v_error VARCHAR(256);
  -- First: what they hold may be what the rest waits for, prepared statements too.
  CALL powerpole.end_grantors_quietly();
  CALL powerpole.attempt('DO 1', v_error);
  CALL powerpole.read_clock(v_start);
  SET v_now = v_start;
  -- Ids only grow within a run and a run is bounded: an account that cannot be closed is met once, then
  -- the rest follow, and the next run begins at the front again.
  WHILE v_id IS NOT NULL AND v_now <= v_start + 4 DO
    SET v_id = NULL;
    SELECT MIN(id) INTO v_id FROM powerpole.accounts
      WHERE state IN ('opening', 'open', 'closing') AND id > v_last AND claimed_until < v_now
        AND (state = 'closing' OR LEAST(COALESCE(deadline, not_after), not_after, lease_until) <= v_now);
    IF v_id IS NOT NULL THEN
      SET v_last = v_id;
      SELECT CASE WHEN state = 'closing' THEN 'again'
                  WHEN lease_until < COALESCE(deadline, not_after) THEN 'lease'
                  ELSE 'deadline' END
        INTO v_reason FROM powerpole.accounts WHERE id = v_id;
      CALL powerpole.close_quietly(v_id, v_reason);
    END IF;
    CALL powerpole.read_clock(v_now);
  END WHILE;
  CALL powerpole.end_latecomers(v_now);
  IF v_now MOD 60 = 0 THEN
    DELETE FROM powerpole.nonces WHERE not_after < v_now - 86400 LIMIT 500;
    DELETE FROM powerpole.calls WHERE called_at < v_now - 34560000 LIMIT 500;
  END IF;
  -- Last, so that the stamp says that the whole run worked.
  UPDATE powerpole.heartbeat SET ran_at = v_now WHERE id = 1;
  COMMIT AND NO CHAIN NO RELEASE;
END
$$
