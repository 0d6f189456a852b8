//! `powerpole database install`.

use clap::{Args as ClapArgs, ValueEnum};
use mysql_async::Conn;
use powerpole_database::{
    Authentication, Dialect, Grantor, InstallOptions,
    check::findings,
    install::{install_statements, retire_key_statement, script, ticket_key_statement},
    ticket::KEY_LEN,
};
use std::{path::PathBuf, process::ExitCode, time::Duration};
use zeroize::Zeroizing;

use super::error::CommandError;
use super::facts::read_facts;
use super::files::{first_line_of, read};
use super::query::{execute, one};
use super::server::{Server, connect};
use super::show::{exit_code, show};

/// How long the event gets to run for the first time.
const EVENT_TRIES: u32 = 50;
const EVENT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, ClapArgs)]
#[command(after_help = super::EXIT_CODES)]
pub(super) struct Install {
    #[command(flatten)]
    server: Server,
    /// Schemas that grants may name, by commas; rights in all others are taken back
    #[arg(long, value_delimiter = ',', required = true)]
    schemas: Vec<String>,
    /// Account that bastions call the procedures with
    #[arg(long, value_name = "NAME")]
    grantor: Option<String>,
    /// Where the grantor may come from: the bastions' subnet, e.g. 10.77.64.0/255.255.192.0
    #[arg(long, value_name = "HOST", default_value = "%")]
    grantor_host: String,
    /// File whose first line is the grantor's password; only its hash is sent
    #[arg(long, value_name = "FILE", requires = "grantor")]
    grantor_password_file: Option<PathBuf>,
    /// File with the ticket key: 32 bytes, or their 64 hexadecimal digits
    #[arg(long, value_name = "FILE", requires = "ticket_key_id")]
    ticket_key_file: Option<PathBuf>,
    /// Name of that key in tickets
    #[arg(long, value_name = "ID", requires = "ticket_key_file")]
    ticket_key_id: Option<String>,
    /// End an old ticket key; may be repeated
    #[arg(long, value_name = "ID")]
    retire_ticket_key: Vec<String>,
    /// Seconds that an account lives without a renewal
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    lease_s: u32,
    /// Longest time from opening to deadline, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 43_200)]
    max_window_s: u32,
    /// Connections that one account may hold
    #[arg(long, value_name = "NUMBER", default_value_t = 8)]
    max_connections: u32,
    /// Connections that the grantor may hold, all bastions together; 0: any number. Two are enough to freeze MySQL's logins
    #[arg(long, value_name = "NUMBER", requires = "grantor", default_value_t = 1)]
    grantor_connections: u32,
    /// Refuse to open accounts while the server's audit log is off
    #[arg(long)]
    require_audit: bool,
    /// Print the SQL and change nothing; no key is in it, no server is asked
    #[arg(long)]
    print: bool,
    /// With --print: which server the SQL is for
    #[arg(long, value_enum, default_value_t = PrintDialect::Mysql)]
    dialect: PrintDialect,
    /// With --print: for Aurora and RDS, where only mysql.rds_kill ends connections
    #[arg(long)]
    rds: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PrintDialect {
    Mysql,
    Mariadb,
}

/// Installs, or prints what would be run.
pub(super) async fn install_command(args: Install) -> Result<ExitCode, CommandError> {
    if args.print {
        let dialect = match args.dialect {
            PrintDialect::Mysql => Dialect::MySql,
            PrintDialect::Mariadb => Dialect::MariaDb,
        };
        let options = install_options(&args, dialect, args.rds)?;
        print!("{}", script(&install_statements(dialect, &options)?));
        return Ok(ExitCode::SUCCESS);
    }
    let key = ticket_key(&args)?;
    let mut conn = connect(&args.server).await?;
    let version: String = one(&mut conn, "SELECT VERSION()")
        .await?
        .unwrap_or_default();
    let dialect = Dialect::of_version(&version)?;
    let rds_kill = one::<u64>(
        &mut conn,
        "SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'mysql' AND ROUTINE_NAME = 'rds_kill'",
    )
    .await?
    .is_some_and(|found| found > 0);
    let options = install_options(&args, dialect, rds_kill)?;
    for statement in install_statements(dialect, &options)? {
        execute(&mut conn, &statement, first_line(&statement)).await?;
    }
    if let Some((id, key)) = key {
        let statement = Zeroizing::new(ticket_key_statement(&id, &key)?);
        execute(&mut conn, &statement, format!("(ticket key {id})")).await?;
    }
    for id in &args.retire_ticket_key {
        let statement = retire_key_statement(id)?;
        execute(&mut conn, &statement, statement.clone()).await?;
    }
    wait_for_event(&mut conn).await?;
    println!("installed on {version} for {}", args.schemas.join(", "));
    let found = findings(&read_facts(&mut conn).await?);
    show(&found);
    Ok(exit_code(&found))
}

fn install_options(
    args: &Install,
    dialect: Dialect,
    rds_kill: bool,
) -> Result<InstallOptions, CommandError> {
    let grantor = match &args.grantor {
        None => None,
        Some(name) => {
            let authentication = match &args.grantor_password_file {
                None => None,
                Some(path) => {
                    let password = first_line_of(path)?;
                    Some(Authentication::of(
                        dialect,
                        password.expose().as_bytes(),
                        name.as_bytes(),
                    ))
                }
            };
            Some(Grantor {
                name: name.clone(),
                host: args.grantor_host.clone(),
                authentication,
            })
        }
    };
    Ok(InstallOptions {
        schemas: args.schemas.clone(),
        grantor,
        lease_s: args.lease_s,
        max_window_s: args.max_window_s,
        max_connections: args.max_connections,
        grantor_connections: args.grantor_connections,
        require_audit: args.require_audit,
        rds_kill,
    })
}

/// A key's id and the key.
type TicketKey = (String, Zeroizing<[u8; KEY_LEN]>);

fn ticket_key(args: &Install) -> Result<Option<TicketKey>, CommandError> {
    let (Some(path), Some(id)) = (&args.ticket_key_file, &args.ticket_key_id) else {
        return Ok(None);
    };
    let bytes = Zeroizing::new(read(path)?);
    let decoded = if bytes.len() == KEY_LEN {
        bytes
    } else {
        Zeroizing::new(from_hex(bytes.trim_ascii()).unwrap_or_default())
    };
    <[u8; KEY_LEN]>::try_from(decoded.as_slice())
        .map(|key| Some((id.clone(), Zeroizing::new(key))))
        .map_err(|_| CommandError::Key(path.clone()))
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let nibble = |digit: &u8| {
        char::from(*digit)
            .to_digit(16)
            .and_then(|n| u8::try_from(n).ok())
    };
    digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(nibble(high)? << 4 | nibble(low)?),
            _ => None,
        })
        .collect()
}

async fn wait_for_event(conn: &mut Conn) -> Result<(), CommandError> {
    for _ in 0..EVENT_TRIES {
        let fresh = "SELECT ran_at >= UNIX_TIMESTAMP() - 2 FROM powerpole.heartbeat";
        if one::<bool>(conn, fresh).await? == Some(true) {
            break;
        }
        tokio::time::sleep(EVENT_PAUSE).await;
    }
    Ok(())
}

fn first_line(statement: &str) -> String {
    statement
        .lines()
        .find(|line| !line.starts_with("--"))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_digits_is_read_and_an_odd_one_is_not() {
        assert_eq!(from_hex(b"00fF"), Some(vec![0, 255]));
        assert_eq!(from_hex(b"0"), None);
        assert_eq!(from_hex(b"zz"), None);
    }
}
