//! Identifiers, parsed once at the edge and trusted inside.
//!
//! Every type here is a validated string: it serialises as that string and refuses anything else.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A text that is not the identifier it was read as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {expected}, not {got:?}")]
pub struct IdError {
    /// The identifier's name, as a person would say it.
    pub what: &'static str,
    /// What would have been right.
    pub expected: &'static str,
    /// The text that was refused, cut to 80 characters.
    pub got: String,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $what:literal, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Reads the identifier.
            ///
            /// # Errors
            /// When the text breaks the rule in the type's description.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(IdError { what: $what, expected: $expected, got: text.chars().take(80).collect() })
                }
            }

            /// The identifier's text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }
    };
}

fn lower_alphanumeric(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn is_request(text: &str) -> bool {
    // Crockford's base32 has no i, l, o, u. 128 bits in 26 digits leave the first at most 7.
    text.strip_prefix("req-").is_some_and(|ulid| {
        ulid.len() == 26
            && ulid
                .chars()
                .all(|c| lower_alphanumeric(c) && !matches!(c, 'i' | 'l' | 'o' | 'u'))
            && ulid.starts_with(|c| ('0'..='7').contains(&c))
    })
}

fn is_cluster(text: &str) -> bool {
    // Amazon RDS: 1–63 letters, digits or hyphens, first a letter, no trailing or double hyphen.
    (1..=63).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| lower_alphanumeric(c) || c == '-')
        && !text.ends_with('-')
        && !text.contains("--")
}

fn is_grantor_secret(text: &str) -> bool {
    text.strip_prefix("powerpole/grantor/").is_some_and(|name| {
        (1..=64).contains(&name.len())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    })
}

fn is_instance(text: &str) -> bool {
    text.strip_prefix("i-").is_some_and(|hex| {
        matches!(hex.len(), 8 | 17)
            && hex
                .chars()
                .all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
    })
}

fn is_account(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.starts_with(lower_alphanumeric)
        && text
            .chars()
            .all(|c| lower_alphanumeric(c) || matches!(c, '.' | '_' | '-'))
}

/// Schemas that belong to the server or to PowerPole; no grant ever reaches them.
pub const SYSTEM_SCHEMAS: [&str; 5] = [
    "mysql",
    "sys",
    "information_schema",
    "performance_schema",
    "powerpole",
];

fn is_schema(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !SYSTEM_SCHEMAS.contains(&text.to_ascii_lowercase().as_str())
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    text.len() <= 254
        && is_local_part(local)
        && domain.contains('.')
        && domain.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| lower_alphanumeric(c) || c == '-')
        })
}

fn is_local_part(local: &str) -> bool {
    (1..=64).contains(&local.len())
        && local
            .chars()
            .all(|c| lower_alphanumeric(c) || matches!(c, '.' | '_' | '-' | '+'))
}

identifier!(
    /// A request: `req-` and a lowercase ULID, so that ids sort by the time they were made.
    RequestId, "a request id", "'req-' and 26 digits of Crockford's base32 in lower case", is_request
);
identifier!(
    /// A database cluster's identifier, as Amazon RDS spells it.
    ClusterId, "a cluster id", "1 to 63 lower-case letters, digits or single hyphens, a letter first", is_cluster
);
identifier!(
    /// Name of a grantor's secret in Secrets Manager. Control may write below `powerpole/handoff/` and not here, and a name
    /// that is no ARN stays in the account.
    GrantorSecretName, "a grantor's secret", "'powerpole/grantor/' and 1 to 64 letters, digits, '-' or '_'", is_grantor_secret
);
identifier!(
    /// An EC2 instance id.
    InstanceId, "an instance id", "'i-' and 8 or 17 hexadecimal digits", is_instance
);
identifier!(
    /// The user part of a database account; MySQL allows 32 characters.
    AccountName, "an account name", "1 to 32 lower-case letters, digits, '.', '_' or '-'", is_account
);
identifier!(
    /// A schema that a grant may reach.
    SchemaName, "a schema name", "1 to 64 letters, digits or '_', and no schema of the system", is_schema
);
identifier!(
    /// A person's email address, in lower case.
    Email, "an email address", "a lower-case address such as 'alice@example.com'", is_email
);

impl RequestId {
    /// Makes an id from a time and randomness; ids of a later millisecond sort later.
    #[must_use]
    pub fn from_parts(unix_ms: u64, random: [u8; 10]) -> Self {
        const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let mut bytes = [0u8; 16];
        bytes[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&random);
        let number = u128::from_be_bytes(bytes);
        let digits = (0..26).rev().map(|place| {
            let digit = usize::try_from((number >> (5 * place)) & 31).unwrap_or(0);
            char::from(DIGITS.get(digit).copied().unwrap_or(b'0'))
        });
        Self(format!("req-{}", digits.collect::<String>()))
    }
}

impl Email {
    /// The account's name for this person: the part before `@`, cut to nothing but what MySQL and the ledger accept.
    ///
    /// # Errors
    /// When the local part is longer than 32 characters or holds a character outside `[a-z0-9._-]`.
    pub fn account_name(&self) -> Result<AccountName, IdError> {
        let local = self.0.split_once('@').map_or("", |(local, _)| local);
        AccountName::parse(local)
    }
}

/// Which try at building a request's bastion this is, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl Attempt {
    /// The first try.
    pub const FIRST: Self = Self(1);
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_valid_and_sort_by_time() {
        let early = RequestId::from_parts(1_700_000_000_000, [0xff; 10]);
        let late = RequestId::from_parts(1_700_000_000_001, [0; 10]);
        assert!(early < late);
        assert_eq!(RequestId::parse(early.as_str()).as_ref(), Ok(&early));
        assert_eq!(early.as_str().len(), 30);
    }

    #[test]
    fn names_outside_the_rules_are_refused() {
        for bad in [
            "",
            "mysql",
            "PowerPole",
            "a-b",
            "a`b",
            "a%",
            &"x".repeat(65),
        ] {
            assert!(SchemaName::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "Alice", "a@b", "a'b", "a b", "-a", &"x".repeat(33)] {
            assert!(AccountName::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "A", "1a", "a-", "a--b", "a_b"] {
            assert!(ClusterId::parse(bad).is_err(), "{bad:?}");
        }
        for bad in [
            "alice",
            "alice@",
            "@example.com",
            "alice@example",
            "Alice@example.com",
            "a b@example.com",
        ] {
            assert!(Email::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["i-", "i-xyz", "i-0123456789abcdef", "i-0123456789ABCDEF0"] {
            assert!(InstanceId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_account_is_the_local_part_or_an_error() {
        let name = |email| Email::parse(email).unwrap().account_name();
        assert_eq!(name("alice@example.com").unwrap().as_str(), "alice");
        assert!(name("alice+db@example.com").is_err());
        assert!(name(&format!("{}@example.com", "a".repeat(33))).is_err());
    }

    #[test]
    fn deserialising_checks_too() {
        assert!(serde_json::from_str::<InstanceId>("\"i-nope\"").is_err());
        assert!(serde_json::from_str::<InstanceId>("\"i-0123456789abcdef0\"").is_ok());
    }
}
