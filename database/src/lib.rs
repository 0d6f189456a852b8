//! What the owner of a cluster installs once, so that PowerPole can open and close accounts there
//! and the server itself ends what outlives its time.
//!
//! Owns: the SQL of the `powerpole` schema ([`install_sql`]), the levels as data ([`levels`]), the
//! spelling of a ticket ([`ticket`]) and of a password's hash ([`password`]).
//! Trusts: the server's clock, its `USER()`, and the key in `powerpole.ticket_keys`.
//! Never: opens a connection, reads a clock, or puts a password into SQL.

pub mod check;
pub mod crypt;
pub mod dialect;
pub mod install;
pub mod levels;
pub mod password;
pub mod ticket;

pub use dialect::{Dialect, DialectError};
pub use install::{
    Grantor, InstallError, InstallOptions, SCHEMA_VERSION, install_sql, install_statements,
    retire_key_statement, script, ticket_key_statement, uninstall_statements,
};
pub use password::Authentication;
