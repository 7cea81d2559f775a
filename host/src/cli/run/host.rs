//! A host with everything open: sockets, sources and sinks, and then its pipelines started.
//!
//! Owns the order of opening: the control socket first, then the state, so that a second host
//! in the same folder touches nothing.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Answer, Exit, Trouble, files::Checked, state};
use crate::{
    api::{self, Hosted, Service, socket::Socket, socket::SocketError},
    config::{Host, codes},
    pipeline::{self, Drain, Parts, Running},
};

/// A host whose pipelines run.
pub(super) struct Opened {
    /// Its pipelines.
    pub(super) running: Vec<Running>,
    /// Of each, the parts of the same file that it reads.
    pub(super) feeders: Vec<Vec<usize>>,
    /// What is asked over the interface.
    pub(super) service: Arc<Service>,
    /// Drains that somebody asked for.
    pub(super) drains: mpsc::Receiver<Drain>,
    /// To be told when everything has ended.
    pub(super) all_ended: watch::Sender<bool>,
    /// Ends the interface.
    pub(super) closing: CancellationToken,
    /// The interface's tasks.
    pub(super) servers: TaskTracker,
    /// The control socket's file.
    pub(super) socket: Socket,
}

/// Opens everything, then starts the pipelines.
pub(super) async fn open(
    checked: Vec<Checked>,
    host: &Host,
    reset: &[String],
    drain_deadline: Duration,
) -> Result<Opened, Box<Answer>> {
    let api = &host.api;
    let environment = |trouble| Box::new(Answer::failed(Exit::Environment, trouble));
    let path = Path::new(api.socket.as_deref().unwrap_or(api::socket::PATH));
    let socket = Socket::open(path).map_err(|error| {
        let cure = match error {
            SocketError::Taken { .. } => {
                "end that host with `tidegate drain`, or give this one another with `--socket`"
            }
            _ => "name a place that only you can write with `--socket`",
        };
        environment(Trouble::of(error.to_string()).code(codes::SOCKET_TAKEN).cure(cure))
    })?;
    let control = socket.listener().map_err(|error| {
        environment(
            Trouble::of(format!("open the control socket {}: {error}", path.display())).code(codes::SOCKET_TAKEN),
        )
    })?;
    let open = match &api.listen {
        Some(listen) => Some(tokio::net::TcpListener::bind(listen).await.map_err(|error| {
            let trouble = Trouble::of(format!("listen on {listen} for metrics and health: {error}"));
            environment(trouble.code(codes::PORT_TAKEN).cure("choose another with `--listen`, or stop what has it"))
        })?),
        None => None,
    };
    let store = state::open(host.state_folder(), reset)?;
    let mut all = Vec::new();
    for Checked { file, prepared, .. } in checked {
        let (first, domains) = (all.len(), prepared.domains());
        if let (Some(store), Some(folder)) = (&store, host.state_folder()) {
            let names = domains.iter().map(|(part, _)| part.graph.name.as_str()).collect();
            state::without(store, &prepared.graph.name, &names, folder, reset).await?;
        }
        for (prepared, feeders) in domains {
            let durable = match &store {
                Some(store) => Some(state::restore(store, &prepared, host.state_folder(), reset).await?),
                None => None,
            };
            let feeders: Vec<usize> = feeders.into_iter().map(|at| first + at).collect();
            all.push((file.clone(), prepared, durable, feeders));
        }
    }
    // What is to be forgotten has been by now, in all pipelines.
    let topics = match (&store, host.state_folder()) {
        (Some(store), Some(folder)) => Some(Arc::new(state::topics(store, folder)?)),
        _ => None,
    };
    let journal = host.state_folder().map(state::journal).transpose()?;
    let (mut parts, mut feeders) = (Vec::new(), Vec::new());
    for (file, mut prepared, durable, fed_by) in all {
        let name = prepared.graph.name.clone();
        if let Some((_, Some(restored))) = &durable {
            state::go_on(&mut prepared, restored)?;
        }
        let opened = prepared.into_parts(topics.clone()).await.map_err(|error| {
            environment(unopened(format!("open `{name}` of {}: {error:#}", file.display()), &error))
        })?;
        parts.push(Parts { durable, journal: journal.clone(), ..opened });
        feeders.push(fed_by);
    }

    let running: Vec<Running> = parts.into_iter().map(pipeline::start).collect();
    let hosted = running.iter().map(|running| {
        let (board, commands) = (running.board.clone(), running.commands.clone());
        Arc::new(Hosted { board, commands, end: OnceLock::new() })
    });
    let (drain_sender, drains) = mpsc::channel(1);
    let (all_ended, is_ended) = watch::channel(false);
    let service = Arc::new(Service {
        pipelines: hosted.collect(),
        store,
        topics,
        drains: drain_sender,
        drain_deadline,
        all_ended: is_ended,
        started: Instant::now(),
    });
    let (closing, servers) = (CancellationToken::new(), TaskTracker::new());
    servers.spawn(api::serve(control, api::control(service.clone()), closing.clone()));
    if let (Some(listener), Some(listen)) = (open, &api.listen) {
        match listener.local_addr() {
            Ok(address) => tracing::info!(%address, "metrics and health are served"),
            Err(error) => tracing::debug!(%error, "the address that is served is not known"),
        }
        servers.spawn(api::serve(listener, api::open(service.clone(), listen), closing.clone()));
    }
    servers.close();
    tracing::info!(pipelines = running.len(), socket = %path.display(), "running");
    Ok(Opened { running, feeders, service, drains, all_ended, closing, servers, socket })
}

/// A source or sink that cannot be opened; a port that somebody else has is the most frequent reason.
fn unopened(message: String, error: &anyhow::Error) -> Trouble {
    let is_taken = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::AddrInUse);
    if is_taken {
        Trouble::of(message).code(codes::PORT_TAKEN).cure("choose another port, or stop what has it")
    } else {
        Trouble::of(message)
    }
}
