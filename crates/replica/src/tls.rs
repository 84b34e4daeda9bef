//! TLS for the connection to the database.

use crate::error::Error;
use crate::url::{Trust, Url, describe};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;

/// What connects, by what the URL says of it.
///
/// # Errors
/// [`Error::Certificates`].
pub(crate) fn connector(url: &Url) -> Result<MakeRustlsConnect, Error> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| Error::Certificates { what: e.to_string() })?;
    let config = match url.trust {
        Trust::Named => builder.with_root_certificates(roots(url)?).with_no_client_auth(),
        Trust::Anybody | Trust::Certified => {
            let verifier = match url.trust {
                Trust::Anybody => None,
                _ => Some(
                    WebPkiServerVerifier::builder_with_provider(Arc::new(roots(url)?), Arc::clone(&provider))
                        .build()
                        .map_err(|e| Error::Certificates { what: e.to_string() })?,
                ),
            };
            let lenient = Arc::new(Lenient { verifier, provider });
            builder.dangerous().with_custom_certificate_verifier(lenient).with_no_client_auth()
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

fn roots(url: &Url) -> Result<RootCertStore, Error> {
    let failed = |what: String| Error::Certificates { what };
    let mut store = RootCertStore::empty();
    match &url.roots {
        Some(path) => {
            let read = CertificateDer::pem_file_iter(path)
                .map_err(|e| failed(format!("{path:?}: {}", describe(&e))))?;
            for certificate in read {
                let certificate = certificate.map_err(|e| failed(format!("{path:?}: {}", describe(&e))))?;
                store.add(certificate).map_err(|e| failed(format!("{path:?}: {}", describe(&e))))?;
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    match store.is_empty() {
        true => Err(failed("there are none".into())),
        false => Ok(store),
    }
}

/// Does not mind the name in a certificate, or not the certificate at all, as `sslmode` says.
#[derive(Debug)]
struct Lenient {
    verifier: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        let Some(verifier) = &self.verifier else { return Ok(ServerCertVerified::assertion()) };
        match verifier.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
