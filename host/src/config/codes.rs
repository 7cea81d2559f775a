//! The codes of faults, and a page on each.
//!
//! Owns the list: TG1xx shape of a file, TG2xx graph, TG3xx plugin, TG4xx environment and resources, TG5xx run time,
//! TG6xx warnings.
//! The pages are the text of `codes.md`. Invariant: every code has a page, and every page a code.

/// The text is not YAML.
pub const SYNTAX: &str = "TG101";
/// The file is larger than allowed.
pub const TOO_LARGE: &str = "TG102";
/// A key stands twice in a mapping.
pub const DUPLICATE_KEY: &str = "TG103";
/// There is no such field.
pub const UNKNOWN_FIELD: &str = "TG104";
/// A field is missing.
pub const MISSING_FIELD: &str = "TG105";
/// The value does not fit the field.
pub const WRONG_VALUE: &str = "TG106";
/// The word is none of those that the field takes.
pub const UNKNOWN_WORD: &str = "TG107";
/// Not exactly one kind.
pub const NOT_ONE_KIND: &str = "TG108";
/// The variable is not declared.
pub const UNDECLARED_VARIABLE: &str = "TG109";
/// The variable has no value.
pub const NO_VALUE: &str = "TG110";
/// A secret stands where it could be shown.
pub const SECRET_IN_SIGHT: &str = "TG111";
/// The name cannot be used.
pub const BAD_NAME: &str = "TG112";
/// The number is out of range.
pub const OUT_OF_RANGE: &str = "TG113";
/// The version of the file is not known.
pub const WRONG_VERSION: &str = "TG114";
/// This version cannot do that yet.
pub const NOT_YET: &str = "TG115";
/// This is not a JSON pointer.
pub const BAD_POINTER: &str = "TG116";
/// `${` is not followed by a name and `}`.
pub const BAD_REFERENCE: &str = "TG117";
/// The field would have no effect.
pub const NO_EFFECT: &str = "TG118";
/// No request can be made of this.
pub const BAD_REQUEST: &str = "TG119";
/// One field leaves no sense to another.
pub const APART: &str = "TG131";
/// Stages feed each other in a circle.
pub const CYCLE: &str = "TG201";
/// The name is taken.
pub const TAKEN_NAME: &str = "TG202";
/// There is no such output.
pub const NO_SUCH_OUTPUT: &str = "TG203";
/// Nothing reads the output.
pub const UNREAD: &str = "TG204";
/// Nothing flows in.
pub const NO_INPUT: &str = "TG205";
/// `.rest` is an output of filters only.
pub const NOT_A_FILTER: &str = "TG206";
/// `.late` is an output of windowed aggregates only.
pub const NOT_WINDOWED: &str = "TG207";
/// The edge is not in the graph.
pub const NO_SUCH_EDGE: &str = "TG208";
/// There are no JSON fields to read.
pub const NO_FIELDS: &str = "TG209";
/// The same output is read twice.
pub const READ_TWICE: &str = "TG210";
/// The guarantee cannot be had.
pub const NO_GUARANTEE: &str = "TG211";
/// There is no state to keep it in.
pub const NO_STATE: &str = "TG212";
/// Topics wait for each other in a circle.
pub const TOPIC_CYCLE: &str = "TG221";
/// Two sources read a topic as one group.
pub const TAKEN_GROUP: &str = "TG222";
/// The sink that is to stand in for another one cannot.
pub const NO_STAND_IN: &str = "TG231";
/// There is no such plugin.
pub const PLUGIN_MISSING: &str = "TG301";
/// The file is not a WebAssembly plugin.
pub const NOT_WASM: &str = "TG302";
/// The plugin was built for another version of the contract.
pub const OTHER_CONTRACT: &str = "TG303";
/// The plugin is of another kind.
pub const WRONG_KIND: &str = "TG304";
/// The configuration does not fit the plugin's schema.
pub const CONFIG_MISFIT: &str = "TG305";
/// The plugin wants something that it is not granted.
pub const IMPORT_DENIED: &str = "TG306";
/// The plugin uses a WebAssembly feature that is switched off.
pub const FEATURE_DENIED: &str = "TG307";
/// The plugin does not describe itself usably.
pub const BAD_DESCRIPTION: &str = "TG308";
/// The plugin refuses its configuration.
pub const CONFIG_REFUSED: &str = "TG309";
/// The plugin does not fit its limits.
pub const PLUGIN_TOO_LARGE: &str = "TG310";
/// The plugin needs a column that is not known.
pub const UNKNOWN_NEED: &str = "TG311";
/// The limits add up to more than the budget.
pub const OVER_MEMORY: &str = "TG401";
/// More threads than allowed.
pub const OVER_THREADS: &str = "TG402";
/// The file cannot be read.
pub const UNREADABLE: &str = "TG403";
/// The address cannot be listened on.
pub const PORT_TAKEN: &str = "TG404";
/// The toolchain cannot build plugins.
pub const NO_TOOLCHAIN: &str = "TG405";
/// The cache folder cannot be trusted.
pub const UNSAFE_CACHE: &str = "TG406";
/// Two pipelines have the same name.
pub const TAKEN_PIPELINE: &str = "TG407";
/// The control socket cannot be opened.
pub const SOCKET_TAKEN: &str = "TG408";
/// The folder of the state cannot be used.
pub const STATE_UNUSABLE: &str = "TG409";
/// The state does not fit the pipeline.
pub const STATE_UNFIT: &str = "TG410";
/// A host has the state.
pub const STATE_IN_USE: &str = "TG421";
/// The state does not hold what was asked for.
pub const NOT_KEPT: &str = "TG422";
/// The state is damaged.
pub const STATE_DAMAGED: &str = "TG423";
/// The export does not fit the state.
pub const IMPORT_UNFIT: &str = "TG424";
/// Nobody has said that it is wanted.
pub const NOT_SURE: &str = "TG425";
/// The process that compiles plugins fails.
pub const NO_COMPILER: &str = "TG430";
/// A plugin committed a fault.
pub const PLUGIN_FAULT: &str = "TG501";
/// A plugin refused a record.
pub const RECORD_REFUSED: &str = "TG502";
/// The drain did not end in time.
pub const DRAIN_LATE: &str = "TG503";
/// The ledger does not balance.
pub const LEDGER: &str = "TG504";
/// A source failed.
pub const SOURCE_FAILED: &str = "TG505";
/// A sink failed.
pub const SINK_FAILED: &str = "TG506";
/// The host's own code panicked.
pub const HOST_PANIC: &str = "TG507";
/// The fuel of a call outlasts its time.
pub const FUEL_OUTLASTS: &str = "TG601";
/// Windows are shorter than the steps of the watermark.
pub const WINDOW_BELOW_GRAIN: &str = "TG602";
/// A silent source is left behind before its records may come.
pub const IDLE_BELOW_LAG: &str = "TG603";
/// Late records are put where nobody reads them.
pub const LATE_UNREAD: &str = "TG604";
/// Windows are over the time of reading.
pub const NO_EVENT_TIME: &str = "TG605";
/// Several workers, and nothing to divide by.
pub const IDLE_WORKERS: &str = "TG606";
/// A full batch does not fit into a plugin's memory.
pub const MEMORY_BELOW_BATCH: &str = "TG607";
/// A pipeline reads what it writes.
pub const READS_ITSELF: &str = "TG608";
/// Nothing writes the topic.
pub const UNWRITTEN: &str = "TG621";

const PAGES: &str = include_str!("codes.md");

/// One page on a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Page {
    /// The code, such as `TG203`.
    pub code: &'static str,
    /// What it says, in a few words.
    pub title: &'static str,
    /// What it means, an example and the cure, in Markdown.
    pub text: &'static str,
}

/// All pages, by code.
pub fn pages() -> impl Iterator<Item = Page> {
    PAGES.split("\n## ").skip(1).filter_map(|page| {
        let (head, text) = page.split_once('\n')?;
        let (code, title) = head.split_once(": ")?;
        Some(Page { code, title, text: text.trim() })
    })
}

/// The page on `code`, however it is capitalised.
pub fn explain(code: &str) -> Option<Page> {
    pages().find(|page| page.code.eq_ignore_ascii_case(code.trim()))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    fn codes_in(text: &str) -> impl Iterator<Item = String> + '_ {
        text.match_indices("TG").filter_map(|(at, _)| {
            let code: String = text[at..].chars().take(5).collect();
            (code.len() == 5 && code[2..].bytes().all(|byte| byte.is_ascii_digit())).then_some(code)
        })
    }

    fn codes_below(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                codes_below(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.extend(codes_in(&std::fs::read_to_string(path).unwrap()));
            }
        }
    }

    #[test]
    fn every_code_has_a_page_and_every_page_a_code() {
        let mut used = BTreeSet::new();
        codes_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut used);
        let paged: BTreeSet<_> = pages().map(|page| page.code.to_owned()).collect();
        assert_eq!(used, paged);
    }

    #[test]
    fn every_page_has_an_example_and_a_cure() {
        for page in pages() {
            assert!(page.text.contains("```text\n") && page.text.contains("Cure: "), "{}", page.code);
        }
        assert_eq!(explain("tg203").unwrap().code, NO_SUCH_OUTPUT);
        assert_eq!(explain("nothing"), None);
    }
}
