-- The session is fixed first: what is stored with each routine must not depend on who installs it.
SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'
$$
SET NAMES utf8mb4 COLLATE utf8mb4_bin
$$
-- Any login can hold a routine's metadata lock, and while DROP PROCEDURE waits for it the event waits too: not for long.
SET SESSION lock_wait_timeout = 5
$$
CREATE DATABASE IF NOT EXISTS powerpole CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
$$
CREATE TABLE IF NOT EXISTS powerpole.settings (
  name  VARCHAR(64)  NOT NULL PRIMARY KEY,
  value VARCHAR(255) NOT NULL
) ENGINE=InnoDB
$$
DROP PROCEDURE IF EXISTS powerpole.install_guard
$$
CREATE PROCEDURE powerpole.install_guard()
SQL SECURITY INVOKER
BEGIN
  DECLARE v_installed INT DEFAULT 0;
  SELECT COALESCE(MAX(CAST(value AS UNSIGNED)), 0) INTO v_installed
    FROM powerpole.settings WHERE name = 'version';
  IF v_installed > {{version}} THEN
    SIGNAL SQLSTATE '45000'
      SET MESSAGE_TEXT = 'powerpole downgrade_refused: a newer version is installed; nothing was changed';
  END IF;
END
$$
CALL powerpole.install_guard()
$$
DROP PROCEDURE powerpole.install_guard
$$
-- All times are unix seconds of the server's own clock. Nothing here is AUTO_INCREMENT: a caller who sets
-- insert_id for the session would choose the next value, and the largest one would end the table's life.
CREATE TABLE IF NOT EXISTS powerpole.accounts (
  id               BIGINT UNSIGNED NOT NULL PRIMARY KEY,
  request          VARCHAR(30)  NOT NULL,
  account          VARCHAR(32)  NOT NULL,
  host             VARCHAR(15)  NOT NULL,
  level            VARCHAR(8)   NOT NULL,
  schema_names     TEXT         NOT NULL,
  state            ENUM('opening','open','closing','closed','refused') NOT NULL,
  nonce            CHAR(32)     NOT NULL,
  key_id           VARCHAR(32)  NOT NULL,
  authentication   CHAR(64)     NOT NULL COMMENT 'SHA-256 of the authentication string, to know a repeated call',
  opened_by        VARCHAR(300) NOT NULL,
  opened_at        BIGINT       NOT NULL,
  not_after        BIGINT       NOT NULL COMMENT 'of the ticket: no deadline may be later',
  deadline         BIGINT           NULL COMMENT 'set when the bastion is ready',
  lease_until      BIGINT       NOT NULL,
  claimed_until    BIGINT       NOT NULL DEFAULT 0 COMMENT 'someone is closing it; the next try is after this',
  closed_at        BIGINT           NULL,
  closed_by        VARCHAR(300)     NULL,
  close_reason     VARCHAR(64)      NULL,
  connections_killed INT UNSIGNED NOT NULL DEFAULT 0,
  last_error       VARCHAR(512)     NULL,
  KEY by_state (state),
  KEY by_request (request),
  KEY by_end (closed_at)
) ENGINE=InnoDB
$$
-- Where an older version made the table.
DROP PROCEDURE IF EXISTS powerpole.install_key
$$
CREATE PROCEDURE powerpole.install_key()
SQL SECURITY INVOKER
BEGIN
  DECLARE v_there INT DEFAULT 0;
  SELECT COUNT(*) INTO v_there FROM information_schema.STATISTICS
    WHERE TABLE_SCHEMA = 'powerpole' AND TABLE_NAME = 'accounts' AND INDEX_NAME = 'by_end';
  IF v_there = 0 THEN
    ALTER TABLE powerpole.accounts ADD KEY by_end (closed_at);
  END IF;
END
$$
CALL powerpole.install_key()
$$
DROP PROCEDURE powerpole.install_key
$$
CREATE TABLE IF NOT EXISTS powerpole.counter (
  id   TINYINT         NOT NULL PRIMARY KEY,
  last BIGINT UNSIGNED NOT NULL COMMENT 'id of the newest account'
) ENGINE=InnoDB
$$
INSERT IGNORE INTO powerpole.counter (id, last) VALUES (1, 0)
$$
CREATE TABLE IF NOT EXISTS powerpole.calls (
  called_at BIGINT       NOT NULL,
  id        CHAR(36)     NOT NULL,
  called_by VARCHAR(300) NOT NULL,
  called    VARCHAR(32)  NOT NULL,
  request   VARCHAR(64)      NULL,
  outcome   VARCHAR(32)  NOT NULL,
  detail    VARCHAR(128)     NULL,
  PRIMARY KEY (called_at, id)
) ENGINE=InnoDB
$$
CREATE TABLE IF NOT EXISTS powerpole.nonces (
  nonce     CHAR(32)    NOT NULL PRIMARY KEY,
  request   VARCHAR(30) NOT NULL,
  purpose   VARCHAR(8)  NOT NULL,
  used_at   BIGINT      NOT NULL,
  not_after BIGINT      NOT NULL,
  KEY by_end (not_after)
) ENGINE=InnoDB
$$
-- The two blocks are what HMAC-SHA256 hashes before the message and before the inner digest: SQL needs no XOR.
CREATE TABLE IF NOT EXISTS powerpole.ticket_keys (
  key_id      VARCHAR(32)   NOT NULL PRIMARY KEY,
  inner_block VARBINARY(64) NOT NULL,
  outer_block VARBINARY(64) NOT NULL
) ENGINE=InnoDB
$$
CREATE TABLE IF NOT EXISTS powerpole.schemas (
  name VARCHAR(64) NOT NULL PRIMARY KEY,
  kept TINYINT     NOT NULL DEFAULT 1
) ENGINE=InnoDB
$$
CREATE TABLE IF NOT EXISTS powerpole.levels (
  level           VARCHAR(8)   NOT NULL PRIMARY KEY,
  privilege_names VARCHAR(512) NOT NULL
) ENGINE=InnoDB
$$
CREATE TABLE IF NOT EXISTS powerpole.grantors (
  name VARCHAR(32)  NOT NULL,
  host VARCHAR(255) NOT NULL,
  PRIMARY KEY (name, host)
) ENGINE=InnoDB
$$
CREATE TABLE IF NOT EXISTS powerpole.grantor_logins (
  id          BIGINT UNSIGNED NOT NULL PRIMARY KEY,
  called_from VARCHAR(300)    NOT NULL COMMENT 'address and port: an id comes again after a restart',
  seen_at     BIGINT          NOT NULL COMMENT 'when the event first saw it'
) ENGINE=InnoDB
$$
CREATE TABLE IF NOT EXISTS powerpole.heartbeat (
  id     TINYINT NOT NULL PRIMARY KEY,
  ran_at BIGINT  NOT NULL
) ENGINE=InnoDB
$$
INSERT IGNORE INTO powerpole.heartbeat (id, ran_at) VALUES (1, 0)
$$
--{mysql
CREATE USER IF NOT EXISTS {{definer}} IDENTIFIED WITH caching_sha2_password AS '{{impossible}}' ACCOUNT LOCK
$$
--}
--{mariadb
CREATE USER IF NOT EXISTS {{definer}} IDENTIFIED VIA mysql_native_password USING '{{impossible}}' ACCOUNT LOCK
$$
--}
ALTER USER {{definer}} ACCOUNT LOCK
$$
