DROP PROCEDURE IF EXISTS powerpole.open_account
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.open_account(
  p_key_id TEXT, p_request TEXT, p_account TEXT, p_level TEXT, p_schemas TEXT,
  p_not_after BIGINT, p_nonce TEXT, p_mac TEXT, p_authentication TEXT)
SQL SECURITY DEFINER
this: BEGIN
  DECLARE v_now, v_ran, v_lease_s BIGINT DEFAULT NULL;
  DECLARE v_connections INT DEFAULT NULL;
  DECLARE v_host VARCHAR(255);
  DECLARE v_id BIGINT UNSIGNED DEFAULT NULL;
  DECLARE v_state VARCHAR(16) DEFAULT NULL;
  DECLARE v_exists INT DEFAULT 0;
  DECLARE v_audit VARCHAR(8) DEFAULT NULL;
  DECLARE v_name VARCHAR(64);
  DECLARE v_privileges VARCHAR(512) DEFAULT NULL;
  DECLARE v_error VARCHAR(256) DEFAULT NULL;
  DECLARE v_rest, v_schema TEXT;
  DECLARE v_until, v_not_after BIGINT;
  -- An error may come between BEGIN and COMMIT: it leaves no lock behind on the caller's connection.
  DECLARE EXIT HANDLER FOR SQLEXCEPTION
  BEGIN
    ROLLBACK AND NO CHAIN NO RELEASE;
    RESIGNAL;
  END;

  CALL powerpole.begin_call();
  CALL powerpole.read_clock(v_now);
  CALL powerpole.caller_host('open_account', p_request, v_host);
  CALL powerpole.check_ticket('open_account', 'open', v_now, v_host,
    p_key_id, p_request, p_account, p_level, p_schemas, p_not_after, p_nonce, p_mac);
  IF p_authentication IS NULL OR {{authentication_is_wrong}} THEN
    CALL powerpole.refuse('open_account', p_request, 'argument_refused', 'not an authentication string of {{plugin}}');
  END IF;
  SELECT ran_at INTO v_ran FROM powerpole.heartbeat WHERE id = 1;
  IF v_ran IS NULL OR v_ran < v_now - 10 THEN
    CALL powerpole.refuse('open_account', p_request, 'event_not_running',
      'the expiry event has not run for 10 s (is event_scheduler on?)');
  END IF;
  SELECT MAX(value) INTO v_audit FROM powerpole.settings WHERE name = 'require_audit';
  IF v_audit = '1' THEN
    SELECT COUNT(*) INTO v_exists FROM {{global_variables}}
      WHERE LOWER(VARIABLE_NAME) = 'server_audit_logging' AND UPPER(VARIABLE_VALUE) IN ('ON', '1');
    IF v_exists = 0 THEN
      CALL powerpole.refuse('open_account', p_request, 'audit_off', 'the policy demands the audit log and it is off');
    END IF;
  END IF;
  SELECT CAST(value AS SIGNED) INTO v_lease_s FROM powerpole.settings WHERE name = 'lease_s';
  SELECT CAST(value AS SIGNED) INTO v_connections FROM powerpole.settings WHERE name = 'max_connections';

  SELECT id, state INTO v_id, v_state FROM powerpole.accounts
    WHERE request = p_request AND nonce = p_nonce AND account = p_account AND host = v_host
      AND authentication = SHA2(p_authentication, 256) AND state IN ('opening', 'open')
    ORDER BY id DESC LIMIT 1;
  SET v_name = CONCAT('''', p_account, '''@''', v_host, '''');
  IF v_id IS NULL THEN
    START TRANSACTION;
    CALL powerpole.use_nonce('open_account', 'open', v_now, p_request, p_not_after, p_nonce);
    CALL powerpole.account_exists(p_account, v_host, v_exists);
    IF v_exists = 0 THEN
      SELECT COUNT(*) INTO v_exists FROM powerpole.accounts
        WHERE account = p_account AND host = v_host AND state IN ('opening', 'open', 'closing');
    END IF;
    IF v_exists > 0 THEN
      CALL powerpole.refuse('open_account', p_request, 'account_exists', 'an account of that name and host exists');
    END IF;
    UPDATE powerpole.counter SET last = last + 1 WHERE id = 1;
    SELECT last INTO v_id FROM powerpole.counter WHERE id = 1;
    INSERT INTO powerpole.accounts (id, request, account, host, level, schema_names, state, nonce, key_id, authentication,
        opened_by, opened_at, not_after, lease_until)
      VALUES (v_id, p_request, p_account, v_host, p_level, p_schemas, 'opening', p_nonce, p_key_id,
        SHA2(p_authentication, 256), LEFT(USER(), 300), v_now, p_not_after, v_now + v_lease_s);
    -- Committed before the account exists: whatever stops us from here on, the event finds the row.
    COMMIT AND NO CHAIN NO RELEASE;
    CALL powerpole.attempt(CONCAT('CREATE USER ', {{create_user}}), v_error);
    IF LEFT(v_error, 5) = '1396 ' THEN
      -- Someone made it between the look and the making: it is not ours, and the event must not touch it.
      UPDATE powerpole.accounts SET state = 'refused', closed_at = v_now, last_error = v_error WHERE id = v_id;
      COMMIT AND NO CHAIN NO RELEASE;
      CALL powerpole.refuse('open_account', p_request, 'account_exists', 'an account of that name and host exists');
    END IF;
  ELSEIF v_state = 'opening' THEN
    CALL powerpole.attempt(CONCAT('CREATE USER IF NOT EXISTS ', {{create_user}}), v_error);
  END IF;

  IF v_state IS NULL OR v_state = 'opening' THEN
    SELECT privilege_names INTO v_privileges FROM powerpole.levels WHERE level = p_level;
    SET v_rest = CONCAT(p_schemas, ',');
    WHILE v_rest <> '' AND v_error IS NULL DO
      SET v_schema = SUBSTRING_INDEX(v_rest, ',', 1);
      SET v_rest = SUBSTRING(v_rest, CHAR_LENGTH(v_schema) + 2);
      CALL powerpole.attempt(CONCAT('GRANT ', v_privileges, ' ON `', {{schema_pattern}}, '`.* TO ', v_name), v_error);
    END WHILE;
    IF v_error IS NULL THEN
      CALL powerpole.attempt(CONCAT('ALTER USER ', v_name, ' ACCOUNT UNLOCK'), v_error);
    END IF;
    IF v_error IS NOT NULL THEN
      UPDATE powerpole.accounts SET last_error = v_error WHERE id = v_id;
      COMMIT AND NO CHAIN NO RELEASE;
      CALL powerpole.close_quietly(v_id, 'not opened');
      CALL powerpole.refuse('open_account', p_request, 'open_failed', v_error);
    END IF;
    UPDATE powerpole.accounts SET state = 'open' WHERE id = v_id AND state = 'opening';
    COMMIT AND NO CHAIN NO RELEASE;
    -- The event may have closed it in the meantime: what it closed must not be unlocked behind its back.
    SELECT state INTO v_state FROM powerpole.accounts WHERE id = v_id;
    IF v_state <> 'open' THEN
      CALL powerpole.close_quietly(v_id, 'not opened');
      CALL powerpole.refuse('open_account', p_request, 'open_failed', 'it was closed while it was opened');
    END IF;
    CALL powerpole.note('open_account', p_request, 'opened', v_name);
  ELSE
    CALL powerpole.note('open_account', p_request, 'repeated', v_name);
  END IF;
  SELECT lease_until, not_after INTO v_until, v_not_after FROM powerpole.accounts WHERE id = v_id;
  COMMIT AND NO CHAIN NO RELEASE;
  SELECT p_account AS account, v_host AS host, v_until AS lease_until, v_not_after AS not_after;
END
$$
-- The caller's own account: same request, same ticket's nonce, same address. Nobody else's can be named.
DROP PROCEDURE IF EXISTS powerpole.find_own
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.find_own(
  p_called VARCHAR(32), p_request TEXT, p_nonce TEXT, OUT o_id BIGINT UNSIGNED, OUT o_state VARCHAR(16), OUT o_end BIGINT)
SQL SECURITY DEFINER
BEGIN
  DECLARE v_host VARCHAR(255);
  CALL powerpole.caller_host(p_called, p_request, v_host);
  SET o_id = NULL;
  SELECT id, state, LEAST(COALESCE(deadline, not_after), not_after, lease_until) INTO o_id, o_state, o_end
    FROM powerpole.accounts
    WHERE request = p_request AND nonce = p_nonce AND host = v_host AND state <> 'refused'
    ORDER BY id DESC LIMIT 1;
  IF o_id IS NULL THEN
    CALL powerpole.refuse(p_called, p_request, 'account_not_ours', 'no account of this request and ticket from this address');
  END IF;
END
$$
DROP PROCEDURE IF EXISTS powerpole.renew_lease
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.renew_lease(p_request TEXT, p_nonce TEXT)
SQL SECURITY DEFINER
BEGIN
  DECLARE v_id BIGINT UNSIGNED;
  DECLARE v_state VARCHAR(16);
  DECLARE v_end, v_now, v_lease_s, v_until BIGINT;
  CALL powerpole.begin_call();
  CALL powerpole.read_clock(v_now);
  CALL powerpole.find_own('renew_lease', p_request, p_nonce, v_id, v_state, v_end);
  SELECT CAST(value AS SIGNED) INTO v_lease_s FROM powerpole.settings WHERE name = 'lease_s';
  -- An end that has passed stays passed, whether or not the event has come by.
  UPDATE powerpole.accounts SET lease_until = v_now + v_lease_s
    WHERE id = v_id AND state = 'open' AND LEAST(COALESCE(deadline, not_after), not_after, lease_until) > v_now;
  COMMIT AND NO CHAIN NO RELEASE;
  IF v_state <> 'open' OR v_end <= v_now THEN
    CALL powerpole.refuse('renew_lease', p_request, 'account_not_open', CONCAT('it is ', v_state, ' or past its end'));
  END IF;
  SELECT lease_until, LEAST(COALESCE(deadline, not_after), not_after, lease_until) INTO v_until, v_end
    FROM powerpole.accounts WHERE id = v_id;
  COMMIT AND NO CHAIN NO RELEASE;
  SELECT v_until AS lease_until, v_end AS ends_at;
END
$$
DROP PROCEDURE IF EXISTS powerpole.set_deadline
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.set_deadline(p_request TEXT, p_nonce TEXT, p_deadline BIGINT)
SQL SECURITY DEFINER
BEGIN
  DECLARE v_id BIGINT UNSIGNED;
  DECLARE v_state VARCHAR(16);
  DECLARE v_end, v_now, v_not_after, v_deadline BIGINT;
  -- An error may come between BEGIN and COMMIT: it leaves no lock behind on the caller's connection.
  DECLARE EXIT HANDLER FOR SQLEXCEPTION
  BEGIN
    ROLLBACK AND NO CHAIN NO RELEASE;
    RESIGNAL;
  END;
  CALL powerpole.begin_call();
  CALL powerpole.read_clock(v_now);
  CALL powerpole.find_own('set_deadline', p_request, p_nonce, v_id, v_state, v_end);
  IF v_state <> 'open' OR v_end <= v_now THEN
    CALL powerpole.refuse('set_deadline', p_request, 'account_not_open', CONCAT('it is ', v_state, ' or past its end'));
  END IF;
  START TRANSACTION;
  SELECT not_after, deadline INTO v_not_after, v_deadline FROM powerpole.accounts WHERE id = v_id FOR UPDATE;
  IF p_deadline IS NULL OR p_deadline <= v_now THEN
    CALL powerpole.refuse('set_deadline', p_request, 'deadline_refused', 'it lies in the past');
  END IF;
  IF p_deadline > v_not_after THEN
    CALL powerpole.refuse('set_deadline', p_request, 'deadline_refused', 'it lies beyond what the ticket allows');
  END IF;
  IF p_deadline > v_deadline THEN
    CALL powerpole.refuse('set_deadline', p_request, 'deadline_refused', 'a set deadline moves later only with a ticket');
  END IF;
  UPDATE powerpole.accounts SET deadline = p_deadline WHERE id = v_id AND state = 'open';
  COMMIT AND NO CHAIN NO RELEASE;
  CALL powerpole.note('set_deadline', p_request, 'set', CONCAT('', p_deadline));
  SELECT deadline, LEAST(deadline, not_after, lease_until) INTO v_deadline, v_end FROM powerpole.accounts WHERE id = v_id;
  COMMIT AND NO CHAIN NO RELEASE;
  SELECT v_deadline AS deadline, v_end AS ends_at;
END
$$
DROP PROCEDURE IF EXISTS powerpole.extend_account
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.extend_account(
  p_key_id TEXT, p_request TEXT, p_account TEXT, p_level TEXT, p_schemas TEXT,
  p_not_after BIGINT, p_nonce TEXT, p_mac TEXT, p_deadline BIGINT)
SQL SECURITY DEFINER
this: BEGIN
  DECLARE v_now, v_opened_at, v_max_s, v_deadline BIGINT DEFAULT NULL;
  DECLARE v_host VARCHAR(255);
  DECLARE v_id BIGINT UNSIGNED DEFAULT NULL;
  DECLARE v_used INT DEFAULT 0;
  DECLARE v_end BIGINT;
  -- An error may come between BEGIN and COMMIT: it leaves no lock behind on the caller's connection.
  DECLARE EXIT HANDLER FOR SQLEXCEPTION
  BEGIN
    ROLLBACK AND NO CHAIN NO RELEASE;
    RESIGNAL;
  END;
  CALL powerpole.begin_call();
  CALL powerpole.read_clock(v_now);
  CALL powerpole.caller_host('extend_account', p_request, v_host);
  CALL powerpole.check_ticket('extend_account', 'extend', v_now, v_host,
    p_key_id, p_request, p_account, p_level, p_schemas, p_not_after, p_nonce, p_mac);
  START TRANSACTION;
  SELECT id, opened_at, deadline INTO v_id, v_opened_at, v_deadline FROM powerpole.accounts
    WHERE request = p_request AND account = p_account AND host = v_host AND level = p_level
      AND schema_names = p_schemas AND state = 'open'
      AND LEAST(COALESCE(deadline, not_after), not_after, lease_until) > v_now
    ORDER BY id DESC LIMIT 1 FOR UPDATE;
  IF v_id IS NULL THEN
    CALL powerpole.refuse('extend_account', p_request, 'account_not_open', 'no open account of this ticket from this address');
  END IF;
  SELECT COUNT(*) INTO v_used FROM powerpole.nonces
    WHERE nonce = p_nonce AND purpose = 'extend' AND request = p_request;
  IF v_used = 1 AND v_deadline = p_deadline THEN
    ROLLBACK AND NO CHAIN NO RELEASE;
    CALL powerpole.note('extend_account', p_request, 'repeated', CONCAT('', p_deadline));
  ELSE
    CALL powerpole.use_nonce('extend_account', 'extend', v_now, p_request, p_not_after, p_nonce);
    SELECT CAST(value AS SIGNED) INTO v_max_s FROM powerpole.settings WHERE name = 'max_window_s';
    IF p_deadline IS NULL OR p_deadline <= v_now OR p_deadline > p_not_after OR p_deadline > v_opened_at + v_max_s THEN
      CALL powerpole.refuse('extend_account', p_request, 'deadline_refused', 'past, beyond the ticket or beyond the maximum');
    END IF;
    UPDATE powerpole.accounts SET deadline = p_deadline, not_after = GREATEST(not_after, p_not_after) WHERE id = v_id;
    COMMIT AND NO CHAIN NO RELEASE;
    CALL powerpole.note('extend_account', p_request, 'extended', CONCAT('', p_deadline));
  END IF;
  SELECT deadline, LEAST(deadline, not_after, lease_until) INTO v_deadline, v_end FROM powerpole.accounts WHERE id = v_id;
  COMMIT AND NO CHAIN NO RELEASE;
  SELECT v_deadline AS deadline, v_end AS ends_at;
END
$$
DROP PROCEDURE IF EXISTS powerpole.close_account
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.close_account(p_request TEXT, p_nonce TEXT)
SQL SECURITY DEFINER
BEGIN
  DECLARE v_id BIGINT UNSIGNED;
  DECLARE v_state VARCHAR(16);
  DECLARE v_end BIGINT;
  CALL powerpole.begin_call();
  CALL powerpole.find_own('close_account', p_request, p_nonce, v_id, v_state, v_end);
  IF v_state <> 'closed' THEN
    CALL powerpole.close_one(v_id, 'asked');
    CALL powerpole.note('close_account', p_request, 'closing', NULL);
  END IF;
  CALL powerpole.account_state(p_request, p_nonce);
END
$$
-- Writes nothing, so it works on a reader too: ends the account's connections on the instance it is called on.
DROP PROCEDURE IF EXISTS powerpole.end_connections
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.end_connections(p_request TEXT, p_nonce TEXT)
SQL SECURITY DEFINER
BEGIN
  DECLARE v_account VARCHAR(32) DEFAULT NULL;
  DECLARE v_host VARCHAR(255);
  DECLARE v_killed, v_left INT DEFAULT 0;
  CALL powerpole.begin_call();
  CALL powerpole.caller_host('end_connections', p_request, v_host);
  SELECT MAX(account) INTO v_account FROM powerpole.accounts
    WHERE request = p_request AND nonce = p_nonce AND host = v_host AND state <> 'refused';
  IF v_account IS NULL THEN
    CALL powerpole.refuse('end_connections', p_request, 'account_not_ours', 'no account of this request and ticket from this address');
  END IF;
  CALL powerpole.kill_all(v_account, v_host, v_killed, v_left);
  COMMIT AND NO CHAIN NO RELEASE;
  SELECT v_killed AS connections_killed, v_left AS connections_left;
END
$$
DROP PROCEDURE IF EXISTS powerpole.account_state
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.account_state(p_request TEXT, p_nonce TEXT)
SQL SECURITY DEFINER
BEGIN
  DECLARE v_id BIGINT UNSIGNED;
  DECLARE v_state VARCHAR(16);
  DECLARE v_end, v_now, v_until, v_deadline, v_closed_at BIGINT;
  DECLARE v_account VARCHAR(32);
  DECLARE v_host VARCHAR(15);
  DECLARE v_exists, v_left INT DEFAULT 0;
  DECLARE v_killed INT UNSIGNED;
  DECLARE v_reason VARCHAR(64);
  DECLARE v_error VARCHAR(512);
  CALL powerpole.begin_call();
  CALL powerpole.read_clock(v_now);
  CALL powerpole.find_own('account_state', p_request, p_nonce, v_id, v_state, v_end);
  SELECT account, host INTO v_account, v_host FROM powerpole.accounts WHERE id = v_id;
  CALL powerpole.account_exists(v_account, v_host, v_exists);
  SELECT COUNT(*) INTO v_left FROM information_schema.PROCESSLIST
    WHERE USER = v_account AND SUBSTRING_INDEX(HOST, ':', 1) = v_host;
  SELECT state, connections_killed, lease_until, deadline, closed_at, close_reason, last_error
    INTO v_state, v_killed, v_until, v_deadline, v_closed_at, v_reason, v_error
    FROM powerpole.accounts WHERE id = v_id;
  COMMIT AND NO CHAIN NO RELEASE;
  SELECT v_state AS state, v_exists AS account_exists, v_left AS connections, v_killed AS connections_killed,
         v_end AS ends_at, v_until AS lease_until, v_deadline AS deadline, v_closed_at AS closed_at,
         v_reason AS close_reason, v_error AS last_error, v_now AS server_time;
END
$$
-- Closes what is past its end and nothing else, then names what it could not close, in one row. While the event runs a
-- grantor's call closes nothing: one that calls without end would take the server's lock on accounts from the event.
DROP PROCEDURE IF EXISTS powerpole.sweep
$$
CREATE DEFINER={{definer}} PROCEDURE powerpole.sweep()
SQL SECURITY DEFINER
BEGIN
  DECLARE v_now, v_ran BIGINT;
  DECLARE v_id BIGINT UNSIGNED DEFAULT 0;
  DECLARE v_last BIGINT UNSIGNED DEFAULT 0;
  DECLARE v_count, v_grantor INT DEFAULT 0;
  DECLARE v_left VARCHAR(1024) DEFAULT '';
  DECLARE v_line VARCHAR(600);
  CALL powerpole.begin_call();
  CALL powerpole.read_clock(v_now);
  SELECT ran_at INTO v_ran FROM powerpole.heartbeat WHERE id = 1;
  SELECT COUNT(*) INTO v_grantor FROM powerpole.grantors WHERE name = SUBSTRING_INDEX(USER(), '@', 1);
  WHILE v_id IS NOT NULL DO
    SET v_id = NULL;
    SELECT MIN(id) INTO v_id FROM powerpole.accounts
      WHERE id > v_last AND (state = 'closing' OR (state IN ('opening', 'open')
        AND LEAST(COALESCE(deadline, not_after), not_after, lease_until) <= v_now));
    IF v_id IS NOT NULL THEN
      SET v_last = v_id, v_line = NULL;
      IF v_grantor = 0 OR v_ran < v_now - 10 THEN
        CALL powerpole.close_quietly(v_id, 'sweep');
      END IF;
      SELECT CONCAT(request, ' ', account, '@', host, ' ', state, COALESCE(CONCAT(': ', last_error), '')) INTO v_line
        FROM powerpole.accounts WHERE id = v_id AND state IN ('opening', 'open', 'closing');
      IF v_line IS NOT NULL THEN
        SET v_count = v_count + 1;
        SET v_left = LEFT(CONCAT(v_left, IF(v_left = '', '', ' | '), v_line), 1024);
      END IF;
    END IF;
  END WHILE;
  CALL powerpole.note('sweep', NULL, 'swept', NULL);
  COMMIT AND NO CHAIN NO RELEASE;
  SELECT v_count AS accounts_left, v_left AS left_open, v_ran AS event_ran_at;
END
$$
