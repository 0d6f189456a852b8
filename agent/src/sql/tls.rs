//! TLS on both legs: our own certificate towards the operator's client, which is on this machine, and the cluster's
//! verified certificate towards the database.

use crate::account::DatabaseTarget;
use std::io;
use std::sync::Arc;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName,
};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// TLS that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The endpoint's own certificate cannot be made.
    #[error("cannot make the endpoint's certificate: {0}")]
    Own(String),
    /// The cluster's certificates cannot be read.
    #[error("the database's CA certificates cannot be read: {0}")]
    Authority(String),
    /// The endpoint's host name is no name for a certificate.
    #[error("{0:?} is no name that a certificate can carry")]
    Name(String),
}

/// Accepts clients with a certificate made now for this boot alone.
pub(crate) fn acceptor() -> Result<TlsAcceptor, TlsError> {
    let own = |error: &dyn std::error::Error| TlsError::Own(error.to_string());
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(|e| own(&e))?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| own(&e))?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .map_err(|e| own(&e))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Connects to the database, whose certificate must lead to the CA that the grantor's secret names, or to the
/// system's own roots where it names none.
pub(crate) fn connector(
    target: &DatabaseTarget,
) -> Result<(TlsConnector, ServerName<'static>), TlsError> {
    let name = ServerName::try_from(target.host.clone())
        .map_err(|_| TlsError::Name(target.host.clone()))?;
    let mut roots = RootCertStore::empty();
    match &target.ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                certificate
                    .map_err(io::Error::other)
                    .and_then(|der| roots.add(der).map_err(io::Error::other))
                    .map_err(|e| TlsError::Authority(e.to_string()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(TlsError::Authority("there is none".to_owned()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Authority(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((TlsConnector::from(Arc::new(config)), name))
}
