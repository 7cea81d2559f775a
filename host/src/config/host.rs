//! The host's own settings.
//!
//! Owns the fields of the host's file and their defaults. Every one is a flag as well, which wins over the file.

use std::{path::Path, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Diagnostic, codes,
    diagnostic::Text,
    load::{in_order, misfit_told, read},
    place::Spanned,
    shape, yaml,
};
use crate::unit::Size;

/// The host's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "Tidegate host")]
pub struct Host {
    /// Folder of what outlives the process: positions, states, counts. `none` keeps them in memory only: what has not
    /// been delivered when the process ends is read again where its source can be read again, and lost otherwise.
    pub state: String,
    /// Patterns of the files of pipelines to run, relative to this file.
    pub pipelines: Vec<String>,
    /// Where the host answers.
    pub api: Api,
    /// Budget against which the sum of all limits is checked.
    pub memory: Spanned<Size>,
    /// Threads of the host.
    pub threads: Threads,
    /// What the host tells about itself.
    pub log: Log,
    /// How plugins are kept.
    pub plugins: Plugins,
}

impl Host {
    /// The folder of what outlives the process, if anything does.
    pub fn state_folder(&self) -> Option<&Path> {
        (self.state != "none").then(|| Path::new(&self.state))
    }
}

impl Default for Host {
    fn default() -> Self {
        Self {
            state: ".tidegate".to_owned(),
            pipelines: Vec::new(),
            api: Api::default(),
            memory: Size(1 << 30).into(),
            threads: Threads::default(),
            log: Log::default(),
            plugins: Plugins::default(),
        }
    }
}

/// Where the host answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// Address and port for metrics and health, such as `127.0.0.1:9600`; not at all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Path of the control socket, relative to the working folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
}

/// Threads of the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Threads {
    /// Most threads: one for each worker of a stage, and 64 for the rest.
    pub max: Spanned<u32>,
}

impl Default for Threads {
    fn default() -> Self {
        Self { max: 256.into() }
    }
}

/// What the host tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// What is worth a line.
    pub level: LogLevel,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// What is worth a log line: this, and what is worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What stops something.
    Error,
    /// What may stop something.
    Warn,
    /// Decisions.
    #[default]
    Info,
    /// Their reasons.
    Debug,
    /// Everything.
    Trace,
}

/// How plugins are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Plugins {
    /// Folder of compiled plugins, relative to the working folder.
    pub cache: String,
}

impl Default for Plugins {
    fn default() -> Self {
        Self { cache: ".tidegate/cache".to_owned() }
    }
}

/// The host's settings, and the text that they stand in: empty where there is no file.
#[derive(Clone, Debug, Default)]
pub struct LoadedHost {
    /// The settings.
    pub host: Host,
    /// The file.
    pub text: Arc<Text>,
}

/// Reads the host's file.
///
/// # Errors
/// All its faults.
pub fn load_host(path: &Path) -> Result<LoadedHost, Vec<Diagnostic>> {
    let text = read(path)?;
    let (tree, flaws) = yaml::parse(&text.text);
    let mut faults: Vec<_> = flaws.into_iter().map(|flaw| flaw.told(&text)).collect();
    let Some(tree) = tree else { return Err(faults) };
    if tree.is_null() {
        return Ok(LoadedHost { host: Host::default(), text });
    }
    let read = shape::read::<Host>(tree);
    faults.extend(read.misfits.iter().map(|misfit| misfit_told(misfit, &text)));
    let host = read.value.unwrap_or_default();
    if host.threads.max.value < 65 {
        let fault = Diagnostic::error(codes::OUT_OF_RANGE, &text, "`max` is less than 65");
        faults.push(fault.at(host.threads.max.span.clone()).cure("64 threads are kept for the host itself"));
    }
    if faults.is_empty() { Ok(LoadedHost { host, text }) } else { Err(in_order(faults)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(yaml: &str) -> Result<LoadedHost, Vec<Diagnostic>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), yaml).unwrap();
        load_host(file.path())
    }

    #[test]
    fn nothing_has_to_be_said_and_all_can_be() {
        assert_eq!(loaded("").unwrap().host, Host::default());
        let all = "state: none\npipelines: [pipelines/*.yaml]\napi: { listen: 127.0.0.1:9600, socket: s.sock }\nmemory: 2GiB\n\
                   threads: { max: 100 }\nlog: { format: json, level: debug }\nplugins: { cache: c }\n";
        let host = loaded(all).unwrap().host;
        assert_eq!((host.memory.0, host.threads.max.value, host.log.level), (2 << 30, 100, LogLevel::Debug));
    }

    #[test]
    fn what_is_later_or_unknown_is_refused_all_at_once() {
        let faults = loaded("sliding: ./x\nmemry: 1GiB\nthreads: { max: 3 }\n").unwrap_err();
        let codes: Vec<_> = faults.iter().map(|fault| fault.code).collect();
        assert_eq!(codes, [codes::NOT_YET, codes::UNKNOWN_FIELD, codes::OUT_OF_RANGE]);
    }
}
