//! The server that the owner names, and the owner's login to it.

use clap::Args as ClapArgs;
use mysql_async::{Conn, Opts, OptsBuilder, SslOpts};
use powerpole_protocol::secret::Secret;
use std::path::PathBuf;
use zeroize::Zeroizing;

use super::error::CommandError;
use super::files::{first_line_of, read, text};

#[derive(Debug, ClapArgs)]
pub(super) struct Server {
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

/// Logs in as the owner, over TLS with a checked certificate.
pub(super) async fn connect(server: &Server) -> Result<Conn, CommandError> {
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
}
