//! What an author may say in the parentheses of an attribute.
//!
//! Owns their names, their forms and which kinds of plugin take them. It must not know the item that the attribute
//! stands on. Invariant: a word that has no effect is refused where it stands.

use proc_macro2::{Span, TokenStream};
use syn::parse::Parser;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, Lit, LitInt, LitStr, Meta, Result, Token, punctuated::Punctuated};

/// Columns that a plugin may ask for by a word.
const COLUMNS: [&str; 6] = ["keys", "timestamps", "headers", "id", "input", "null"];
/// What only groups have.
const WINDOWS: &str = "windows";
/// What the name of a side output may not be, since the host gives it to its own.
const RESERVED: [&str; 3] = ["rest", "refused", "late"];

/// What kind of plugin the attribute makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Filter,
    Map,
    Aggregate,
}

/// The attribute's arguments.
#[derive(Default)]
pub(crate) struct Arguments {
    /// Whether the function takes the whole batch.
    pub(crate) batch: bool,
    pub(crate) name: Option<String>,
    pub(crate) values: Option<bool>,
    pub(crate) needs: Vec<String>,
    pub(crate) fields: Vec<String>,
    pub(crate) outputs: Vec<String>,
    pub(crate) outputs_from_config: bool,
    /// Path of a file of vectors, from the crate's folder.
    pub(crate) selftest: Option<LitStr>,
    pub(crate) state_version: Option<u32>,
    pub(crate) writes_state_versions: Vec<u32>,
}

impl Arguments {
    /// Reads the arguments of an attribute that makes a plugin of `kind`.
    pub(crate) fn read(kind: Kind, tokens: TokenStream) -> Result<Self> {
        let metas = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(tokens)?;
        let mut read = Self::default();
        let mut seen: Vec<String> = Vec::new();
        for meta in metas {
            let word = meta.path().get_ident().map(ToString::to_string).unwrap_or_default();
            if seen.contains(&word) {
                return Err(Error::new(meta.span(), format!("`{word}` is given twice")));
            }
            read.take(kind, &word, &meta)?;
            seen.push(word);
        }
        Ok(read)
    }

    fn take(&mut self, kind: Kind, word: &str, meta: &Meta) -> Result<()> {
        let aggregate = kind == Kind::Aggregate;
        match word {
            "batch" if !aggregate => {
                meta.require_path_only()?;
                self.batch = true;
            }
            "outputs_from_config" if kind == Kind::Map => {
                meta.require_path_only()?;
                self.outputs_from_config = true;
            }
            "name" => self.name = Some(text(value(meta)?)?.value()),
            "selftest" => self.selftest = Some(text(value(meta)?)?.clone()),
            "values" => self.values = Some(boolean(value(meta)?)?),
            "needs" => self.needs = texts(value(meta)?, |word| check_need(kind, word))?,
            "fields" => self.fields = texts(value(meta)?, check_field)?,
            "outputs" if kind != Kind::Filter => self.outputs = texts(value(meta)?, check_output)?,
            "state_version" if aggregate => self.state_version = Some(integer(value(meta)?)?.base10_parse()?),
            "writes_state_versions" if aggregate => {
                self.writes_state_versions =
                    list(value(meta)?)?.iter().map(|item| integer(item)?.base10_parse()).collect::<Result<_>>()?;
            }
            _ => return Err(Error::new(meta.span(), format!("expected one of {}", words(kind)))),
        }
        Ok(())
    }

    /// Whether payloads have to cross: not if fields are asked for instead, unless the author says so.
    pub(crate) fn takes_values(&self) -> bool {
        self.values.unwrap_or(self.fields.is_empty())
    }

    /// Names of all columns to ask for, fields last and in the author's order.
    pub(crate) fn columns(&self) -> Vec<String> {
        self.needs.iter().cloned().chain(self.fields.iter().map(|pointer| format!("field:{pointer}"))).collect()
    }
}

fn words(kind: Kind) -> &'static str {
    match kind {
        Kind::Filter => "`batch`, `fields`, `name`, `needs`, `selftest`, `values`",
        Kind::Map => "`batch`, `fields`, `name`, `needs`, `outputs`, `outputs_from_config`, `selftest`, `values`",
        Kind::Aggregate => {
            "`fields`, `name`, `needs`, `outputs`, `selftest`, `state_version`, `values`, `writes_state_versions`"
        }
    }
}

fn check_need(kind: Kind, word: &LitStr) -> Result<()> {
    let text = word.value();
    if COLUMNS.contains(&text.as_str()) || (kind == Kind::Aggregate && text == WINDOWS) {
        return Ok(());
    }
    let windows = if kind == Kind::Aggregate { ", `windows`" } else { "" };
    let known = COLUMNS.map(|column| format!("`{column}`")).join(", ");
    Err(Error::new(word.span(), format!("no column is called `{text}`: expected one of {known}{windows}")))
}

fn check_field(pointer: &LitStr) -> Result<()> {
    if pointer.value().starts_with('/') {
        return Ok(());
    }
    let text = pointer.value();
    Err(Error::new(pointer.span(), format!("a field is a JSON pointer, such as `/{text}`")))
}

fn check_output(name: &LitStr) -> Result<()> {
    let text = name.value();
    if RESERVED.contains(&text.as_str()) {
        return Err(Error::new(name.span(), format!("the host has an output `{text}` of its own")));
    }
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if text.is_empty() || !plain {
        return Err(Error::new(name.span(), "an output's name is made of letters, digits, `_` and `-`"));
    }
    Ok(())
}

fn value(meta: &Meta) -> Result<&Expr> {
    Ok(&meta.require_name_value()?.value)
}

fn literal(expr: &Expr) -> Option<&Lit> {
    match expr {
        Expr::Lit(ExprLit { lit, .. }) => Some(lit),
        _ => None,
    }
}

fn text(expr: &Expr) -> Result<&LitStr> {
    match literal(expr) {
        Some(Lit::Str(text)) => Ok(text),
        _ => Err(Error::new(expr.span(), "expected a string")),
    }
}

fn boolean(expr: &Expr) -> Result<bool> {
    match literal(expr) {
        Some(Lit::Bool(word)) => Ok(word.value),
        _ => Err(Error::new(expr.span(), "expected `true` or `false`")),
    }
}

fn integer(expr: &Expr) -> Result<&LitInt> {
    match literal(expr) {
        Some(Lit::Int(number)) => Ok(number),
        _ => Err(Error::new(expr.span(), "expected a whole number")),
    }
}

fn list(expr: &Expr) -> Result<&Punctuated<Expr, Token![,]>> {
    match expr {
        Expr::Array(items) => Ok(&items.elems),
        _ => Err(Error::new(expr.span(), "expected a list in brackets")),
    }
}

fn texts(expr: &Expr, check: impl Fn(&LitStr) -> Result<()>) -> Result<Vec<String>> {
    let mut texts: Vec<String> = Vec::new();
    for item in list(expr)? {
        let item = text(item)?;
        check(item)?;
        if texts.contains(&item.value()) {
            return Err(Error::new(item.span(), format!("`{}` is given twice", item.value())));
        }
        texts.push(item.value());
    }
    Ok(texts)
}

/// Refuses a literal name in `.to("name")` that no declared output has, at the literal.
///
/// A token search rather than a syntax visit, so that calls inside macros are seen too.
pub(crate) fn check_targets(body: TokenStream, outputs: &[String]) -> Result<()> {
    use proc_macro2::{Delimiter, TokenTree};
    let mut last: [Option<TokenTree>; 2] = [None, None];
    for token in body {
        if let TokenTree::Group(group) = &token {
            let called = matches!(&last, [Some(TokenTree::Punct(dot)), Some(TokenTree::Ident(to))]
                if dot.as_char() == '.' && to == "to");
            if called
                && group.delimiter() == Delimiter::Parenthesis
                && let Ok(name) = syn::parse2::<LitStr>(group.stream())
            {
                check_target(&name, outputs)?;
            }
            check_targets(group.stream(), outputs)?;
        }
        last = [last[1].take(), Some(token)];
    }
    Ok(())
}

fn check_target(name: &LitStr, outputs: &[String]) -> Result<()> {
    if outputs.contains(&name.value()) {
        return Ok(());
    }
    let cure = format!("add it to the attribute: `outputs = [\"{}\"]`", name.value());
    Err(Error::new(name.span(), format!("no output is called `{}`; {cure}", name.value())))
}

/// The name of a plugin whose author gave none.
pub(crate) fn name_or(arguments: &Arguments, item: &str) -> LitStr {
    LitStr::new(arguments.name.as_deref().unwrap_or(item), Span::call_site())
}
