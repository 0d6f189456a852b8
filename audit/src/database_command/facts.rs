//! Reads from a server what [`powerpole_database::check`] judges.

use mysql_async::{Conn, prelude::Queryable};
use powerpole_database::{
    check::{Facts, LeftBehind},
    install::{DEFINER, KILL_ROLE, password_setting, procedure_names},
};

use super::error::CommandError;
use super::query::{one, rows};

/// Whether PowerPole's schema is there.
pub(super) async fn is_installed(conn: &mut Conn) -> Result<bool, CommandError> {
    let tables = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'powerpole' AND TABLE_NAME = 'settings'";
    Ok(one::<u64>(conn, tables)
        .await?
        .is_some_and(|found| found > 0))
}

/// Reads all of it.
pub(super) async fn read_facts(conn: &mut Conn) -> Result<Facts, CommandError> {
    let mut facts = Facts {
        version: one(conn, "SELECT VERSION()").await?.unwrap_or_default(),
        event_scheduler: variable(conn, "event_scheduler").await?,
        skip_name_resolve: variable(conn, "skip_name_resolve").await?,
        read_only: variable(conn, "read_only").await?,
        partial_revokes: variable(conn, "partial_revokes").await?,
        mandatory_roles: variable(conn, "mandatory_roles").await?,
        audit_logging: variable(conn, "server_audit_logging").await?,
        ..Facts::default()
    };
    if variable(conn, "log_bin").await? == "ON" {
        facts.binlog_format = variable(conn, "binlog_format").await?;
    }
    let cipher: Vec<(String, String)> = rows(conn, "SHOW SESSION STATUS LIKE 'Ssl_cipher'").await?;
    facts.cipher = cipher
        .into_iter()
        .next()
        .map(|(_, value)| value)
        .unwrap_or_default();
    if !is_installed(conn).await? {
        return Ok(facts);
    }
    let setting =
        |name: &str| format!("SELECT value FROM powerpole.settings WHERE name = '{name}'");
    facts.installed = Some(
        one::<String>(conn, &setting("version"))
            .await?
            .and_then(|v| v.parse().ok())
            .unwrap_or(0),
    );
    facts.require_audit = one::<String>(conn, &setting("require_audit"))
        .await?
        .is_some_and(|value| value == "1");
    facts.event_age_s = one(
        conn,
        "SELECT CAST(UNIX_TIMESTAMP() AS SIGNED) - ran_at FROM powerpole.heartbeat WHERE ran_at > 0",
    )
    .await?;
    facts.event_status = one(
        conn,
        "SELECT STATUS FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'powerpole' AND EVENT_NAME = 'expire'",
    )
    .await?
    .unwrap_or_default();
    let procedures: Vec<String> = rows(
        conn,
        "SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'powerpole'",
    )
    .await?;
    facts.missing_procedures = procedure_names()
        .filter(|name| !procedures.iter().any(|there| there == name))
        .map(str::to_owned)
        .collect();
    facts.schemas = rows(conn, "SELECT name FROM powerpole.schemas ORDER BY name").await?;
    facts.definer_grants = definer_grants(conn).await;
    facts.kill_role_active = kill_role_active(conn).await?;
    let definer: Option<String> = conn
        .query_first(format!("SHOW CREATE USER {DEFINER}"))
        .await
        .unwrap_or_default();
    facts.definer_unlocked = definer.is_some_and(|text| !text.contains("ACCOUNT LOCK"));
    facts.ticket_keys = rows(
        conn,
        "SELECT key_id FROM powerpole.ticket_keys ORDER BY key_id",
    )
    .await?;
    let grantors: Vec<(String, u64)> = rows(
        conn,
        "SELECT CONCAT('''', g.name, '''@''', g.host, ''''), (SELECT COUNT(*) FROM mysql.user u \
           WHERE CONVERT(u.User USING utf8mb4) COLLATE utf8mb4_bin = g.name \
             AND CONVERT(u.Host USING utf8mb4) COLLATE utf8mb4_bin = g.host AND u.ssl_type <> '') \
         FROM powerpole.grantors g",
    )
    .await?;
    facts.grantors = grantors
        .into_iter()
        .map(|(name, tls)| (name, tls > 0))
        .collect();
    facts.many_connections = rows(
        conn,
        "SELECT CONCAT('''', g.name, '''@''', g.host, ''''), CAST(u.max_user_connections AS UNSIGNED) \
         FROM powerpole.grantors g JOIN mysql.user u ON CONVERT(u.User USING utf8mb4) COLLATE utf8mb4_bin = g.name \
           AND CONVERT(u.Host USING utf8mb4) COLLATE utf8mb4_bin = g.host WHERE u.max_user_connections <> 1",
    )
    .await?;
    facts.changed_passwords = changed_passwords(conn).await?;
    facts.missing_schemas = rows(
        conn,
        "SELECT name FROM powerpole.schemas WHERE name NOT IN \
         (SELECT CONVERT(SCHEMA_NAME USING utf8mb4) COLLATE utf8mb4_bin FROM information_schema.SCHEMATA)",
    )
    .await?;
    facts.overdue = rows(
        conn,
        "SELECT CONCAT('''', account, '''@''', host, ''''), COALESCE(last_error, '') FROM powerpole.accounts \
         WHERE state IN ('opening', 'open') \
           AND LEAST(COALESCE(deadline, not_after), not_after, lease_until) < UNIX_TIMESTAMP() - 10",
    )
    .await?;
    // One that is being closed this very moment has no error yet, and whoever closes it has just claimed it.
    facts.closing = rows(
        conn,
        "SELECT CONCAT('''', account, '''@''', host, ''''), COALESCE(last_error, '') FROM powerpole.accounts \
         WHERE state = 'closing' AND (last_error IS NOT NULL OR claimed_until < UNIX_TIMESTAMP() - 10)",
    )
    .await?;
    facts.left_behind = left_behind(conn).await?;
    facts.prepared_branches = prepared_branches(conn).await?;
    Ok(facts)
}

/// With the role's rights where it has the role. The definer may be missing altogether: no grants is the finding.
async fn definer_grants(conn: &mut Conn) -> Vec<String> {
    let with_role = format!("SHOW GRANTS FOR {DEFINER} USING {KILL_ROLE}");
    if let Ok(grants) = conn.query(with_role).await {
        return grants;
    }
    conn.query(format!("SHOW GRANTS FOR {DEFINER}"))
        .await
        .unwrap_or_default()
}

/// MySQL alone has default roles of accounts in a table of this name.
async fn kill_role_active(conn: &mut Conn) -> Result<bool, CommandError> {
    let there = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME = 'default_roles'";
    if one::<u64>(conn, there).await? != Some(1) {
        return Ok(false);
    }
    let active = format!(
        "SELECT COUNT(*) FROM mysql.default_roles WHERE CONCAT('''', USER, '''@''', HOST, '''') = {} \
         AND CONCAT('''', DEFAULT_ROLE_USER, '''@''', DEFAULT_ROLE_HOST, '''') = {}",
        in_quotes(DEFINER),
        in_quotes(KILL_ROLE)
    );
    Ok(one::<u64>(conn, &active).await? == Some(1))
}

/// A name as MySQL writes it, as a text of SQL.
fn in_quotes(name: &str) -> String {
    format!("'{}'", name.replace('\'', "''"))
}

/// Grantors whose stored password is another than the one that was noted when they were installed.
async fn changed_passwords(conn: &mut Conn) -> Result<Vec<String>, CommandError> {
    let plain = |text: &str| format!("CONVERT({text} USING utf8mb4) COLLATE utf8mb4_bin");
    let statement = format!(
        "SELECT CONCAT('''', g.name, '''@''', g.host, '''') FROM powerpole.grantors g \
         JOIN powerpole.settings s ON s.name = {} JOIN mysql.user u ON {} = g.name AND {} = g.host WHERE s.value <> {}",
        plain(&password_setting("g.name", "g.host")),
        plain("u.User"),
        plain("u.Host"),
        plain("SHA2(u.authentication_string, 256)"),
    );
    rows(conn, &statement).await
}

/// Every prepared XA branch of the server, as `XA ROLLBACK` takes it; `None` where listing them is not allowed.
async fn prepared_branches(conn: &mut Conn) -> Result<Option<Vec<String>>, CommandError> {
    // XAER_RMERR, "Fatal error occurred in the transaction branch": how MySQL says that XA_RECOVER_ADMIN is missing.
    const NOT_ALLOWED: u16 = 1401;
    let found: Vec<(i64, usize, usize, Vec<u8>)> = match rows(conn, "XA RECOVER").await {
        Err(CommandError::Statement {
            source: mysql_async::Error::Server(error),
            ..
        }) if error.code == NOT_ALLOWED => return Ok(None),
        found => found?,
    };
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let branch = |(format, global, _, data): (i64, usize, usize, Vec<u8>)| {
        let (global, qualifier) = data.split_at(global.min(data.len()));
        format!("X'{}',X'{}',{format}", hex(global), hex(qualifier))
    };
    Ok(Some(found.into_iter().map(branch).collect()))
}

/// Objects of the whole server whose DEFINER is, or was, an account of the registry.
async fn left_behind(conn: &mut Conn) -> Result<Vec<LeftBehind>, CommandError> {
    const STATEMENT: &str = "\
        SELECT DISTINCT o.object, CONCAT('''', a.account, '''@''', a.host, ''''), \
          (SELECT COUNT(*) FROM mysql.user u WHERE CONVERT(u.User USING utf8mb4) COLLATE utf8mb4_bin = a.account \
             AND CONVERT(u.Host USING utf8mb4) COLLATE utf8mb4_bin = a.host) \
        FROM ( \
          SELECT CONCAT(ROUTINE_TYPE, ' ', ROUTINE_SCHEMA, '.', ROUTINE_NAME) AS object, DEFINER AS definer \
            FROM information_schema.ROUTINES \
          UNION ALL SELECT CONCAT('VIEW ', TABLE_SCHEMA, '.', TABLE_NAME), DEFINER FROM information_schema.VIEWS \
          UNION ALL SELECT CONCAT('TRIGGER ', TRIGGER_SCHEMA, '.', TRIGGER_NAME), DEFINER FROM information_schema.TRIGGERS \
          UNION ALL SELECT CONCAT('EVENT ', EVENT_SCHEMA, '.', EVENT_NAME), DEFINER FROM information_schema.EVENTS \
        ) o \
        JOIN powerpole.accounts a \
          ON CONVERT(o.definer USING utf8mb4) COLLATE utf8mb4_bin = CONCAT(a.account, '@', a.host) \
        WHERE a.state <> 'refused' ORDER BY 1, 2";
    let found: Vec<(String, String, u64)> = rows(conn, STATEMENT).await?;
    let found = found.into_iter();
    Ok(found
        .map(|(object, definer, accounts)| LeftBehind {
            object,
            definer,
            exists: accounts > 0,
        })
        .collect())
}

async fn variable(conn: &mut Conn, name: &'static str) -> Result<String, CommandError> {
    let found: Vec<(String, String)> =
        rows(conn, &format!("SHOW GLOBAL VARIABLES LIKE '{name}'")).await?;
    Ok(found
        .into_iter()
        .next()
        .map(|(_, value)| value)
        .unwrap_or_default())
}
