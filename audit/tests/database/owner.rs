//! The owner: a connection, the command, and what it found.

use std::{collections::BTreeMap, fs, path::Path, process::Command, time::Duration};

use mysql_async::{Conn, Opts, OptsBuilder, SslOpts, prelude::Queryable as _};
use powerpole_database::Dialect;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const DEFINER: &str = "'powerpole_definer'@'localhost'";
pub(crate) const GRANTOR: &str = "pp_audit_grantor";

/// The installation is one a server: tests take turns.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) dialect: Dialect,
    pub(crate) conn: Conn,
    opts: Opts,
    ca: String,
    folder: TempDir,
}

/// Runs `test` on each server that the environment names; says loudly which it does not.
pub(crate) async fn on_each<F>(test: F)
where
    F: AsyncFn(&mut Server),
{
    let _turn = TURN.lock().await;
    for (name, variable) in [
        ("MySQL", "POWERPOLE_TEST_MYSQL"),
        ("MariaDB", "POWERPOLE_TEST_MARIADB"),
    ] {
        let (Ok(url), Ok(ca)) = (std::env::var(variable), std::env::var("POWERPOLE_TEST_CA"))
        else {
            eprintln!("SKIPPED: {variable} or POWERPOLE_TEST_CA is not set");
            continue;
        };
        let opts = Opts::from_url(&url).unwrap();
        let tls = SslOpts::default()
            .with_root_certs(vec![fs::read(&ca).unwrap().into()])
            .with_disable_built_in_roots(true);
        let secured = OptsBuilder::from_opts(opts.clone())
            .prefer_socket(false)
            .ssl_opts(tls);
        let mut conn = Conn::new(secured).await.unwrap();
        let version: String = conn.query_first("SELECT VERSION()").await.unwrap().unwrap();
        let folder = TempDir::new().unwrap();
        let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
        write("owner.password", opts.pass().unwrap());
        write("grantor.password", "grantor-password-of-these-tests\n");
        write("ticket.key", &"2a".repeat(32));
        let mut server = Server {
            name,
            dialect: Dialect::of_version(&version).unwrap(),
            conn,
            opts,
            ca,
            folder,
        };
        server
            .run(&[
                "CREATE DATABASE IF NOT EXISTS app_1",
                "CREATE TABLE IF NOT EXISTS app_1.t (id INT PRIMARY KEY, v INT)",
                "SET GLOBAL event_scheduler = ON",
            ])
            .await;
        server.powerpole(&["uninstall", "--force"]);
        test(&mut server).await;
        server.powerpole(&["uninstall", "--force"]);
    }
}

impl Server {
    pub(crate) fn path(&self, file: &str) -> String {
        self.folder.path().join(file).display().to_string()
    }

    pub(crate) async fn run(&mut self, statements: &[&str]) {
        for statement in statements {
            if let Err(error) = self.conn.query_drop(*statement).await {
                panic!("{}: {error}: {statement}", self.name);
            }
        }
    }

    /// Exit code, and what was said.
    pub(crate) fn powerpole(&self, arguments: &[&str]) -> (i32, String) {
        let (what, more) = arguments.split_first().unwrap();
        let output = Command::new(crate::support::binary())
            .args(["database", what])
            .args(["--host", self.opts.ip_or_hostname()])
            .args(["--port", &self.opts.tcp_port().to_string()])
            .args(["--user", self.opts.user().unwrap()])
            .args(["--password-file", &self.path("owner.password")])
            .args(["--ca-file", Path::new(&self.ca).to_str().unwrap()])
            .args(more)
            .output()
            .unwrap();
        let both = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(both).unwrap();
        (output.status.code().unwrap(), text)
    }

    pub(crate) fn install(&self) -> (i32, String) {
        self.powerpole(&[
            "install",
            "--schemas",
            "app_1",
            "--grantor",
            GRANTOR,
            "--grantor-password-file",
            &self.path("grantor.password"),
            "--ticket-key-file",
            &self.path("ticket.key"),
            "--ticket-key-id",
            "k1",
        ])
    }

    /// Findings by code: severity, what and mend of each.
    pub(crate) fn check(&self) -> BTreeMap<String, Vec<[String; 3]>> {
        let (code, text) = self.powerpole(&["check", "--json"]);
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        let mut found = BTreeMap::<String, Vec<[String; 3]>>::new();
        for finding in answer["findings"].as_array().unwrap() {
            let word = |name: &str| finding[name].as_str().unwrap().to_owned();
            let said = ["severity", "what", "mend"].map(word);
            found.entry(word("code")).or_default().push(said);
        }
        let errors = found.values().flatten().any(|said| said[0] == "error");
        assert_eq!(code, i32::from(errors), "{text}");
        found
    }

    /// Checks until `code` is found or, where it must not be, is not found any more.
    pub(crate) async fn check_until(
        &self,
        code: &str,
        wanted: bool,
    ) -> BTreeMap<String, Vec<[String; 3]>> {
        for _ in 0..60 {
            let found = self.check();
            if found.contains_key(code) == wanted {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        panic!(
            "{}: {code} never became {wanted}: {:?}",
            self.name,
            self.check()
        );
    }
}
