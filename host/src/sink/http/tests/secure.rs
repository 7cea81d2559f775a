//! The same over TLS.

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;

#[tokio::test]
async fn a_receiver_is_trusted_only_if_its_authority_is() {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let tls = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, book) = (listener.local_addr().unwrap(), Arc::<Book>::default());
    let (kept, acceptor) = (book.clone(), TlsAcceptor::from(Arc::new(tls)));
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream, kept.clone(), Arc::new(|_: usize, _: &Seen| answer(200, &[], ""))).await;
            }
        }
    });
    let _serving = AbortOnDropHandle::new(serving);

    let mut stranger = sink_of(address, RootCertStore::empty());
    let mut refused = Vec::new();
    stranger.write(&numbers(0, 1), &mut refused).await.unwrap();
    let told = stranger.flush(&mut refused).await.unwrap_err();
    assert!(matches!(&told, SinkError::Later(why) if format!("{why:#}").contains("certificate")), "{told:?}");
    assert_eq!(book.seen.lock().unwrap().len(), 0, "nothing was told to a stranger");

    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    deliver(&mut sink_of(address, roots), &numbers(0, 2)).await;
    assert_eq!(book.seen.lock().unwrap()[0].body, "0\n1\n");
}

fn sink_of(address: SocketAddr, roots: RootCertStore) -> HttpSink {
    let config = config(&format!("https://localhost:{}/", address.port()));
    open_trusting(&config, of(9), "test/out".to_owned(), roots).unwrap()
}
