//! Puts the values of variables into a tree.
//!
//! Owns `${name}` and the look-up of values. Invariants: only declared names, only in scalar values, only once, and
//! what is put in is text: it is not parsed and cannot change the shape of the tree.

use std::{collections::BTreeMap, ops::Range, path::Path};

use zeroize::Zeroizing;

use super::super::{
    codes,
    diagnostic::Flaw,
    shape::closest,
    tree::{Origin, Tree, Value},
};
use crate::secret::remember;

/// The largest secret; keys and tokens stay far below it.
const MOST_SECRET: u64 = 64 << 10;

/// The value of a variable, if it has one.
struct Known {
    text: Option<Zeroizing<String>>,
    origin: Origin,
}

/// What came of the variables of a file.
#[derive(Default)]
pub(crate) struct Filled {
    /// What is wrong.
    pub(crate) flaws: Vec<Flaw>,
    /// Scalars that a value is missing in: what else is wrong with them follows from that.
    pub(crate) doubtful: Vec<Range<usize>>,
}

/// Looks the variables of `root` up and puts their values in.
pub(crate) fn interpolate(root: &mut Tree, text: &str, folder: &Path, env: &dyn Fn(&str) -> Option<String>) -> Filled {
    let mut filled = Filled::default();
    let known = match root.get("vars").map(|vars| &vars.value) {
        Some(Value::Map(entries)) => entries
            .iter()
            .map(|(name, tree)| (name.value.clone(), look_up(tree, text, folder, env, &mut filled.flaws)))
            .collect(),
        _ => BTreeMap::new(),
    };
    if let Value::Map(entries) = &mut root.value {
        for (key, tree) in entries {
            refuse_in_key(&key.value, &key.span, &mut filled.flaws);
            if key.value != "vars" {
                put_in(tree, text, &known, &mut filled);
            }
        }
    }
    filled
}

fn no_value(message: String, span: Range<usize>, cure: &str) -> Flaw {
    Flaw { code: codes::NO_VALUE, message, labels: vec![(span, String::new())], cure: Some(cure.to_owned()) }
}

fn look_up(
    tree: &Tree,
    text: &str,
    folder: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    faults: &mut Vec<Flaw>,
) -> Known {
    let plain = |text: Option<String>| Known { text: text.map(Zeroizing::new), origin: Origin::Variable };
    let secret = |text: Option<Zeroizing<String>>| {
        text.iter().for_each(|text| remember(text));
        Known { text, origin: Origin::Secret }
    };
    if let Some(literal) = literal(tree, text) {
        return plain(Some(literal));
    }
    // A declaration that is none of these is refused by the shape of `vars`; here it has no value.
    if let Some((name, span)) = word(tree.get("env")) {
        let value = env(name).or_else(|| tree.get("default").and_then(|default| literal(default, text)));
        if value.is_none() {
            let message = format!("the environment variable `{name}` is not set");
            faults.push(no_value(message, span, "set it, or add a `default`"));
        }
        return plain(value);
    }
    let Some(place) = tree.get("secret") else { return plain(None) };
    if let Some((name, span)) = word(place.get("env")) {
        let value = env(name).map(Zeroizing::new);
        if value.is_none() {
            let message = format!("the environment variable `{name}` is not set");
            faults.push(no_value(message, span, "set it; a secret has no default"));
        }
        return secret(value);
    }
    let Some((path, span)) = word(place.get("file")) else { return secret(None) };
    match read_secret(&folder.join(path)) {
        Ok(value) => secret(Some(value)),
        Err(reason) => {
            let message = format!("the secret's file `{path}` cannot be read: {reason}");
            faults.push(no_value(message, span, "make the file readable, with at most 64 KiB of text in it"));
            secret(None)
        }
    }
}

fn read_secret(path: &Path) -> std::io::Result<Zeroizing<String>> {
    use std::io::{Error, ErrorKind, Read};
    let mut text = Zeroizing::new(String::new());
    std::fs::File::open(path)?.take(MOST_SECRET + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MOST_SECRET {
        return Err(Error::new(ErrorKind::FileTooLarge, "it is too large"));
    }
    let len = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(len);
    Ok(text)
}

fn word(tree: Option<&Tree>) -> Option<(&str, Range<usize>)> {
    match tree.map(|tree| (&tree.value, &tree.span)) {
        Some((Value::Text(text), span)) => Some((text, span.clone())),
        _ => None,
    }
}

/// A scalar as it is written: `1.10` stays `1.10`.
fn literal(tree: &Tree, text: &str) -> Option<String> {
    match &tree.value {
        Value::Text(literal) => Some(literal.clone()),
        Value::Bool(_) | Value::Number(_) => text.get(tree.span.clone()).map(|raw| raw.trim().to_owned()),
        _ => None,
    }
}

fn refuse_in_key(key: &str, span: &Range<usize>, faults: &mut Vec<Flaw>) {
    if key.contains("${") && !key.contains("$${") {
        faults.push(Flaw {
            code: codes::BAD_REFERENCE,
            message: format!("a variable in the key `{key}`"),
            labels: vec![(span.clone(), String::new())],
            cure: Some("variables stand in values only".to_owned()),
        });
    }
}

fn put_in(tree: &mut Tree, text: &str, known: &BTreeMap<String, Known>, to: &mut Filled) {
    match &mut tree.value {
        Value::List(items) => items.iter_mut().for_each(|item| put_in(item, text, known, to)),
        Value::Map(entries) => {
            for (key, item) in entries {
                refuse_in_key(&key.value, &key.span, &mut to.flaws);
                put_in(item, text, known, to);
            }
        }
        Value::Text(words) if words.contains("${") => {
            let (value, origin) = fill(words, &tree.span, text, known, to);
            tree.value = Value::Text(value);
            tree.origin = origin;
        }
        _ => {}
    }
}

/// `words` with the values of variables; the place is that of the whole scalar.
fn fill(
    words: &str,
    span: &Range<usize>,
    text: &str,
    known: &BTreeMap<String, Known>,
    to: &mut Filled,
) -> (String, Origin) {
    let (mut filled, mut origin, mut rest) = (String::with_capacity(words.len()), Origin::File, words);
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        let behind = from.get(2..).unwrap_or_default();
        if let Some(before) = before.strip_suffix('$') {
            filled.push_str(before);
            filled.push_str("${");
            rest = behind;
            continue;
        }
        filled.push_str(before);
        let name = behind.find('}').and_then(|end| behind.get(..end));
        match name {
            Some(name) if is_name(name) => {
                let reference = format!("${{{name}}}");
                match known.get(name) {
                    Some(variable) => {
                        origin = origin.max(variable.origin);
                        match &variable.text {
                            Some(value) => filled.push_str(value),
                            None => {
                                filled.push_str(&reference);
                                to.doubtful.push(span.clone());
                            }
                        }
                    }
                    None => {
                        origin = origin.max(Origin::Variable);
                        filled.push_str(&reference);
                        to.doubtful.push(span.clone());
                        let likely = closest(name, known.keys().map(String::as_str));
                        to.flaws.push(Flaw {
                            code: codes::UNDECLARED_VARIABLE,
                            message: format!("no variable is called `{name}`"),
                            labels: vec![(within(span, text, &reference), String::new())],
                            cure: Some(match likely {
                                Some(likely) => format!("did you mean `{likely}`?"),
                                None => "declare it under `vars`".to_owned(),
                            }),
                        });
                    }
                }
                rest = behind.get(name.len() + 1..).unwrap_or_default();
            }
            _ => {
                origin = origin.max(Origin::Variable);
                filled.push_str("${");
                rest = behind;
                to.doubtful.push(span.clone());
                to.flaws.push(Flaw {
                    code: codes::BAD_REFERENCE,
                    message: "`${` is not followed by a name and `}`".to_owned(),
                    labels: vec![(within(span, text, "${"), String::new())],
                    cure: Some("write `${name}`, or `$${` for the characters themselves".to_owned()),
                });
            }
        }
    }
    filled.push_str(rest);
    (filled, origin)
}

fn is_name(name: &str) -> bool {
    super::super::rules::is_name(name)
}

/// The place of `part` in the text of a scalar; the whole scalar where escapes hide it.
fn within(span: &Range<usize>, text: &str, part: &str) -> Range<usize> {
    match text.get(span.clone()).and_then(|raw| raw.find(part)) {
        Some(at) => span.start + at..span.start + at + part.len(),
        None => span.clone(),
    }
}
