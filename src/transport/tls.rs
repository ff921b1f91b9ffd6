//! TLS for doors and dials: one provider (aws-lc-rs) for the whole process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key file cannot be used.
    #[error("cannot use {}: {problem}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// The certificate and the key do not go together, or are refused.
    #[error("the certificate and its key cannot be used: {0}")]
    Pair(#[from] rustls::Error),
    /// This machine has no certificates to trust.
    #[error("this machine has no root certificates to check a server against: {0}")]
    NoRoots(String),
}

/// Makes aws-lc-rs the process's crypto provider. May be called again and again.
pub fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // A second thread may have been faster: the provider is the same.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    }
}

/// A server's side: certificate chain and key, both PEM files.
///
/// # Errors
/// [`TlsError`] naming the file.
pub fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    install_crypto();
    let file =
        |path: &Path, problem: &dyn std::fmt::Display| TlsError::File { path: path.to_owned(), problem: problem.to_string() };
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect).map_err(|error| file(certificate, &error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| file(key, &error))?;
    Ok(Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?))
}

/// A client's side: trusts what this machine trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured).
///
/// # Errors
/// [`TlsError::NoRoots`].
pub fn client_config() -> Result<Arc<ClientConfig>, TlsError> {
    install_crypto();
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TlsError::NoRoots(errors.join("; ")));
    }
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

/// Either a plain or an encrypted connection.
pub trait Wire: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Wire for T {}

/// The error of a TLS handshake in words that name the other side's mistake.
#[must_use]
pub fn explain(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(reason)) => format!("its certificate is not trusted: {reason}"),
        Some(other) => other.to_string(),
        None => error.to_string(),
    }
}
