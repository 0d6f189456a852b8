//! Which servers of the cluster a grant concerns: the writer, the further instances, and where sessions connect.

use powerpole_protocol::handoff::{DatabaseEndpoint, DatabaseTarget, Handoff};
use std::collections::BTreeSet;

/// The cluster's servers, as the handoff names them.
#[derive(Debug, Clone)]
pub(crate) struct Servers {
    writer: DatabaseTarget,
    readers: Vec<DatabaseTarget>,
    session: DatabaseTarget,
}

impl Servers {
    /// Takes them from the handoff.
    pub(crate) fn of(handoff: &Handoff) -> Self {
        Self::new(
            &handoff.database,
            &handoff.readers,
            handoff.session.as_ref(),
        )
    }

    fn new(
        writer: &DatabaseTarget,
        readers: &[DatabaseEndpoint],
        session: Option<&DatabaseEndpoint>,
    ) -> Self {
        let at = |endpoint: &DatabaseEndpoint| DatabaseTarget {
            host: endpoint.host.clone(),
            port: endpoint.port,
            ..writer.clone()
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

    #[test]
    fn a_reader_is_another_place_with_the_same_trust_and_grantor() {
        let writer = DatabaseTarget {
            host: "writer".into(),
            port: 3306,
            ca_pem: Some("pem".into()),
            grantor_secret: "grantor".into(),
        };
        let alone = Servers::new(&writer, &[], None);
        assert_eq!(alone.session(), &writer);
        assert_eq!(alone.ports(), BTreeSet::from([3306]));

        let reader = DatabaseEndpoint {
            host: "reader".into(),
            port: 3307,
        };
        let both = Servers::new(&writer, std::slice::from_ref(&reader), Some(&reader));
        assert_eq!(both.writer(), &writer);
        assert_eq!(both.readers(), std::slice::from_ref(both.session()));
        assert_eq!(both.session().host, "reader");
        assert_eq!(both.session().ca_pem, writer.ca_pem);
        assert_eq!(both.ports(), BTreeSet::from([3306, 3307]));
    }
}
