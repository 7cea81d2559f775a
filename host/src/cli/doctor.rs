//! `doctor`: whether this machine has what is needed.
//!
//! Owns the list of what is looked at. Invariant: nothing is changed by looking, and every check that fails names its
//! cure.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;

use super::{
    Answer, Exit, Outcome, Trouble,
    author::{self, Check},
    settings,
};
use crate::{api::socket, plugin::Cache};

#[derive(Args, Debug)]
pub(super) struct Doctor {
    /// Folder from which plugins would be built.
    #[arg(value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
    #[command(flatten)]
    settings: settings::Settings,
}

impl Doctor {
    pub(super) fn perform(self) -> Outcome {
        let host = self.settings.read()?.host;
        let mut checks = author::toolchain(&self.folder);
        checks.push(cache(Path::new(&host.plugins.cache)));
        checks.push(control(Path::new(host.api.socket.as_deref().unwrap_or(socket::PATH))));
        checks.extend(host.api.listen.as_deref().map(port));
        let failed = checks.iter().filter(|check| !check.ok).count();
        let text: String = checks.iter().map(shown).collect();
        let summary = if failed == 0 { "all is well".to_owned() } else { format!("{failed} of {} fail", checks.len()) };
        let mut answer = Answer::fine(summary.clone(), json!({ "checks": checks }), text);
        if failed > 0 {
            answer.exit = Exit::Environment;
            answer.error = Some(Trouble::of(summary));
        }
        Ok(answer)
    }
}

fn shown(check: &Check) -> String {
    let mark = if check.ok { "ok  " } else { "no  " };
    let cure = check.cure.as_ref().map(|cure| format!("      {cure}\n")).unwrap_or_default();
    format!("{mark}{}: {}\n{cure}", check.name, check.found)
}

fn good(name: &'static str, found: String) -> Check {
    Check { name, ok: true, found, cure: None }
}

fn bad(name: &'static str, found: String, cure: &str) -> Check {
    Check { name, ok: false, found, cure: Some(cure.to_owned()) }
}

/// The nearest folder at or above `path` that is there.
fn standing(path: &Path) -> &Path {
    path.ancestors().find(|above| above.exists()).unwrap_or(Path::new("."))
}

fn is_writable(folder: &Path) -> bool {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok()
}

fn cache(folder: &Path) -> Check {
    let name = "cache of compiled plugins";
    let cure = "name a folder that only you can write with `--cache`";
    if folder.is_dir() {
        return match Cache::open(folder) {
            Ok(_) => good(name, folder.display().to_string()),
            Err(error) => bad(name, format!("{error:#}"), cure),
        };
    }
    if is_writable(standing(folder)) {
        good(name, format!("{} can be made", folder.display()))
    } else {
        bad(name, format!("{} cannot be made", folder.display()), cure)
    }
}

fn control(path: &Path) -> Check {
    let name = "control socket";
    let folder = path.parent().unwrap_or(path);
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return good(name, format!("a host runs on {}", path.display()));
    }
    if is_writable(standing(folder)) {
        good(name, format!("{} is free", path.display()))
    } else {
        bad(name, format!("{} cannot be made", path.display()), "name another place with `--socket`")
    }
}

fn port(listen: &str) -> Check {
    let name = "port for metrics and health";
    match TcpListener::bind(listen) {
        Ok(_) => good(name, format!("{listen} is free")),
        Err(error) => bad(name, format!("{listen}: {error}"), "choose another with `--listen`, or stop what has it"),
    }
}
