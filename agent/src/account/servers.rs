//! Which servers of the cluster a grant concerns: the writer, the further instances, and where sessions connect.
//!
//! All of them are what the grantor's secret names: its author is the database's owner. Control says which of writer and
//! reader the sessions use, and nothing else.

use super::Grantor;
use powerpole_protocol::grantor::{DatabaseEndpoint, GrantorSecret};
use powerpole_protocol::handoff::SessionServer;
use std::collections::BTreeSet;

/// How to reach one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DatabaseTarget {
    /// Host name or address.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// Certificates to trust in PEM; `None`: the system's own roots.
    pub(crate) ca_pem: Option<String>,
}

/// The cluster's servers.
#[derive(Debug, Clone)]
pub(crate) struct Servers {
    writer: DatabaseTarget,
    readers: Vec<DatabaseTarget>,
    session: DatabaseTarget,
}

/// Sessions were to connect to a reader of a cluster that has none.
#[derive(Debug, thiserror::Error)]
#[error("sessions are to connect to a reader, and the grantor's secret names none")]
pub(crate) struct NoReader;

impl Servers {
    /// Takes them, and the grantor's credential, from the grantor's secret.
    ///
    /// # Errors
    /// When sessions are to connect to a reader and there is none.
    pub(crate) fn of(
        secret: GrantorSecret,
        session: SessionServer,
    ) -> Result<(Self, Grantor), NoReader> {
        let session = match session {
            SessionServer::Writer => None,
            SessionServer::Reader => Some(secret.readers.first().ok_or(NoReader)?),
        };
        let writer = DatabaseTarget {
            host: secret.writer.host,
            port: secret.writer.port,
            ca_pem: secret.ca_pem,
        };
        let servers = Self::new(&writer, &secret.readers, session);
        let grantor = Grantor {
            username: secret.username,
            password: secret.password,
        };
        Ok((servers, grantor))
    }

    fn new(
        writer: &DatabaseTarget,
        readers: &[DatabaseEndpoint],
        session: Option<&DatabaseEndpoint>,
    ) -> Self {
        let at = |endpoint: &DatabaseEndpoint| DatabaseTarget {
            host: endpoint.host.clone(),
            port: endpoint.port,
            ca_pem: writer.ca_pem.clone(),
        };
        Self {
            writer: writer.clone(),
            readers: readers.iter().map(at).collect(),
            session: session.map_or_else(|| writer.clone(), at),
        }
    }

    /// Where accounts are opened, renewed and closed.
    pub(crate) fn writer(&self) -> &DatabaseTarget {
        &self.writer
    }

    /// The further instances.
    pub(crate) fn readers(&self) -> &[DatabaseTarget] {
        &self.readers
    }

    /// Where this grant's sessions connect.
    pub(crate) fn session(&self) -> &DatabaseTarget {
        &self.session
    }

    /// Every port that one of them listens on.
    pub(crate) fn ports(&self) -> BTreeSet<u16> {
        let further = self.readers.iter().chain([&self.session]);
        further
            .map(|target| target.port)
            .chain([self.writer.port])
            .collect()
    }
}

#[cfg(test)]
impl Servers {
    /// A cluster of these servers, for tests.
    pub(crate) fn trial(
        writer: &DatabaseTarget,
        readers: &[DatabaseEndpoint],
        session: Option<&DatabaseEndpoint>,
    ) -> Self {
        Self::new(writer, readers, session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use powerpole_protocol::secret::Secret;

    fn secret(readers: &[DatabaseEndpoint]) -> GrantorSecret {
        GrantorSecret {
            cluster: "orders-prod".parse().unwrap(),
            username: "grantor".into(),
            password: Secret::new("secret".into()),
            writer: DatabaseEndpoint {
                host: "writer".into(),
                port: 3306,
            },
            ca_pem: Some("pem".into()),
            readers: readers.to_vec(),
        }
    }

    #[test]
    fn a_reader_is_another_place_with_the_same_trust() {
        let (alone, grantor) = Servers::of(secret(&[]), SessionServer::Writer).unwrap();
        assert_eq!(
            (grantor.username.as_str(), grantor.password.expose()),
            ("grantor", "secret")
        );
        assert_eq!(alone.session(), alone.writer());
        assert_eq!(alone.ports(), BTreeSet::from([3306]));

        let reader = DatabaseEndpoint {
            host: "reader".into(),
            port: 3307,
        };
        let readers = std::slice::from_ref(&reader);
        let (both, _) = Servers::of(secret(readers), SessionServer::Reader).unwrap();
        assert_eq!(both.writer(), alone.writer());
        assert_eq!(both.readers(), std::slice::from_ref(both.session()));
        assert_eq!(both.session().host, "reader");
        assert_eq!(both.session().ca_pem, both.writer().ca_pem);
        assert_eq!(both.ports(), BTreeSet::from([3306, 3307]));

        let (written, _) = Servers::of(secret(readers), SessionServer::Writer).unwrap();
        assert_eq!(written.session(), written.writer());
        assert!(Servers::of(secret(&[]), SessionServer::Reader).is_err());
    }
}
