//! The templates, and what fills their blanks for each dialect.

use super::{DEFINER, InstallOptions, KILL_ROLE, PUBLIC_PROCEDURES, SCHEMA_VERSION};
use crate::{Authentication, Dialect, levels::LEVELS};

pub(super) const TABLES: &str = include_str!("../../sql/tables.sql");
pub(super) const PRIVATE: &str = include_str!("../../sql/private.sql");
pub(super) const PROCEDURES: &str = include_str!("../../sql/procedures.sql");
pub(super) const GRANTS: &str = include_str!("../../sql/grants.sql");
pub(super) const UNINSTALL: &str = include_str!("../../sql/uninstall.sql");

/// Fills a template for one server.
pub(super) struct Blanks<'a> {
    pub(super) dialect: Dialect,
    pub(super) options: &'a InstallOptions,
    pub(super) grantor: String,
}

impl Blanks<'_> {
    pub(super) fn fill(&self, template: &str) -> String {
        let mysql = self.dialect == Dialect::MySql;
        let mut text = for_dialect(self.dialect, template);
        for (blank, value) in [
            ("{{settings}}", self.settings()),
            ("{{schemas}}", self.schemas()),
            ("{{levels}}", levels()),
            ("{{grantor}}", self.grantor.clone()),
            ("{{public_procedures}}", public_procedures()),
            ("{{create_user}}", create_user(self.dialect).to_owned()),
            (
                "{{authentication_is_wrong}}",
                authentication_is_wrong(self.dialect).to_owned(),
            ),
            (
                "{{schema_pattern}}",
                schema_pattern(self.dialect).to_owned(),
            ),
            ("{{kill}}", self.kill().to_owned()),
            ("{{kill_grant}}", self.kill_grant()),
            (
                "{{global_variables}}",
                if mysql {
                    "performance_schema.global_variables"
                } else {
                    "information_schema.GLOBAL_VARIABLES"
                }
                .to_owned(),
            ),
            ("{{plugin}}", self.dialect.plugin().to_owned()),
            (
                "{{impossible}}",
                Authentication::impossible(self.dialect).stored().to_owned(),
            ),
            ("{{definer}}", DEFINER.to_owned()),
            ("{{definer_quoted}}", DEFINER.replace('\'', "''")),
            ("{{version}}", SCHEMA_VERSION.to_string()),
        ] {
            text = text.replace(blank, &value);
        }
        text
    }

    fn settings(&self) -> String {
        let options = self.options;
        [
            ("lease_s", options.lease_s.to_string()),
            ("max_window_s", options.max_window_s.to_string()),
            ("max_connections", options.max_connections.to_string()),
            ("require_audit", u8::from(options.require_audit).to_string()),
        ]
        .iter()
        .map(|(name, value)| {
            format!(
                "REPLACE INTO powerpole.settings (name, value) VALUES ('{name}', '{value}')\n$$\n"
            )
        })
        .collect()
    }

    fn schemas(&self) -> String {
        self.options
            .schemas
            .iter()
            .map(|name| {
                format!("REPLACE INTO powerpole.schemas (name, kept) VALUES ('{name}', 1)\n$$\n")
            })
            .collect()
    }

    fn kill(&self) -> &'static str {
        if self.options.rds_kill {
            "  CALL mysql.rds_kill(p_connection);"
        } else {
            "  KILL p_connection;"
        }
    }

    fn kill_grant(&self) -> String {
        match (self.options.rds_kill, self.dialect) {
            (true, _) => format!("GRANT EXECUTE ON PROCEDURE mysql.rds_kill TO {DEFINER}"),
            (false, Dialect::MySql) => [
                format!("CREATE ROLE IF NOT EXISTS {KILL_ROLE}"),
                format!("GRANT CONNECTION_ADMIN ON *.* TO {KILL_ROLE}"),
                format!("GRANT {KILL_ROLE} TO {DEFINER}"),
                format!("SET DEFAULT ROLE {KILL_ROLE} TO {DEFINER}"),
            ]
            .join("\n$$\n"),
            (false, Dialect::MariaDb) => format!("GRANT CONNECTION ADMIN ON *.* TO {DEFINER}"),
        }
    }
}

fn levels() -> String {
    LEVELS
        .iter()
        .map(|level| {
            format!(
                "REPLACE INTO powerpole.levels (level, privilege_names) VALUES ('{}', '{}')\n$$\n",
                level.level,
                level.privileges.join(", ")
            )
        })
        .collect()
}

fn public_procedures() -> String {
    let selects: Vec<String> = PUBLIC_PROCEDURES
        .iter()
        .map(|name| format!("    SELECT '{name}' AS routine"))
        .collect();
    selects.join(" UNION ALL\n")
}

/// Arguments of a CONCAT that follow `CREATE USER `.
fn create_user(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::MySql => {
            "v_name, ' IDENTIFIED WITH caching_sha2_password AS 0x', p_authentication, \
             ' REQUIRE SSL WITH MAX_USER_CONNECTIONS ', v_connections, \
             ' FAILED_LOGIN_ATTEMPTS 10 PASSWORD_LOCK_TIME 1 ACCOUNT LOCK', \
             ' ATTRIBUTE ''{\"powerpole\": \"', p_request, '\"}'''"
        }
        Dialect::MariaDb => {
            "v_name, ' IDENTIFIED VIA mysql_native_password USING ''', p_authentication, \
             ''' REQUIRE SSL WITH MAX_USER_CONNECTIONS ', v_connections, ' ACCOUNT LOCK'"
        }
    }
}

fn authentication_is_wrong(dialect: Dialect) -> &'static str {
    match dialect {
        // 0x24412430303524 is $A$005$.
        Dialect::MySql => {
            "CHAR_LENGTH(p_authentication) <> 140 OR p_authentication REGEXP '[^0-9a-f]' \
             OR LEFT(p_authentication, 14) <> '24412430303524'"
        }
        Dialect::MariaDb => {
            "CHAR_LENGTH(p_authentication) <> 41 OR LEFT(p_authentication, 1) <> '*' \
             OR SUBSTRING(p_authentication, 2) REGEXP '[^0-9A-F]'"
        }
    }
}

/// `_` in a GRANT's schema is a wildcard, unless partial revokes are on: then even `\` is literal.
fn schema_pattern(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::MySql => {
            "IF(@@GLOBAL.partial_revokes, v_schema, REPLACE(v_schema, '_', CONCAT(CHAR(92 USING utf8mb4), '_')))"
        }
        Dialect::MariaDb => "REPLACE(v_schema, '_', CONCAT(CHAR(92 USING utf8mb4), '_'))",
    }
}

/// Keeps the blocks between `--{mysql` or `--{mariadb` and `--}` that are the dialect's.
fn for_dialect(dialect: Dialect, template: &str) -> String {
    let mut text = String::with_capacity(template.len());
    let mut keep = true;
    for line in template.lines() {
        match line {
            "--{mysql" => keep = dialect == Dialect::MySql,
            "--{mariadb" => keep = dialect == Dialect::MariaDb,
            "--}" => keep = true,
            _ if keep => {
                text.push_str(line);
                text.push('\n');
            }
            _ => {}
        }
    }
    text
}

/// A script as statements.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut statement = String::new();
    for line in text.lines() {
        if line == "$$" {
            if !statement.trim().is_empty() {
                statements.push(statement.trim().to_owned());
            }
            statement.clear();
        } else {
            statement.push_str(line);
            statement.push('\n');
        }
    }
    statements
}
