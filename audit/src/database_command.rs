//! `powerpole database install|check|uninstall`: what the owner of a cluster runs.
//!
//! Owns: the owner's connection and the words shown to the owner. Trusts: the server whose certificate it
//! checked. Never: takes a password or a key as an argument, prints one, or connects without TLS.

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use mysql_async::{Conn, Opts, OptsBuilder, Row, SslOpts, prelude::Queryable};
use powerpole_database::{
    Authentication, Dialect, DialectError, Grantor, InstallError, InstallOptions,
    check::{Facts, Finding, Severity, findings},
    install::{
        DEFINER, install_statements, retire_key_statement, script, ticket_key_statement,
        uninstall_statements,
    },
    ticket::KEY_LEN,
};
use powerpole_protocol::secret::Secret;
use std::{io::Write as _, path::PathBuf, process::ExitCode, time::Duration};
use zeroize::Zeroizing;

/// How long the event gets to run for the first time.
const EVENT_TRIES: u32 = 50;
const EVENT_PAUSE: Duration = Duration::from_millis(100);

/// Arguments of `powerpole database`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Installs or updates the schema, the procedures and the expiry event
    Install(Install),
    /// Says what is wrong and how to mend it; exit code 1 if anything is
    Check(Check),
    /// Removes everything, the registry included
    Uninstall(Uninstall),
}

#[derive(Debug, ClapArgs)]
struct Server {
    /// Writer endpoint of the cluster
    #[arg(long)]
    host: Option<String>,
    /// Its port [default: 3306]
    #[arg(long)]
    port: Option<u16>,
    /// An owner: may create users and grant rights in the schemas
    #[arg(long)]
    user: Option<String>,
    /// File whose first line is the password; without one it is asked for
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Option file in MySQL's form; user, password, host and port of [client] are read
    #[arg(long, value_name = "FILE")]
    defaults_file: Option<PathBuf>,
    /// Certificates to trust (PEM); without it the well-known authorities
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
struct Install {
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
    /// Ends an old ticket key; may be repeated
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
    /// Refuse to open accounts while the server's audit log is off
    #[arg(long)]
    require_audit: bool,
    /// Prints the SQL and changes nothing; no key is in it, no server is asked
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

#[derive(Debug, ClapArgs)]
struct Check {
    #[command(flatten)]
    server: Server,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
struct Uninstall {
    #[command(flatten)]
    server: Server,
    /// Close accounts that are still open
    #[arg(long)]
    force: bool,
    /// Prints the SQL and changes nothing
    #[arg(long)]
    print: bool,
}

#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error("cannot read {path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{0} is missing: give it as an option or in --defaults-file")]
    Missing(&'static str),
    #[error("{0} is not a key: 32 bytes or 64 hexadecimal digits")]
    Key(PathBuf),
    #[error("no password could be read from the terminal")]
    Prompt(#[source] std::io::Error),
    #[error("cannot log in to {0}")]
    Connect(String, #[source] mysql_async::Error),
    #[error("the server refused: {statement}")]
    Statement {
        statement: String,
        #[source]
        source: mysql_async::Error,
    },
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error(transparent)]
    Dialect(#[from] DialectError),
    #[error("{0} accounts are open; close them or use --force")]
    AccountsOpen(u64),
}

/// Runs the command; 0 done or healthy, 1 something was found, 2 it could not be done.
pub(crate) async fn run(args: Args) -> ExitCode {
    let done = match args.what {
        What::Install(install) => install_command(install).await,
        What::Check(check) => check_command(check).await,
        What::Uninstall(uninstall) => uninstall_command(uninstall).await,
    };
    done.unwrap_or_else(|error| {
        eprintln!("powerpole database: {}", chain_of(&error));
        ExitCode::from(2)
    })
}

async fn install_command(args: Install) -> Result<ExitCode, CommandError> {
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

async fn check_command(args: Check) -> Result<ExitCode, CommandError> {
    let mut conn = connect(&args.server).await?;
    let facts = read_facts(&mut conn).await?;
    let found = findings(&facts);
    if args.json {
        println!("{}", as_json(&facts, &found));
    } else {
        show(&found);
    }
    Ok(exit_code(&found))
}

async fn uninstall_command(args: Uninstall) -> Result<ExitCode, CommandError> {
    if args.print {
        print!("{}", script(&uninstall_statements(&[])));
        return Ok(ExitCode::SUCCESS);
    }
    let mut conn = connect(&args.server).await?;
    let mut grantors = Vec::new();
    if is_installed(&mut conn).await? {
        if args.force {
            let close = "UPDATE powerpole.accounts SET lease_until = 0";
            execute(&mut conn, close, close.to_owned()).await?;
            execute(
                &mut conn,
                "CALL powerpole.sweep()",
                "CALL powerpole.sweep()".to_owned(),
            )
            .await?;
        }
        let open =
            "SELECT COUNT(*) FROM powerpole.accounts WHERE state IN ('opening', 'open', 'closing')";
        let open = one::<u64>(&mut conn, open).await?.unwrap_or_default();
        if open > 0 {
            return Err(CommandError::AccountsOpen(open));
        }
        grantors = rows(&mut conn, "SELECT name, host FROM powerpole.grantors").await?;
    }
    for statement in uninstall_statements(&grantors) {
        execute(&mut conn, &statement, statement.clone()).await?;
    }
    println!(
        "removed: schema powerpole, its event, its definer and {} grantors",
        grantors.len()
    );
    Ok(ExitCode::SUCCESS)
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

async fn connect(server: &Server) -> Result<Conn, CommandError> {
    let file = match &server.defaults_file {
        Some(path) => Defaults::parse(&Zeroizing::new(text(path)?)),
        None => Defaults::default(),
    };
    let host = server
        .host
        .clone()
        .or(file.host)
        .ok_or(CommandError::Missing("--host"))?;
    let user = server
        .user
        .clone()
        .or(file.user)
        .ok_or(CommandError::Missing("--user"))?;
    let port = server.port.or(file.port).unwrap_or(3306);
    let password = match (&server.password_file, file.password) {
        (Some(path), _) => first_line_of(path)?,
        (None, Some(password)) => password,
        (None, None) => Secret::new(
            rpassword::prompt_password(format!("Password of {user} on {host}: "))
                .map_err(CommandError::Prompt)?,
        ),
    };
    let mut tls = SslOpts::default();
    if let Some(path) = &server.ca_file {
        tls = tls
            .with_root_certs(vec![read(path)?.into()])
            .with_disable_built_in_roots(true);
    }
    let options: Opts = OptsBuilder::default()
        .ip_or_hostname(host.clone())
        .tcp_port(port)
        .user(Some(user))
        .pass(Some(password.expose()))
        .prefer_socket(false)
        .ssl_opts(tls)
        .connect_attribute("program_name", "powerpole")
        .into();
    Conn::new(options)
        .await
        .map_err(|source| CommandError::Connect(format!("{host}:{port}"), source))
}

/// What of an option file's `[client]` group is used.
#[derive(Default)]
struct Defaults {
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    password: Option<Secret>,
}

impl Defaults {
    fn parse(text: &str) -> Self {
        let mut defaults = Self::default();
        let mut in_client = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                in_client = line == "[client]";
                continue;
            }
            let Some((name, value)) = line.split_once('=').filter(|_| in_client) else {
                continue;
            };
            let value = value.trim();
            let value = ['"', '\'']
                .into_iter()
                .find_map(|q| value.strip_prefix(q).and_then(|v| v.strip_suffix(q)))
                .unwrap_or(value);
            match name.trim() {
                "host" => defaults.host = Some(value.to_owned()),
                "port" => defaults.port = value.parse().ok(),
                "user" => defaults.user = Some(value.to_owned()),
                "password" => defaults.password = Some(Secret::new(value.to_owned())),
                _ => {}
            }
        }
        defaults
    }
}

async fn is_installed(conn: &mut Conn) -> Result<bool, CommandError> {
    let tables = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'powerpole' AND TABLE_NAME = 'settings'";
    Ok(one::<u64>(conn, tables)
        .await?
        .is_some_and(|found| found > 0))
}

async fn read_facts(conn: &mut Conn) -> Result<Facts, CommandError> {
    let mut facts = Facts {
        version: one(conn, "SELECT VERSION()").await?.unwrap_or_default(),
        event_scheduler: variable(conn, "event_scheduler").await?,
        skip_name_resolve: variable(conn, "skip_name_resolve").await?,
        read_only: variable(conn, "read_only").await?,
        partial_revokes: variable(conn, "partial_revokes").await?,
        mandatory_roles: variable(conn, "mandatory_roles").await?,
        audit_logging: variable(conn, "server_audit_logging").await?,
        ..Facts::default()
    };
    let cipher: Vec<(String, String)> = rows(conn, "SHOW SESSION STATUS LIKE 'Ssl_cipher'").await?;
    facts.cipher = cipher
        .into_iter()
        .next()
        .map(|(_, value)| value)
        .unwrap_or_default();
    if !is_installed(conn).await? {
        return Ok(facts);
    }
    let setting =
        |name: &str| format!("SELECT value FROM powerpole.settings WHERE name = '{name}'");
    facts.installed = Some(
        one::<String>(conn, &setting("version"))
            .await?
            .and_then(|v| v.parse().ok())
            .unwrap_or(0),
    );
    facts.require_audit = one::<String>(conn, &setting("require_audit"))
        .await?
        .is_some_and(|value| value == "1");
    facts.event_age_s = one(
        conn,
        "SELECT CAST(UNIX_TIMESTAMP() AS SIGNED) - ran_at FROM powerpole.heartbeat WHERE ran_at > 0",
    )
    .await?;
    // The definer may be missing altogether: no grants is the finding.
    facts.definer_grants = conn
        .query(format!("SHOW GRANTS FOR {DEFINER}"))
        .await
        .unwrap_or_default();
    facts.ticket_keys = rows(
        conn,
        "SELECT key_id FROM powerpole.ticket_keys ORDER BY key_id",
    )
    .await?;
    let grantors: Vec<(String, u64)> = rows(
        conn,
        "SELECT CONCAT('''', g.name, '''@''', g.host, ''''), (SELECT COUNT(*) FROM mysql.user u \
           WHERE CONVERT(u.User USING utf8mb4) COLLATE utf8mb4_bin = g.name \
             AND CONVERT(u.Host USING utf8mb4) COLLATE utf8mb4_bin = g.host AND u.ssl_type <> '') \
         FROM powerpole.grantors g",
    )
    .await?;
    facts.grantors = grantors
        .into_iter()
        .map(|(name, tls)| (name, tls > 0))
        .collect();
    facts.missing_schemas = rows(
        conn,
        "SELECT name FROM powerpole.schemas WHERE name NOT IN \
         (SELECT CONVERT(SCHEMA_NAME USING utf8mb4) COLLATE utf8mb4_bin FROM information_schema.SCHEMATA)",
    )
    .await?;
    facts.overdue = rows(
        conn,
        "SELECT CONCAT('''', account, '''@''', host, ''''), COALESCE(last_error, '') FROM powerpole.accounts \
         WHERE state IN ('opening', 'open', 'closing') \
           AND LEAST(COALESCE(deadline, not_after), not_after, lease_until) < UNIX_TIMESTAMP() - 10",
    )
    .await?;
    Ok(facts)
}

async fn variable(conn: &mut Conn, name: &'static str) -> Result<String, CommandError> {
    let found: Vec<(String, String)> =
        rows(conn, &format!("SHOW GLOBAL VARIABLES LIKE '{name}'")).await?;
    Ok(found
        .into_iter()
        .next()
        .map(|(_, value)| value)
        .unwrap_or_default())
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

async fn execute(conn: &mut Conn, statement: &str, shown: String) -> Result<(), CommandError> {
    conn.query_drop(statement)
        .await
        .map_err(|source| CommandError::Statement {
            statement: shown,
            source,
        })
}

async fn one<T>(conn: &mut Conn, statement: &str) -> Result<Option<T>, CommandError>
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

async fn rows<T>(conn: &mut Conn, statement: &str) -> Result<Vec<T>, CommandError>
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

/// A reader who closed the pipe has seen enough: errors of writing are not ours to report.
fn show(found: &[Finding]) {
    let mut out = std::io::stdout().lock();
    if found.is_empty() {
        let _ = writeln!(out, "nothing is wrong");
    }
    for finding in found {
        let severity = finding.severity.as_str();
        let _ = writeln!(out, "{severity} {}: {}", finding.code, finding.what);
        let _ = writeln!(out, "    mend: {}", finding.mend);
    }
}

fn as_json(facts: &Facts, found: &[Finding]) -> serde_json::Value {
    let found: Vec<serde_json::Value> = found
        .iter()
        .map(|finding| {
            serde_json::json!({
                "code": finding.code,
                "severity": finding.severity.as_str(),
                "what": finding.what,
                "mend": finding.mend,
            })
        })
        .collect();
    serde_json::json!({ "server": facts.version, "installed": facts.installed, "findings": found })
}

fn exit_code(found: &[Finding]) -> ExitCode {
    if found
        .iter()
        .any(|finding| finding.severity == Severity::Error)
    {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    }
}

fn first_line(statement: &str) -> String {
    statement
        .lines()
        .find(|line| !line.starts_with("--"))
        .unwrap_or_default()
        .to_owned()
}

fn first_line_of(path: &PathBuf) -> Result<Secret, CommandError> {
    let all = Zeroizing::new(text(path)?);
    Ok(Secret::new(
        all.lines().next().unwrap_or_default().to_owned(),
    ))
}

fn text(path: &PathBuf) -> Result<String, CommandError> {
    std::fs::read_to_string(path).map_err(|source| CommandError::File {
        path: path.clone(),
        source,
    })
}

fn read(path: &PathBuf) -> Result<Vec<u8>, CommandError> {
    std::fs::read(path).map_err(|source| CommandError::File {
        path: path.clone(),
        source,
    })
}

fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // The driver's errors repeat their source.
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_file_gives_its_client_group_only() {
        let defaults = Defaults::parse(
            "[mysqld]\nuser=mysql\n[client]\nuser = owner\npassword=\"a=b#c\"\nport=3307\n[dump]\nhost=x\n",
        );
        assert_eq!(defaults.user.as_deref(), Some("owner"));
        assert_eq!(
            defaults.password.map(|p| p.expose().to_owned()).as_deref(),
            Some("a=b#c")
        );
        assert_eq!((defaults.port, defaults.host), (Some(3307), None));
    }

    #[test]
    fn a_key_in_digits_is_read_and_an_odd_one_is_not() {
        assert_eq!(from_hex(b"00fF"), Some(vec![0, 255]));
        assert_eq!(from_hex(b"0"), None);
        assert_eq!(from_hex(b"zz"), None);
    }
}
