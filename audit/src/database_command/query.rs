//! One statement of the owner's, with the statement in its error.

use mysql_async::{Conn, Row, prelude::Queryable};

use super::error::CommandError;

/// Runs a statement; `shown` stands for it in an error.
pub(super) async fn execute(
    conn: &mut Conn,
    statement: &str,
    shown: String,
) -> Result<(), CommandError> {
    conn.query_drop(statement)
        .await
        .map_err(|source| CommandError::Statement {
            statement: shown,
            source,
        })
}

/// The first column of the first row.
pub(super) async fn one<T>(conn: &mut Conn, statement: &str) -> Result<Option<T>, CommandError>
where
    T: mysql_async::prelude::FromValue + Send + 'static,
{
    let row: Option<Row> =
        conn.query_first(statement)
            .await
            .map_err(|source| CommandError::Statement {
                statement: statement.to_owned(),
                source,
            })?;
    Ok(row
        .and_then(|row| row.get_opt::<T, _>(0))
        .and_then(Result::ok))
}

/// All rows.
pub(super) async fn rows<T>(conn: &mut Conn, statement: &str) -> Result<Vec<T>, CommandError>
where
    T: mysql_async::prelude::FromRow + Send + 'static,
{
    conn.query(statement)
        .await
        .map_err(|source| CommandError::Statement {
            statement: statement.to_owned(),
            source,
        })
}
