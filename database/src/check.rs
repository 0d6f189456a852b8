//! What is wrong with a server or its installation, and how it is mended. A pure function decides from
//! facts; the `powerpole database check` command reads them.

mod installation;
mod server;

use installation::installation;
use server::server;

pub use server::no_tls;

/// What was read from the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `SELECT VERSION()`.
    pub version: String,
    /// Value of `event_scheduler`.
    pub event_scheduler: String,
    /// Value of `skip_name_resolve`.
    pub skip_name_resolve: String,
    /// Value of `read_only`.
    pub read_only: String,
    /// Value of `partial_revokes`; empty where there is none.
    pub partial_revokes: String,
    /// Value of `mandatory_roles`; empty where there is none.
    pub mandatory_roles: String,
    /// Value of `server_audit_logging`; empty where the plugin is not loaded.
    pub audit_logging: String,
    /// Cipher of this very connection; empty without TLS.
    pub cipher: String,
    /// Stored version of the schema; `None` where PowerPole is not installed.
    pub installed: Option<u32>,
    /// Whether opening demands the audit log.
    pub require_audit: bool,
    /// Seconds since the expiry event stamped that it ran.
    pub event_age_s: Option<i64>,
    /// `STATUS` of the expiry event, such as `ENABLED`; empty where there is none.
    pub event_status: String,
    /// Procedures of the installation that do not exist.
    pub missing_procedures: Vec<String>,
    /// `SHOW GRANTS` of the definer; empty where it does not exist.
    pub definer_grants: Vec<String>,
    /// Whether [`KILL_ROLE`](crate::install::KILL_ROLE) is a default role of the definer.
    pub kill_role_active: bool,
    /// Whether somebody could log in as the definer if its password were known.
    pub definer_unlocked: bool,
    /// Schemas that are installed for.
    pub schemas: Vec<String>,
    /// Ids of the ticket keys.
    pub ticket_keys: Vec<String>,
    /// Grantors and whether each must use TLS.
    pub grantors: Vec<(String, bool)>,
    /// Grantors that may hold another number of connections than one, and how many: 0 is any number.
    pub many_connections: Vec<(String, u64)>,
    /// Grantors whose password is not the one that was installed.
    pub changed_passwords: Vec<String>,
    /// Value of `binlog_format`; empty where there is no binary log.
    pub binlog_format: String,
    /// Installed schemas that do not exist on the server.
    pub missing_schemas: Vec<String>,
    /// Accounts past their end that nobody has begun to close: name and host, last error.
    pub overdue: Vec<(String, String)>,
    /// Accounts whose closing was tried and did not come to its end: name and host, last error.
    pub closing: Vec<(String, String)>,
    /// Objects whose DEFINER is an account of ours.
    pub left_behind: Vec<LeftBehind>,
    /// Prepared XA branches as `XA ROLLBACK` takes them; `None` where this user may not list them.
    pub prepared_branches: Option<Vec<String>>,
}

/// An object that runs, or ran, with the rights of an account of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftBehind {
    /// Kind and name, `PROCEDURE app_1.report`.
    pub object: String,
    /// The account, `'alice'@'10.77.64.5'`.
    pub definer: String,
    /// Whether that account is still there.
    pub exists: bool,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing can be opened, or an end may not be kept.
    Error,
    /// Works, with less than it should give.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Stable name.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What was seen.
    pub what: String,
    /// What to do.
    pub mend: String,
}

/// Everything that is wrong at once, the worst first.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    server(facts, &mut found);
    match facts.installed {
        None => found.push(error(
            "not_installed",
            "PowerPole is not installed here".into(),
            "run `powerpole database install`".into(),
        )),
        Some(version) => installation(facts, version, &mut found),
    }
    found.sort_by_key(|finding| finding.severity);
    found
}

fn is_on(value: &str) -> bool {
    value.eq_ignore_ascii_case("ON") || value == "1"
}

fn error(code: &'static str, what: String, mend: String) -> Finding {
    Finding {
        code,
        severity: Severity::Error,
        what,
        mend,
    }
}

fn warning(code: &'static str, what: String, mend: String) -> Finding {
    Finding {
        code,
        severity: Severity::Warning,
        what,
        mend,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::SCHEMA_VERSION;

    fn healthy() -> Facts {
        Facts {
            version: "9.7.4".into(),
            event_scheduler: "ON".into(),
            skip_name_resolve: "ON".into(),
            read_only: "OFF".into(),
            audit_logging: "ON".into(),
            cipher: "TLS_AES_256_GCM_SHA384".into(),
            installed: Some(SCHEMA_VERSION),
            event_age_s: Some(1),
            event_status: "ENABLED".into(),
            schemas: vec!["app_1".into()],
            definer_grants: vec![
                "GRANT PROCESS, CREATE USER ON *.*".into(),
                "GRANT CONNECTION_ADMIN ON *.*".into(),
                "GRANT EXECUTE, EVENT ON powerpole.*".into(),
                r"GRANT SELECT ON `app\_1`.* TO `powerpole_definer`@`localhost` WITH GRANT OPTION"
                    .into(),
            ],
            kill_role_active: true,
            ticket_keys: vec!["k1".into()],
            grantors: vec![("'g'@'%'".into(), true)],
            prepared_branches: Some(vec![]),
            ..Facts::default()
        }
    }

    #[test]
    fn each_fault_is_found_by_its_code_and_a_healthy_server_has_none() {
        assert_eq!(findings(&healthy()), []);
        type Fault = (&'static str, fn(&mut Facts));
        let faults: [Fault; 27] = [
            ("not_installed", |f| f.installed = None),
            ("version_differs", |f| {
                f.installed = Some(SCHEMA_VERSION + 1)
            }),
            ("event_scheduler_off", |f| f.event_scheduler = "OFF".into()),
            ("event_not_running", |f| f.event_age_s = Some(11)),
            ("names_resolved", |f| f.skip_name_resolve = "OFF".into()),
            ("audit_log_off", |f| f.audit_logging.clear()),
            ("tls_off", |f| f.cipher.clear()),
            ("read_only", |f| f.read_only = "ON".into()),
            ("partial_revokes_on", |f| {
                f.partial_revokes = "ON".into();
                f.definer_grants[3] = f.definer_grants[3].replace(r"\_", "_");
            }),
            ("definer_missing", |f| f.definer_grants.clear()),
            ("definer_cannot_kill", |f| {
                f.definer_grants.remove(1);
            }),
            ("definer_role_missing", |f| f.kill_role_active = false),
            ("grantor_connections", |f| {
                f.many_connections.push(("'g'@'%'".into(), 0));
            }),
            ("no_ticket_key", |f| f.ticket_keys.clear()),
            ("grantor_without_tls", |f| f.grantors[0].1 = false),
            ("grantor_password_changed", |f| {
                f.changed_passwords.push("'g'@'%'".into());
            }),
            ("binlog_statement", |f| f.binlog_format = "STATEMENT".into()),
            ("event_missing", |f| f.event_status.clear()),
            ("event_disabled", |f| {
                f.event_status = "SLAVESIDE_DISABLED".into();
            }),
            ("procedure_missing", |f| {
                f.missing_procedures.push("sweep".into());
            }),
            ("definer_unlocked", |f| f.definer_unlocked = true),
            ("definer_schema_rights", |f| {
                f.definer_grants.truncate(3);
            }),
            ("account_stuck", |f| {
                f.closing.push(("'a'@'h'".into(), "drop: 4006".into()));
            }),
            ("definer_left_behind", |f| {
                f.left_behind.push(LeftBehind {
                    object: "VIEW app_1.v".into(),
                    definer: "'a'@'h'".into(),
                    exists: false,
                });
            }),
            ("prepared_branch", |f| {
                f.prepared_branches = Some(vec!["X'61',X'',1".into()]);
            }),
            ("prepared_branches_unseen", |f| f.prepared_branches = None),
            ("account_overdue", |f| {
                f.overdue.push(("'a'@'h'".into(), "4006".into()))
            }),
        ];
        for (code, break_it) in faults {
            let mut facts = healthy();
            break_it(&mut facts);
            let codes: Vec<&str> = findings(&facts).iter().map(|f| f.code).collect();
            assert_eq!(codes, [code]);
        }
    }

    #[test]
    fn rights_of_the_definer_are_known_with_and_without_an_escaped_underscore() {
        for pattern in [r"app\_1", "app_1"] {
            let mut facts = healthy();
            facts.definer_grants[3] =
                format!("GRANT SELECT ON `{pattern}`.* TO x WITH GRANT OPTION");
            facts.partial_revokes = if pattern == "app_1" { "ON" } else { "OFF" }.into();
            let codes: Vec<&str> = findings(&facts).iter().map(|f| f.code).collect();
            assert!(!codes.contains(&"definer_schema_rights"), "{pattern}");
            // Switched since the installation: what was granted means something else now.
            facts.partial_revokes = if pattern == "app_1" { "OFF" } else { "ON" }.into();
            let codes: Vec<&str> = findings(&facts).iter().map(|f| f.code).collect();
            assert!(codes.contains(&"definer_schema_rights"), "{pattern}");
        }
    }
}
