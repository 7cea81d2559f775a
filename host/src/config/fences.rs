//! Pipelines in the fences of a Markdown file.
//!
//! Owns the finding of ```` ```yaml ```` fences. Invariant: places are places of the Markdown file.

use std::path::Path;

use super::{Diagnostic, Loaded, load};

/// Reads every fence whose info string is `yaml` and nothing else; ```` ```yaml fragment ```` and the like are skipped.
///
/// # Errors
/// Where the file itself cannot be read. Each fence has an answer of its own, as of [`super::load()`].
pub fn load_markdown(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Result<Loaded, Vec<Diagnostic>>>, Vec<Diagnostic>> {
    let text = load::read(path)?;
    Ok(fences(&text.text).iter().map(|yaml| load::load_text(&text, yaml, env)).collect())
}

/// The text once for each fence, everything outside of the fence blank: what is left keeps its place.
fn fences(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(&str, Option<String>)> = None;
    let mut blank = String::new();
    for line in text.split_inclusive('\n') {
        let bare = line.trim();
        let hidden: String = line.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
        let ticks = bare.split(|c| c != '`').next().unwrap_or_default();
        match &mut open {
            None if ticks.len() >= 3 => {
                let info = bare.trim_start_matches('`').trim();
                open = Some((ticks, (info == "yaml").then(|| format!("{blank}{hidden}"))));
            }
            Some((opened, yaml)) if ticks.len() >= opened.len() && bare == ticks => {
                found.extend(yaml.take());
                open = None;
            }
            Some((_, Some(yaml))) => yaml.push_str(line),
            _ => {}
        }
        blank.push_str(&hidden);
    }
    found.extend(open.and_then(|(_, yaml)| yaml));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_keeps_its_place_and_others_are_skipped() {
        let text = "# A\n```yaml fragment\nx: 1\n```\n```yaml\nversion: 1\n```\ntext\n````yaml\na: |\n  ```\n````\n";
        let found = fences(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].find("version"), text.find("version"));
        assert_eq!(found[0].trim(), "version: 1");
        assert_eq!(found[1].trim(), "a: |\n  ```");
    }
}
