//! What the server itself must give.

use super::{Facts, Finding, Severity, error, is_on, warning};
use crate::Dialect;

pub(super) fn server(facts: &Facts, found: &mut Vec<Finding>) {
    let dialect = Dialect::of_version(&facts.version);
    if let Err(unsupported) = &dialect {
        found.push(error(
            "server_unsupported",
            unsupported.to_string(),
            "use a newer server".into(),
        ));
    }
    if facts.cipher.is_empty() {
        found.push(no_tls());
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
    if facts.binlog_format.eq_ignore_ascii_case("STATEMENT") {
        found.push(error(
            "binlog_statement",
            "binlog_format is STATEMENT: the server refuses what the procedures write (error 1665)"
                .into(),
            "set binlog_format = ROW or MIXED".into(),
        ));
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

/// The server does not encrypt.
pub fn no_tls() -> Finding {
    error(
        "tls_off",
        "the server offers no TLS, or this connection is not encrypted".into(),
        "give the server a certificate (ssl_ca, ssl_cert, ssl_key); bastions refuse to speak without TLS"
            .into(),
    )
}
