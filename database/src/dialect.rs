//! Which SQL a server speaks, taken from what it says of its version.

/// The two families that the installation is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// MySQL 8.0.21 and later, Aurora MySQL 3 and later.
    MySql,
    /// MariaDB 10.6 and later.
    MariaDb,
}

/// A server that the installation is not written for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DialectError {
    /// Too old, or neither family.
    #[error(
        "version {0:?} is not supported: MySQL 8.0.21, Aurora MySQL 3 or MariaDB 10.6 and later"
    )]
    Unsupported(String),
}

impl DialectError {
    /// Stable name of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unsupported(_) => "server_unsupported",
        }
    }
}

impl Dialect {
    /// Reads `SELECT VERSION()`, e.g. `8.0.39`, `9.7.4-2`, `10.11.19-MariaDB-0+deb12u1`.
    pub fn of_version(version: &str) -> Result<Self, DialectError> {
        let unsupported = || DialectError::Unsupported(version.to_owned());
        let mut numbers = version
            .split(|c: char| !c.is_ascii_digit())
            .map(|part| part.parse::<u32>().unwrap_or(0));
        let number = (
            numbers.next().unwrap_or(0),
            numbers.next().unwrap_or(0),
            numbers.next().unwrap_or(0),
        );
        if version.to_ascii_lowercase().contains("mariadb") {
            return if number >= (10, 6, 0) {
                Ok(Self::MariaDb)
            } else {
                Err(unsupported())
            };
        }
        if ((8, 0, 21)..(10, 0, 0)).contains(&number) {
            Ok(Self::MySql)
        } else {
            Err(unsupported())
        }
    }

    /// The authentication plugin whose hash an account of ours is made with.
    pub fn plugin(self) -> &'static str {
        match self {
            Self::MySql => "caching_sha2_password",
            Self::MariaDb => "mysql_native_password",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_name_their_dialect_or_are_refused() {
        for (version, expected) in [
            ("9.7.4-2", Some(Dialect::MySql)),
            ("8.0.39", Some(Dialect::MySql)),
            ("8.4.3-aurora", Some(Dialect::MySql)),
            ("8.0.20", None),
            ("5.7.44-log", None),
            ("10.11.19-MariaDB-0+deb12u1", Some(Dialect::MariaDb)),
            ("5.5.5-10.6.4-MariaDB", None),
            ("10.5.1-MariaDB", None),
            ("", None),
        ] {
            assert_eq!(Dialect::of_version(version).ok(), expected, "{version}");
        }
    }
}
