//! Sending a request and reading its answer.
//!
//! Owns connections, TLS, compression and the time for an exchange. It must not know records. Invariant: an exchange
//! ends within its time, and holds no more of an answer than [`MOST_READ`].

use std::{io::Write as _, time::Duration};

use anyhow::{Context as _, anyhow, ensure};
use bytes::Bytes;
use flate2::{Compression as Level, write::GzEncoder};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Incoming, header::HeaderValue};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    Compression,
    answer::{Verdict, judge, may_list},
    target::{IDEMPOTENCY_KEY, Target},
};

/// Bytes of an answer that are read: room for a thousand reasons. The connection of a longer one is closed.
pub(super) const MOST_READ: usize = 1 << 20;

/// Time that a connection waits for another request; less than servers usually give it.
const IDLE: Duration = Duration::from_secs(30);

/// A receiver, and the connections to it.
#[derive(Debug)]
pub(super) struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    target: Target,
    compression: Compression,
    timeout: Duration,
}

/// The authorities that this machine trusts.
///
/// # Errors
/// When there is none.
pub(super) fn roots() -> anyhow::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
    ensure!(!roots.is_empty(), "find certificates of authorities on this machine{why}; SSL_CERT_FILE can name a file");
    Ok(roots)
}

impl Client {
    /// A client of `target` that keeps up to `connections` open between requests.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(super) fn new(
        target: Target,
        compression: Compression,
        timeout: Duration,
        connections: usize,
        roots: RootCertStore,
    ) -> anyhow::Result<Self> {
        let tls = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .context("set up TLS")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(connections)
            .build(connector);
        Ok(Self { pool, target, compression, timeout })
    }

    /// Sends `body` under `key` and says what became of it.
    pub(super) async fn send(&self, body: Bytes, key: String) -> Verdict {
        let shown = self.target.shown();
        match timeout(self.timeout, self.exchange(body, key)).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(error)) => Verdict::Later(format!("{shown}: {error:#}"), None),
            Err(_) => Verdict::Later(format!("{shown}: no answer within {:?}", self.timeout), None),
        }
    }

    async fn exchange(&self, body: Bytes, key: String) -> anyhow::Result<Verdict> {
        let body = match self.compression {
            Compression::None => body,
            Compression::Gzip => spawn_blocking(move || gzip(&body)).await.context("compress a request")??,
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = self.target.method.clone();
        *request.uri_mut() = self.target.uri.clone();
        request.headers_mut().clone_from(&self.target.headers);
        request.headers_mut().insert(IDEMPOTENCY_KEY, HeaderValue::from_str(&key)?);
        let (head, body) = self.pool.request(request).await?.into_parts();
        let (read, rest) = read(body).await;
        // Only where it may say which records were refused is an answer's body missed.
        if may_list(head.status, &head.headers) {
            match rest {
                Rest::None => {}
                Rest::Unread => tracing::warn!(
                    url = self.target.shown(),
                    "an answer of over {MOST_READ} bytes is not looked through for refused records"
                ),
                Rest::Lost(error) => return Err(anyhow!(error).context("read the answer")),
            }
        }
        Ok(judge(&self.target.shown(), head.status, &head.headers, &read))
    }
}

/// What follows the part of an answer that was read.
enum Rest {
    None,
    Unread,
    Lost(hyper::Error),
}

async fn read(mut body: Incoming) -> (Vec<u8>, Rest) {
    let mut read = Vec::new();
    loop {
        match body.frame().await {
            None => return (read, Rest::None),
            Some(Err(error)) => return (read, Rest::Lost(error)),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                if read.len() + data.len() > MOST_READ {
                    return (read, Rest::Unread);
                }
                read.extend_from_slice(&data);
            }
        }
    }
}

fn gzip(body: &[u8]) -> std::io::Result<Bytes> {
    // Fast: on the way to a receiver nearby, a better level would cost more time than it saves.
    let mut writer = GzEncoder::new(Vec::new(), Level::fast());
    writer.write_all(body)?;
    writer.finish().map(Bytes::from)
}
