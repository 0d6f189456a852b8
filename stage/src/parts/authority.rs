//! The stage's own certificate authority, made by openssl and kept in the stage's folder. It vouches for nothing else.

use super::error::PartsError;
use super::paths::StagePaths;
use super::process::run;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// Longer than any stage lives.
const DAYS: &str = "30";

/// A stage's certificate authority.
pub(crate) struct Authority {
    dir: PathBuf,
}

/// A certificate and its key, as PEM files.
pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// Opens the stage's authority, or makes it on the first call.
    pub(crate) async fn open(stage: &StagePaths) -> Result<Self, PartsError> {
        let dir = stage.tls();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(PartsError::file("create", &dir))?;
        let authority = Self { dir };
        if !authority.certificate().exists() {
            let mut command = openssl(&authority.dir);
            command.args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ]);
            command.args([
                "-days",
                DAYS,
                "-subj",
                "/CN=PowerPole stage CA",
                "-keyout",
                "ca.key",
                "-out",
                "ca.new",
            ]);
            command.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
            run("openssl req", command).await?;
            rename(&authority.dir.join("ca.new"), &authority.certificate())?;
        }
        Ok(authority)
    }

    /// The authority's certificate: what clients trust.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A server's certificate for `names` (`IP:…`, `DNS:…`), made once for each `name`.
    pub(crate) async fn issue(
        &self,
        name: &str,
        names: &[&str],
    ) -> Result<Certificate, PartsError> {
        let issued = Certificate {
            certificate: self.dir.join(format!("{name}.pem")),
            key: self.dir.join(format!("{name}.key")),
        };
        if issued.certificate.exists() {
            return Ok(issued);
        }
        let (request, extensions, fresh) = (
            format!("{name}.csr"),
            format!("{name}.ext"),
            format!("{name}.new"),
        );
        let mut command = openssl(&self.dir);
        command.args([
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ]);
        command
            .args(["-subj", &format!("/CN={name}")])
            .arg("-keyout")
            .arg(&issued.key)
            .args(["-out", &request]);
        run("openssl req", command).await?;
        let text = format!(
            "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nsubjectAltName={}\n",
            names.join(",")
        );
        let path = self.dir.join(&extensions);
        std::fs::write(&path, text).map_err(PartsError::file("write", &path))?;
        let mut command = openssl(&self.dir);
        command.args([
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
        ]);
        command.args(["-days", DAYS, "-extfile", &extensions, "-out", &fresh]);
        run("openssl x509", command).await?;
        rename(&self.dir.join(fresh), &issued.certificate)?;
        Ok(issued)
    }

    /// Copies authority, certificate and key into `dir` as `ca.pem`, `server.pem` and `server.key`, owned by `uid`.
    pub(crate) fn install(
        &self,
        issued: &Certificate,
        dir: &Path,
        uid: u32,
    ) -> Result<(), PartsError> {
        let authority = self.certificate();
        let pairs = [
            (&authority, "ca.pem"),
            (&issued.certificate, "server.pem"),
            (&issued.key, "server.key"),
        ];
        for (from, name) in pairs {
            let to = dir.join(name);
            std::fs::copy(from, &to).map_err(PartsError::file("copy", &to))?;
            chown(&to, Some(uid), Some(uid)).map_err(PartsError::file("give away", &to))?;
        }
        Ok(())
    }
}

fn openssl(dir: &Path) -> Command {
    let mut command = Command::new("openssl");
    command.current_dir(dir);
    command
}

fn rename(from: &Path, to: &Path) -> Result<(), PartsError> {
    std::fs::rename(from, to).map_err(PartsError::file("rename", from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_it_issues_verifies_against_it_for_that_address_only() {
        let dir = tempfile::tempdir().unwrap();
        let stage = StagePaths::open("t", dir.path()).unwrap();
        let authority = Authority::open(&stage).await.unwrap();
        let issued = authority.issue("mysql", &["IP:10.77.0.1"]).await.unwrap();
        let verify = |address: &str| {
            let mut command = Command::new("openssl");
            command.args(["verify", "-verify_ip", address, "-CAfile"]);
            command
                .arg(authority.certificate())
                .arg(&issued.certificate);
            run("openssl verify", command)
        };
        verify("10.77.0.1").await.unwrap();
        verify("10.77.0.2").await.unwrap_err();
        let before = std::fs::read(authority.certificate()).unwrap();
        Authority::open(&stage).await.unwrap();
        assert_eq!(std::fs::read(stage.tls().join("ca.pem")).unwrap(), before);
    }
}
