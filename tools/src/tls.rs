//! AWS behind TLS, for functions that are measured with a real handshake: a server certificate by a root that is made for
//! one run.

use std::{
    env, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{Router, serve::Listener};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer},
    server::TlsStream,
};

use crate::runtime::Failure;

/// A file with the root certificate, which lasts as long as this.
pub(crate) struct Roots(PathBuf);

impl Roots {
    /// Returns the variables by which the SDKs of Rust (here), Python and Node take it.
    pub(crate) fn variables(&self) -> [(&'static str, &Path); 2] {
        [("AWS_CA_BUNDLE", &self.0), ("NODE_EXTRA_CA_CERTS", &self.0)]
    }
}

impl Drop for Roots {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

struct Encrypted {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Encrypted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.tcp).await;
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

/// Serves behind TLS as `localhost`, and returns the address and the root to trust.
///
/// # Errors
/// There is no port, or no certificate can be made.
pub(crate) async fn serve(router: Router) -> Result<(SocketAddr, Roots), Failure> {
    let mut root = CertificateParams::new(Vec::new())?;
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    root.distinguished_name.push(DnType::CommonName, "the root of one run");
    let root_key = KeyPair::generate()?;
    let certificate = root.self_signed(&root_key)?;
    let own_key = KeyPair::generate()?;
    let mut own = CertificateParams::new(vec!["localhost".to_owned()])?;
    // OpenSSL takes a certificate with the name of its issuer for one that signs itself.
    own.distinguished_name.push(DnType::CommonName, "localhost");
    own.use_authority_key_identifier_extension = true;
    let own = own.signed_by(&own_key, &Issuer::new(root, root_key))?;

    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("commerce-hooks-{}-{}.pem", std::process::id(), NUMBER.fetch_add(1, Ordering::SeqCst));
    let roots = Roots(env::temp_dir().join(name));
    fs::write(&roots.0, certificate.pem())?;

    let key = PrivateKeyDer::try_from(own_key.serialize_der())?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tcp = TcpListener::bind("127.0.0.1:0").await?;
    let address = tcp.local_addr()?;
    let listener = Encrypted { tcp, acceptor: TlsAcceptor::from(Arc::new(config)) };
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((address, roots))
}
