//! Asking a running host over its control socket.
//!
//! Owns one request and its answer. It must not know what is asked.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, client::conn::http1, header::HOST};
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
    answered(socket, method, path, whole).await
}

/// Asks the host on `socket` for `path`, and shows each line of what it answers to `visit`, until that breaks; an
/// answer other than 200 is returned whole.
///
/// # Errors
/// There is no host, or it went away in the middle of its answer.
pub async fn lines(
    socket: &Path,
    path: &str,
    visit: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<(StatusCode, Bytes), Unanswered> {
    answered(socket, Method::GET, path, async |answer: Response<Incoming>| {
        if answer.status() != StatusCode::OK {
            return whole(answer).await;
        }
        let (status, mut body, mut rest) = (answer.status(), answer.into_body(), Vec::new());
        while let Some(part) = body.frame().await {
            let Ok(part) = part?.into_data() else { continue };
            rest.extend_from_slice(&part);
            let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let behind = rest.split_off(whole);
            let text = std::str::from_utf8(&rest).context("read what the host answers")?;
            if text.lines().map(&mut *visit).any(|next| next.is_break()) {
                return Ok((status, Bytes::new()));
            }
            rest = behind;
            anyhow::ensure!(rest.len() < MOST, "read what the host answers: a line has no end");
        }
        Ok((status, Bytes::new()))
    })
    .await
}

/// A path with a query, whatever stands in its values.
pub fn with_query(path: &str, pairs: &[(&str, String)]) -> String {
    let mut out = path.to_owned();
    for (at, (name, value)) in pairs.iter().enumerate() {
        out.push(if at == 0 { '?' } else { '&' });
        out.push_str(name);
        out.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(char::from(byte)),
                _ => out.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    out
}

async fn whole(answer: Response<Incoming>) -> anyhow::Result<(StatusCode, Bytes)> {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MOST).collect().await.map_err(|error| anyhow::anyhow!(error))?;
    Ok((status, body.to_bytes()))
}

async fn answered<T>(
    socket: &Path,
    method: Method,
    path: &str,
    take: impl AsyncFnOnce(Response<Incoming>) -> anyhow::Result<T>,
) -> Result<T, Unanswered> {
    let no_host = |source| Unanswered::NoHost { path: socket.to_owned(), source };
    let stream = UnixStream::connect(socket).await.map_err(no_host)?;
    let answer = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request =
            Request::builder().method(method).uri(path).header(HOST, "localhost").body(Empty::<Bytes>::new())?;
        let asked = async { take(sender.send_request(request).await?).await };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_stands_in_a_value_stays_in_it() {
        let pairs = [("key", "a+b/=".to_owned()), ("stage", "x&y z".to_owned())];
        assert_eq!(with_query("/p", &pairs), "/p?key=a%2Bb%2F%3D&stage=x%26y%20z");
        assert_eq!(with_query("/p", &[]), "/p");
    }
}
