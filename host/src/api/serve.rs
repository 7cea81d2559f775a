//! The accept loop of a listener, of whatever kind.
//!
//! Owns how many connections there are and how long each may take to say what it wants. Invariant: when it returns, no
//! connection of it is left.

use std::{sync::Arc, time::Duration};

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Connections at a time; a scraper, a probe and a few people need a handful.
const CONNECTIONS: usize = 64;

/// How long a connection may take for the head of a request, and be idle between two.
const HEAD: Duration = Duration::from_secs(10);

/// How long answers may take to get out once the host is going.
const GRACE: Duration = Duration::from_millis(500);

/// Serves `router` on `listener` until `closing` is cancelled, then lets answers that are under way get out.
pub async fn serve<L: Listener>(mut listener: L, router: Router, closing: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open = JoinSet::new();
    let accepting = async {
        // The semaphore is never closed.
        while let Ok(slot) = slots.clone().acquire_owned().await {
            let (stream, _) = listener.accept().await;
            while open.try_join_next().is_some() {}
            let (router, closing) = (router.clone(), closing.clone());
            open.spawn(async move {
                connection(stream, router, closing).await;
                drop(slot);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = closing.cancelled() => {}
    }
    drop(listener);
    let _ = timeout(GRACE, async { while open.join_next().await.is_some() {} }).await;
}

async fn connection<S>(stream: S, router: Router, closing: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let done = tokio::select! {
        done = served.as_mut() => done,
        () = closing.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = done {
        // A client that went away or said nothing is its own affair.
        tracing::debug!(%error, "a connection of the interface ended early");
    }
}
