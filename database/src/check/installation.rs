//! What the installation must be, and what it holds that should be gone.

use super::{Facts, Finding, error, is_on, warning};
use crate::Dialect;
use crate::install::{KILL_ROLE, SCHEMA_VERSION};

pub(super) fn installation(facts: &Facts, version: u32, found: &mut Vec<Finding>) {
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
    event(facts, found);
    for procedure in &facts.missing_procedures {
        found.push(error(
            "procedure_missing",
            format!("procedure powerpole.{procedure} does not exist"),
            "run `powerpole database install`".into(),
        ));
    }
    definer(facts, found);
    access(facts, found);
    accounts(facts, found);
}

fn event(facts: &Facts, found: &mut Vec<Finding>) {
    match facts.event_status.as_str() {
        "ENABLED" => {}
        "" => found.push(error(
            "event_missing",
            "the expiry event does not exist: nothing expires by itself".into(),
            "run `powerpole database install`".into(),
        )),
        status => found.push(error(
            "event_disabled",
            format!("the expiry event is {status}: nothing expires by itself"),
            "ALTER EVENT powerpole.expire ENABLE, or run `powerpole database install`; on a server that was a replica \
             this is to be done once after its promotion"
                .into(),
        )),
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
}

/// Keys, grantors, schemas: what opening an account needs.
fn access(facts: &Facts, found: &mut Vec<Finding>) {
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
    for (grantor, connections) in &facts.many_connections {
        // MariaDB has no lock that two connections of one login could leave held.
        if is_mysql(facts) {
            let many = match connections {
                0 => "any number of".to_owned(),
                many => many.to_string(),
            };
            found.push(warning(
                "grantor_connections",
                format!("{grantor} may hold {many} connections: two are enough to freeze every login of this server"),
                "run `powerpole database install` with --grantor and without --grantor-connections".into(),
            ));
        }
    }
    for grantor in &facts.changed_passwords {
        found.push(error(
            "grantor_password_changed",
            format!("the password of {grantor} is not the one that was installed: whoever holds it may change it"),
            "run `powerpole database install` with --grantor and a new --grantor-password-file, and write it into the \
             grantor's secret; ask who has the old one"
                .into(),
        ));
    }
    for schema in &facts.missing_schemas {
        found.push(warning(
            "schema_missing",
            format!("schema {schema} is installed for and does not exist"),
            "leave it out of --schemas, or create it".into(),
        ));
    }
}

/// Accounts that should be gone, and what holds them.
fn accounts(facts: &Facts, found: &mut Vec<Finding>) {
    for (account, last_error) in &facts.overdue {
        found.push(error(
            "account_overdue",
            format!("{account} is past its end and nobody closes it: {last_error}"),
            "see to it that the event runs (above), or CALL powerpole.sweep()".into(),
        ));
    }
    for (account, last_error) in &facts.closing {
        found.push(error(
            "account_stuck",
            format!("{account} is being closed and not gone: {last_error}"),
            "the event tries again every few seconds. Unless the error says that lock or revoke failed it is locked and \
             holds no rights. 4006: give the objects that are named below another definer; else DROP USER it"
                .into(),
        ));
    }
    for left in &facts.left_behind {
        let what = if left.exists {
            "which is still there: it cannot be dropped before the object has another definer"
        } else {
            "which is gone: using the object fails with error 1449"
        };
        found.push(error(
            "definer_left_behind",
            format!("{} has the definer {}, {what}", left.object, left.definer),
            "make it again with an account of the application as DEFINER, or drop it".into(),
        ));
    }
    prepared_branches(facts, found);
}

/// The server does not say whose a prepared branch is: it may be the application's.
fn prepared_branches(facts: &Facts, found: &mut Vec<Finding>) {
    let Some(branches) = &facts.prepared_branches else {
        found.push(warning(
            "prepared_branches_unseen",
            "this user may not list prepared XA branches, and one may outlive the account that prepared it".into(),
            "run the check as an owner, or GRANT XA_RECOVER_ADMIN".into(),
        ));
        return;
    };
    for branch in branches {
        found.push(warning(
            "prepared_branch",
            format!("the XA branch {branch} is prepared: it holds its locks, without an account, until somebody ends it"),
            format!(
                "if no application of yours is about to end it, it was left behind (statements that say XA are in the \
                 recordings): XA ROLLBACK {branch}"
            ),
        ));
    }
}

fn is_mysql(facts: &Facts) -> bool {
    Dialect::of_version(&facts.version) == Ok(Dialect::MySql)
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
    if grants.contains("CONNECTION_ADMIN") && is_mysql(facts) && !facts.kill_role_active {
        found.push(error(
            "definer_role_missing",
            format!("{KILL_ROLE} is no default role of the definer: ending a connection that changes its password can freeze every login"),
            "run `powerpole database install`".into(),
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
    if facts.definer_unlocked {
        found.push(error(
            "definer_unlocked",
            "the definer's account is not locked".into(),
            "run `powerpole database install`, and ask who unlocked it".into(),
        ));
    }
    for schema in &facts.schemas {
        // As the server shows a grant; `_` is escaped unless partial revokes make it literal.
        let escape = if is_on(&facts.partial_revokes) {
            "_"
        } else {
            r"\_"
        };
        let place = format!("ON `{}`.*", schema.replace('_', escape));
        let granted = |grant: &String| grant.contains(&place) && grant.contains("GRANT OPTION");
        if !facts.definer_grants.iter().any(granted) {
            found.push(error(
                "definer_schema_rights",
                format!("the definer cannot grant rights in schema {schema}"),
                "run `powerpole database install`; also after partial_revokes was switched".into(),
            ));
        }
    }
}
