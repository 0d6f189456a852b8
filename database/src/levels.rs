//! What each access level may do in the schemas of its grant: exact privilege sets, per schema.
//!
//! No level holds TRIGGER, CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE or EVENT: an object made with the
//! operator as its definer stops working for the application when the account goes.

/// One level and its privileges on `<schema>.*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelPrivileges {
    /// `READ`, `WRITE` or `ADMIN`.
    pub level: &'static str,
    /// As written in a GRANT.
    pub privileges: &'static [&'static str],
}

/// The levels, each containing the one before.
pub const LEVELS: [LevelPrivileges; 3] = [
    LevelPrivileges {
        level: "READ",
        privileges: &["SELECT", "SHOW VIEW"],
    },
    LevelPrivileges {
        level: "WRITE",
        privileges: &[
            "SELECT",
            "SHOW VIEW",
            "INSERT",
            "UPDATE",
            "DELETE",
            "EXECUTE",
            "CREATE TEMPORARY TABLES",
        ],
    },
    LevelPrivileges {
        level: "ADMIN",
        privileges: &[
            "SELECT",
            "SHOW VIEW",
            "INSERT",
            "UPDATE",
            "DELETE",
            "EXECUTE",
            "CREATE TEMPORARY TABLES",
            "CREATE",
            "ALTER",
            "DROP",
            "INDEX",
            "REFERENCES",
            "LOCK TABLES",
        ],
    },
];

/// Schemas that are never granted.
pub const SYSTEM_SCHEMAS: [&str; 5] = [
    "mysql",
    "sys",
    "information_schema",
    "performance_schema",
    "powerpole",
];

/// Whether a schema may be named in a grant at all: `[A-Za-z0-9_]{1,64}` and not a system schema.
pub fn is_grantable_schema(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !SYSTEM_SCHEMAS.contains(&name.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_contains_the_one_before() {
        for pair in LEVELS.windows(2) {
            for privilege in pair[0].privileges {
                assert!(pair[1].privileges.contains(privilege), "{privilege}");
            }
        }
    }

    #[test]
    fn no_level_makes_objects_that_outlive_their_definer() {
        for level in LEVELS {
            for privilege in [
                "TRIGGER",
                "CREATE VIEW",
                "CREATE ROUTINE",
                "ALTER ROUTINE",
                "EVENT",
            ] {
                assert!(
                    !level.privileges.contains(&privilege),
                    "{} {privilege}",
                    level.level
                );
            }
        }
    }

    #[test]
    fn system_schemas_and_odd_names_are_not_grantable() {
        for name in [
            "mysql",
            "MySQL",
            "powerpole",
            "a-b",
            "",
            "a%",
            "a`b",
            "información",
        ] {
            assert!(!is_grantable_schema(name), "{name}");
        }
        assert!(is_grantable_schema("app_1"));
    }
}
