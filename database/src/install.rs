//! Renders the installation as SQL. The templates are in `sql/`; statements end with a line of `$$`.

mod keys;
mod render;

pub use keys::{retire_key_statement, ticket_key_statement};

use crate::{Authentication, Dialect, levels::is_grantable_schema};
use render::{Blanks, GRANTS, PRIVATE, PROCEDURES, TABLES, UNINSTALL, split};

/// The version that is stored in `powerpole.settings`; a server that holds a later one is left alone.
pub const SCHEMA_VERSION: u32 = 5;

/// The definer of everything: locked, no password is known for it, nobody logs in as it.
pub const DEFINER: &str = "'powerpole_definer'@'localhost'";

/// MySQL only: the role by which the definer ends connections. With a role active, KILL asks the session's own rights and not
/// the server's cache of accounts; without one, MySQL (9.7.4) waits for ever when the killed thread has that cache locked.
pub const KILL_ROLE: &str = "'powerpole_kill'@'localhost'";

/// What a grantor may call. Everything else in the schema is closed to it.
pub const PUBLIC_PROCEDURES: [&str; 8] = [
    "open_account",
    "renew_lease",
    "set_deadline",
    "extend_account",
    "close_account",
    "end_connections",
    "account_state",
    "sweep",
];

/// The account that bastions call the procedures with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grantor {
    /// User name, `[0-9A-Za-z_]{1,32}`.
    pub name: String,
    /// Host part: `%`, an address or a pattern of one.
    pub host: String,
    /// Hash of its password; `None` leaves the password of an existing account as it is.
    pub authentication: Option<Authentication>,
}

/// What the owner decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallOptions {
    /// Schemas that tickets may name; rights in all others are taken back from the definer.
    pub schemas: Vec<String>,
    /// `None` installs without giving anyone the right to call.
    pub grantor: Option<Grantor>,
    /// Seconds that an account lives without a renewal.
    pub lease_s: u32,
    /// Longest time from opening to deadline, in seconds.
    pub max_window_s: u32,
    /// Connections that one account may hold.
    pub max_connections: u32,
    /// Connections that a grantor may hold, all bastions of the cluster together; 0: as many as the server allows. Two are
    /// what a thief needs to freeze MySQL's accounts, and bastions wait for each other's short calls.
    pub grantor_connections: u32,
    /// Refuse to open while the server's audit log is off.
    pub require_audit: bool,
    /// The server has `mysql.rds_kill`: use it, as its owner cannot grant CONNECTION_ADMIN.
    pub rds_kill: bool,
}

impl Default for InstallOptions {
    fn default() -> Self {
        Self {
            schemas: Vec::new(),
            grantor: None,
            lease_s: 180,
            max_window_s: 12 * 3600,
            max_connections: 8,
            grantor_connections: 1,
            require_audit: false,
            rds_kill: false,
        }
    }
}

/// Options that no SQL is rendered for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InstallError {
    /// Not `[A-Za-z0-9_]{1,64}`, or a system schema.
    #[error("schema {0:?} cannot be granted: letters, digits and _ only, and no system schema")]
    Schema(String),
    /// Not `[0-9A-Za-z_]{1,32}`.
    #[error("grantor {0:?} is not a plain user name")]
    Grantor(String),
    /// Not a host pattern.
    #[error("grantor host {0:?} is not an address, a pattern of one or %")]
    GrantorHost(String),
    /// Not `[0-9a-z-]{1,32}`.
    #[error("key id {0:?} is not made of 1 to 32 lower-case letters, digits and -")]
    KeyId(String),
}

impl InstallError {
    /// Stable name of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Schema(_) => "schema_refused",
            Self::Grantor(_) => "grantor_refused",
            Self::GrantorHost(_) => "grantor_host_refused",
            Self::KeyId(_) => "key_id_refused",
        }
    }
}

/// The installation as one file for the `mysql` or `mariadb` client, without any key.
pub fn install_sql(dialect: Dialect, options: &InstallOptions) -> Result<String, InstallError> {
    Ok(script(&install_statements(dialect, options)?))
}

/// The installation, a statement an element. Running it again changes nothing that is right.
pub fn install_statements(
    dialect: Dialect,
    options: &InstallOptions,
) -> Result<Vec<String>, InstallError> {
    for schema in &options.schemas {
        if !is_grantable_schema(schema) {
            return Err(InstallError::Schema(schema.clone()));
        }
    }
    let grantor = match &options.grantor {
        Some(grantor) => grantor_statements(dialect, grantor, options.grantor_connections)?,
        None => String::new(),
    };
    let blanks = Blanks {
        dialect,
        options,
        grantor,
    };
    let mut statements = Vec::new();
    for template in [TABLES, PRIVATE, PROCEDURES, GRANTS] {
        statements.extend(split(&blanks.fill(template)));
    }
    Ok(statements)
}

/// Every procedure that stays after an installation, in no order.
pub fn procedure_names() -> impl Iterator<Item = &'static str> {
    [PRIVATE, PROCEDURES]
        .into_iter()
        .flat_map(str::lines)
        .filter_map(|line| line.strip_prefix("DROP PROCEDURE IF EXISTS powerpole."))
}

/// Removes everything: the event, the grantors, the definer and the schema with its registry.
pub fn uninstall_statements(grantors: &[(String, String)]) -> Vec<String> {
    let drops: String = grantors
        .iter()
        .map(|(name, host)| {
            format!(
                "DROP USER IF EXISTS {}@{}\n$$\n",
                quoted(name),
                quoted(host)
            )
        })
        .collect();
    let text = UNINSTALL
        .replace("{{drop_grantors}}", &drops)
        .replace("{{kill_role}}", KILL_ROLE)
        .replace("{{definer}}", DEFINER);
    split(&text)
}

/// Statements as a file for the command-line client.
pub fn script(statements: &[String]) -> String {
    let mut text = String::from("DELIMITER $$\n");
    for statement in statements {
        text.push_str(statement);
        text.push_str("\n$$\n");
    }
    text.push_str("DELIMITER ;\n");
    text
}

/// For names that were read back from the server's own registry.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn grantor_statements(
    dialect: Dialect,
    grantor: &Grantor,
    connections: u32,
) -> Result<String, InstallError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if !(1..=32).contains(&grantor.name.len()) || !grantor.name.bytes().all(plain) {
        return Err(InstallError::Grantor(grantor.name.clone()));
    }
    let host = |b: u8| b.is_ascii_alphanumeric() || b".-%_/:".contains(&b);
    if !(1..=255).contains(&grantor.host.len()) || !grantor.host.bytes().all(host) {
        return Err(InstallError::GrantorHost(grantor.host.clone()));
    }
    let user = format!("'{}'@'{}'", grantor.name, grantor.host);
    let nobody = Authentication::impossible(dialect);
    let first = grantor.authentication.as_ref().unwrap_or(&nobody);
    let mut text = format!(
        "CREATE USER IF NOT EXISTS {user} {} REQUIRE SSL\n$$\n",
        first.identified()
    );
    if let Some(authentication) = &grantor.authentication {
        text.push_str(&format!(
            "ALTER USER {user} {} REQUIRE SSL\n$$\n",
            authentication.identified()
        ));
    }
    text.push_str(&format!(
        "ALTER USER {user} WITH MAX_USER_CONNECTIONS {connections}\n$$\n"
    ));
    text.push_str(&format!(
        "INSERT IGNORE INTO powerpole.grantors (name, host) VALUES ('{}', '{}')\n$$\n",
        grantor.name, grantor.host
    ));
    text.push_str(&password_note(grantor));
    Ok(text)
}

/// Notes a digest of what the server stores of the grantor's password, so that `check` sees when somebody changed it.
fn password_note(grantor: &Grantor) -> String {
    let Grantor { name, host, .. } = grantor;
    let verb = if grantor.authentication.is_some() {
        "REPLACE"
    } else {
        // The password is left as it is: what was noted of it stays too.
        "INSERT IGNORE"
    };
    format!(
        "{verb} INTO powerpole.settings (name, value) SELECT {}, SHA2(authentication_string, 256) \
         FROM mysql.user WHERE User = '{name}' AND Host = '{host}'\n$$\n",
        password_setting(&format!("'{name}'"), &format!("'{host}'"))
    )
}

/// The SQL that names the setting of a grantor; `name` and `host` are SQL too.
pub fn password_setting(name: &str, host: &str) -> String {
    format!("CONCAT('grantor_', LEFT(SHA2(CONCAT({name}, '@', {host}), 256), 40))")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> InstallOptions {
        InstallOptions {
            schemas: vec!["app_1".to_owned()],
            ..InstallOptions::default()
        }
    }

    #[test]
    fn no_blank_is_left_in_either_dialect() {
        for dialect in [Dialect::MySql, Dialect::MariaDb] {
            let text = install_sql(dialect, &options()).unwrap();
            assert!(!text.contains("{{") && !text.contains("--{"), "{dialect:?}");
        }
    }

    #[test]
    fn what_cannot_be_granted_is_not_rendered() {
        for schema in ["mysql", "PowerPole", "a`b", "a'b", "", "%"] {
            let options = InstallOptions {
                schemas: vec![schema.to_owned()],
                ..options()
            };
            assert_eq!(
                install_sql(Dialect::MySql, &options),
                Err(InstallError::Schema(schema.to_owned()))
            );
        }
    }

    #[test]
    fn the_public_procedures_are_among_all_of_them() {
        for name in PUBLIC_PROCEDURES {
            assert!(procedure_names().any(|there| there == name), "{name}");
        }
        assert!(procedure_names().count() > PUBLIC_PROCEDURES.len());
    }

    #[test]
    fn every_public_procedure_resets_the_session_first_and_answers_last_from_variables() {
        let statements = install_statements(Dialect::MySql, &options()).unwrap();
        for name in PUBLIC_PROCEDURES {
            let head = format!("PROCEDURE powerpole.{name}(");
            let body = statements
                .iter()
                .find(|statement| statement.starts_with("CREATE") && statement.contains(&head))
                .unwrap();
            let begin = body.find("CALL powerpole.begin_call();").expect(name);
            let first = ["CALL ", "SELECT ", "UPDATE "]
                .iter()
                .filter_map(|word| body.find(&format!("\n  {word}")))
                .min()
                .unwrap();
            assert_eq!(first + 3, begin, "{name}");
            let (before, answer) = body.rsplit_once("\n  SELECT ").unwrap_or((body, ""));
            if name == "close_account" {
                assert!(body.contains("CALL powerpole.account_state("), "{name}");
            } else {
                assert!(
                    before.ends_with("COMMIT AND NO CHAIN NO RELEASE;"),
                    "{name}"
                );
                assert!(!answer.contains("FROM"), "{name}: {answer}");
            }
        }
    }

    #[test]
    fn every_routine_is_the_locked_definers_but_the_installers_own() {
        for statement in install_statements(Dialect::MySql, &options()).unwrap() {
            if statement.contains("PROCEDURE powerpole.") && statement.contains("BEGIN") {
                let installer = statement.contains("PROCEDURE powerpole.install_");
                assert_ne!(
                    statement.contains("SQL SECURITY DEFINER"),
                    installer,
                    "{statement}"
                );
                assert_ne!(
                    statement.contains(DEFINER) && !installer,
                    installer,
                    "{statement}"
                );
            }
        }
    }
}
