//! Asking a running host over its control socket.
//!
//! Owns where it is asked, and what a user is told when it does not answer, or not with what was asked for.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use clap::Args;
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;

use super::{Answer, Exit, Trouble};
use crate::api::{
    HostStatus,
    client::{self, Unanswered},
    kept::Refusal,
    socket,
};

/// Where a running host is asked.
#[derive(Args, Clone, Debug)]
pub(super) struct Ask {
    /// The host's control socket.
    #[arg(long, value_name = "PATH", default_value = socket::PATH)]
    socket: PathBuf,
}

impl Ask {
    /// Whoever runs a host where `socket` says.
    pub(super) fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The socket.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks for `path` and reads the answer.
    pub(super) fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, Box<Answer>> {
        let (status, body) = runtime()?.block_on(client::ask(&self.socket, method, path)).map_err(unanswered)?;
        if status != StatusCode::OK {
            return Err(refused(status, &body));
        }
        serde_json::from_slice(&body).map_err(|error| unread(&error.to_string()))
    }

    /// Asks for `path` and shows each line of the answer, until `visit` breaks.
    pub(super) fn lines(&self, path: &str, visit: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<(), Box<Answer>> {
        let (status, body) = runtime()?.block_on(client::lines(&self.socket, path, visit)).map_err(unanswered)?;
        if status == StatusCode::OK { Ok(()) } else { Err(refused(status, &body)) }
    }

    /// The host that answers on the socket.
    pub(super) fn host(&self) -> Result<HostStatus, Box<Answer>> {
        self.ask(Method::GET, "/api/v1/status")
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Box<Answer>> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Box::new(Answer::failed(Exit::Environment, Trouble::of(format!("start a runtime: {error}")))))
}

fn unanswered(error: Unanswered) -> Box<Answer> {
    let trouble = Trouble::of(error.to_string());
    let trouble = match error {
        Unanswered::NoHost { .. } => {
            trouble.cure("run it in the folder of a running host, or name its socket with `--socket`")
        }
        Unanswered::Broken(_) => trouble,
    };
    Box::new(Answer::failed(Exit::Environment, trouble))
}

/// An answer that is none.
pub(super) fn unread(why: &str) -> Box<Answer> {
    let trouble = Trouble::of(format!("read the host's answer: {why}"));
    let trouble = trouble.cure("use the `tidegate` that the host was started with");
    Box::new(Answer::failed(Exit::Environment, trouble))
}

fn refused(status: StatusCode, body: &[u8]) -> Box<Answer> {
    let exit = match status {
        StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => Exit::Usage,
        StatusCode::GATEWAY_TIMEOUT | StatusCode::UNPROCESSABLE_ENTITY => Exit::No,
        _ => Exit::Environment,
    };
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => Box::new(Answer::failed(exit, Trouble::of(refusal.error))),
        Err(_) => {
            let body = String::from_utf8_lossy(body);
            unread(&format!("it answers {status}: {body}"))
        }
    }
}
