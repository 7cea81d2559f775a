//! Asking a running host over its control socket.
//!
//! Owns one request and its answer. It must not know what is asked.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Method, Request, StatusCode, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Most bytes of an answer.
const MOST: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// Nobody listens there.
    #[error("reach a host on {}: {source}", path.display())]
    NoHost {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Somebody listens, and does not answer as a host does.
    #[error("{0:#}")]
    Broken(anyhow::Error),
}

/// Asks the host on `socket` for `path`, and returns its answer whole.
///
/// # Errors
/// There is no host, or it went away before it had answered.
pub async fn ask(socket: &Path, method: Method, path: &str) -> Result<(StatusCode, Bytes), Unanswered> {
    let no_host = |source| Unanswered::NoHost { path: socket.to_owned(), source };
    let stream = UnixStream::connect(socket).await.map_err(no_host)?;
    let answer = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request =
            Request::builder().method(method).uri(path).header(HOST, "localhost").body(Empty::<Bytes>::new())?;
        let asked = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body =
                Limited::new(answer.into_body(), MOST).collect().await.map_err(|error| anyhow::anyhow!(error))?;
            anyhow::Ok((status, body.to_bytes()))
        };
        tokio::pin!(asked);
        tokio::pin!(connection);
        tokio::select! {
            answer = &mut asked => answer,
            ended = &mut connection => {
                ended?;
                asked.await
            }
        }
    };
    answer.await.with_context(|| format!("ask the host on {} for {path}", socket.display())).map_err(Unanswered::Broken)
}
