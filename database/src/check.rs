//! What is wrong with a server or its installation, and how it is mended. A pure function decides from
//! facts; the `powerpole database check` command reads them.

use crate::{Dialect, install::SCHEMA_VERSION};

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
    /// `SHOW GRANTS` of the definer; empty where it does not exist.
    pub definer_grants: Vec<String>,
    /// Ids of the ticket keys.
    pub ticket_keys: Vec<String>,
    /// Grantors and whether each must use TLS.
    pub grantors: Vec<(String, bool)>,
    /// Installed schemas that do not exist on the server.
    pub missing_schemas: Vec<String>,
    /// Accounts that should be gone: name and host, last error.
    pub overdue: Vec<(String, String)>,
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

fn server(facts: &Facts, found: &mut Vec<Finding>) {
    let dialect = Dialect::of_version(&facts.version);
    if let Err(unsupported) = &dialect {
        found.push(error(
            "server_unsupported",
            unsupported.to_string(),
            "use a newer server".into(),
        ));
    }
    if facts.cipher.is_empty() {
        found.push(error(
            "tls_off",
            "this connection is not encrypted".into(),
            "give the server a certificate; bastions refuse to speak without TLS".into(),
        ));
    }
    if is_on(&facts.read_only) {
        found.push(error(
            "read_only",
            "this server is read-only: a reader of the cluster?".into(),
            "connect to the writer's endpoint".into(),
        ));
    }
    if !is_on(&facts.event_scheduler) {
        found.push(error(
            "event_scheduler_off",
            format!("event_scheduler is {:?}", facts.event_scheduler),
            "set event_scheduler = ON in the parameter group (no restart) or SET PERSIST event_scheduler = ON".into(),
        ));
    }
    if !is_on(&facts.skip_name_resolve) {
        found.push(error(
            "names_resolved",
            "skip_name_resolve is off: the server may see a host name where an address is needed"
                .into(),
            "start the server with skip_name_resolve (Aurora always does)".into(),
        ));
    }
    if !is_on(&facts.audit_logging) {
        let severity = if facts.require_audit {
            Severity::Error
        } else {
            Severity::Warning
        };
        found.push(Finding {
            code: "audit_log_off",
            severity,
            what: "server_audit is not logging: there is no second witness beside the recorder"
                .into(),
            mend: "Aurora: server_audit_logging = 1 in the parameter group and export the log; \
                   MariaDB: load server_audit and SET GLOBAL server_audit_logging = ON; \
                   MySQL: there is no free plugin, leave --require-audit off"
                .into(),
        });
    }
    if !facts.mandatory_roles.is_empty() {
        found.push(warning(
            "mandatory_roles",
            format!(
                "mandatory_roles = {:?}: every account, ours too, may take these roles",
                facts.mandatory_roles
            ),
            "see that the roles hold nothing that an operator must not have".into(),
        ));
    }
    if is_on(&facts.partial_revokes) {
        found.push(warning(
            "partial_revokes_on",
            "partial_revokes is on: `_` in a grant's schema is literal, and the procedures write it so".into(),
            "do not switch it while accounts are open, and run `powerpole database install` after switching".into(),
        ));
    }
}

fn installation(facts: &Facts, version: u32, found: &mut Vec<Finding>) {
    if version != SCHEMA_VERSION {
        found.push(error(
            "version_differs",
            format!("version {version} is installed, this command knows {SCHEMA_VERSION}"),
            if version < SCHEMA_VERSION {
                "run `powerpole database install`"
            } else {
                "use a newer powerpole command"
            }
            .into(),
        ));
    }
    match facts.event_age_s {
        Some(age) if age <= 10 => {}
        age => found.push(error(
            "event_not_running",
            age.map_or_else(
                || "the expiry event has never run".into(),
                |age| format!("the expiry event ran {age} s ago: nothing can be opened and nothing expires by itself"),
            ),
            "see event_scheduler above; then the server's error log for powerpole.expire; then install again".into(),
        )),
    }
    definer(facts, found);
    if facts.ticket_keys.is_empty() {
        found.push(error(
            "no_ticket_key",
            "no ticket key is installed: every ticket is refused".into(),
            "run `powerpole database install` with --ticket-key-file and --ticket-key-id".into(),
        ));
    } else if facts.ticket_keys.len() > 2 {
        found.push(warning(
            "many_ticket_keys",
            format!(
                "{} ticket keys are valid: {}",
                facts.ticket_keys.len(),
                facts.ticket_keys.join(", ")
            ),
            "retire the old ones with `powerpole database install --retire-ticket-key ID`".into(),
        ));
    }
    if facts.grantors.is_empty() {
        found.push(error(
            "no_grantor",
            "nobody may call the procedures".into(),
            "run `powerpole database install` with --grantor and --grantor-password-file".into(),
        ));
    }
    for (grantor, tls) in &facts.grantors {
        if !tls {
            found.push(error(
                "grantor_without_tls",
                format!("{grantor} may log in without TLS, or does not exist"),
                format!("ALTER USER {grantor} REQUIRE SSL, or install again"),
            ));
        }
    }
    for schema in &facts.missing_schemas {
        found.push(warning(
            "schema_missing",
            format!("schema {schema} is installed for and does not exist"),
            "leave it out of --schemas, or create it".into(),
        ));
    }
    for (account, last_error) in &facts.overdue {
        found.push(error(
            "account_overdue",
            format!("{account} is past its end and not gone: {last_error}"),
            "it is locked and holds no rights; if it is named as a DEFINER (error 4006), give those objects \
             another definer; else DROP USER it"
                .into(),
        ));
    }
}

fn definer(facts: &Facts, found: &mut Vec<Finding>) {
    if facts.definer_grants.is_empty() {
        found.push(error(
            "definer_missing",
            "the procedures' definer does not exist".into(),
            "run `powerpole database install`".into(),
        ));
        return;
    }
    let grants = facts.definer_grants.join("\n").to_uppercase();
    if !["CONNECTION_ADMIN", "CONNECTION ADMIN", "RDS_KILL"]
        .iter()
        .any(|right| grants.contains(right))
    {
        found.push(error(
            "definer_cannot_kill",
            "the definer may not end connections: a dropped account's open ones would live on".into(),
            "run `powerpole database install` as an owner who can grant CONNECTION_ADMIN, or on a server with mysql.rds_kill"
                .into(),
        ));
    }
    for right in ["CREATE USER", "PROCESS", "EVENT", "EXECUTE"] {
        if !grants.contains(right) {
            found.push(error(
                "definer_rights",
                format!("the definer lacks {right}"),
                "run `powerpole database install`".into(),
            ));
        }
    }
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
            definer_grants: vec![
                "GRANT PROCESS, CREATE USER ON *.*".into(),
                "GRANT CONNECTION_ADMIN ON *.*".into(),
                "GRANT EXECUTE, EVENT ON powerpole.*".into(),
            ],
            ticket_keys: vec!["k1".into()],
            grantors: vec![("'g'@'%'".into(), true)],
            ..Facts::default()
        }
    }

    #[test]
    fn each_fault_is_found_by_its_code_and_a_healthy_server_has_none() {
        assert_eq!(findings(&healthy()), []);
        type Fault = (&'static str, fn(&mut Facts));
        let faults: [Fault; 14] = [
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
            ("partial_revokes_on", |f| f.partial_revokes = "ON".into()),
            ("definer_missing", |f| f.definer_grants.clear()),
            ("definer_cannot_kill", |f| {
                f.definer_grants.remove(1);
            }),
            ("no_ticket_key", |f| f.ticket_keys.clear()),
            ("grantor_without_tls", |f| f.grantors[0].1 = false),
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
}
