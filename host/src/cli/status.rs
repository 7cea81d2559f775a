//! `status` and `drain`: asking a running host over its control socket.
//!
//! Owns how its answers are shown. It must not know how they come about.

use std::path::{Path, PathBuf};

use clap::Args;
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;

use super::{Answer, Exit, Outcome, Trouble, figure, run::part_rows, table};
use crate::{
    api::{
        Drained, HostStatus,
        client::{Unanswered, ask},
        socket,
    },
    pipeline::Status,
    unit::Span,
};

/// Where a running host is asked.
#[derive(Args, Debug)]
pub(super) struct Ask {
    /// The host's control socket.
    #[arg(long, value_name = "PATH", default_value = socket::PATH)]
    socket: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct Drain {
    #[command(flatten)]
    ask: Ask,
    /// How long the host may take; what is not finished then is given up [default: what the host was started with].
    #[arg(long, value_name = "TIME")]
    deadline: Option<Span>,
}

impl Ask {
    /// Whoever runs a host in this folder, or where `socket` says.
    pub(super) fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Asks for `path` and reads the answer.
    ///
    /// # Errors
    /// There is no host, or it answers otherwise than it was asked.
    pub(super) fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, Box<Answer>> {
        let environment = |trouble| Box::new(Answer::failed(Exit::Environment, trouble));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| environment(Trouble::of(format!("start a runtime: {error}"))))?;
        let (status, body) = runtime.block_on(ask(&self.socket, method, path)).map_err(|error| {
            let trouble = Trouble::of(error.to_string());
            environment(match error {
                Unanswered::NoHost { .. } => {
                    trouble.cure("run it in the folder of a running host, or name its socket with `--socket`")
                }
                Unanswered::Broken(_) => trouble,
            })
        })?;
        if status != StatusCode::OK {
            let body = String::from_utf8_lossy(&body).into_owned();
            return Err(environment(Trouble::of(format!("ask the host: it answers {status}: {body}"))));
        }
        serde_json::from_slice(&body).map_err(|error| {
            let trouble = Trouble::of(format!("read the host's answer: {error}"));
            environment(trouble.cure("use the `tidegate` that the host was started with"))
        })
    }

    pub(super) fn perform(self) -> Outcome {
        let status: HostStatus = self.ask(Method::GET, "/api/v1/status")?;
        let mut text = format!(
            "tidegate {}, process {}, up {}\n",
            status.version,
            status.pid,
            figure::nanos(status.seconds * 1e9)
        );
        for pipeline in &status.pipelines {
            text.push_str(&shown(pipeline));
        }
        let ready = status.pipelines.iter().filter(|pipeline| pipeline.not_ready.is_empty()).count();
        let summary = format!("{ready} of {} ready", figure::several(status.pipelines.len(), "pipeline"));
        Ok(Answer::fine(summary, &status, text))
    }
}

impl Drain {
    pub(super) fn perform(self) -> Outcome {
        let query = self.deadline.map(|deadline| format!("?deadline={deadline}")).unwrap_or_default();
        let drained: Drained = self.ask.ask(Method::POST, &format!("/api/v1/drain{query}"))?;
        let text: String = drained.ended.iter().map(|end| format!("{}: {}\n", end.pipeline, end.ending)).collect();
        let worst = drained.ended.iter().max_by_key(|end| end.exit);
        let mut answer = Answer::fine(figure::several(drained.ended.len(), "pipeline") + " ended", &drained, text);
        if let Some(end) = worst.filter(|end| end.exit != 0) {
            answer.exit = Exit::from_code(end.exit);
            answer.error = Some(Trouble::of(format!("end `{}` well: {}", end.pipeline, end.ending)));
        }
        Ok(answer)
    }
}

fn shown(status: &Status) -> String {
    let mut out = format!("\n{}: {:?}, epoch {}", status.pipeline, status.phase, status.epoch).to_lowercase();
    if status.restarts > 0 {
        out.push_str(&format!(", {}", figure::several(status.restarts as usize, "restart")));
    }
    out.push('\n');
    let (aligns, rows) = part_rows(status);
    out.push_str(&table::lay_out("  ", aligns, &rows));
    if let Some(letters) = status.dead_letters.filter(|letters| *letters > 0) {
        out.push_str(&format!("  {} dead letters: `tidegate dlq ls {}`\n", figure::count(letters), status.pipeline));
    }
    for edge in status.edges.iter().filter(|edge| edge.waiting.records > 0) {
        let waiting = figure::count(edge.waiting.records as u64);
        out.push_str(&format!("  {waiting} wait in {}\n", edge.name));
    }
    for not_ready in &status.not_ready {
        out.push_str(&format!("  not ready: {}: {}\n", not_ready.who, not_ready.why));
    }
    out
}
