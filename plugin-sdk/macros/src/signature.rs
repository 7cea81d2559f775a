//! What the function under an attribute takes and gives.
//!
//! Owns the shapes that are accepted, and the words in which others are refused. It must not know what is made of the
//! function. Invariant: an error points at the argument, or the return type, that is wrong.

use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, Result, ReturnType, Type, TypeReference};

/// The function under an attribute.
pub(crate) struct Signature {
    /// Type of the configuration, if the function takes one.
    pub(crate) config: Option<Type>,
    /// Type of what it is called with: a record or a batch, without the reference.
    pub(crate) input: Type,
    /// Whether its last argument is `&mut Outputs`.
    pub(crate) writes_outputs: bool,
    /// What it returns.
    pub(crate) returned: Type,
}

/// Reads a function that has to look like `shape`, whose input is a type called `input` (`Record` or `Batch`).
pub(crate) fn read(function: &ItemFn, input: &str, shape: &str) -> Result<Signature> {
    let sig = &function.sig;
    let wrong = |at: proc_macro2::Span, what: &str| Error::new(at, format!("{what}: expected `{shape}`"));
    if let Some(word) = &sig.asyncness {
        return Err(wrong(word.span(), "a plugin's function is not async"));
    }
    if let Some(parameter) = sig.generics.type_params().next() {
        return Err(wrong(parameter.span(), "a plugin's function has no type parameters"));
    }
    let mut arguments = Vec::new();
    for argument in &sig.inputs {
        match argument {
            FnArg::Typed(typed) => match &*typed.ty {
                Type::Reference(reference) => arguments.push(reference),
                other => return Err(wrong(other.span(), "an argument has to be a reference")),
            },
            FnArg::Receiver(receiver) => return Err(wrong(receiver.span(), "a plugin is a function without `self`")),
        }
    }
    let writes_outputs = arguments.last().is_some_and(|last| last.mutability.is_some());
    if writes_outputs && let Some(outputs) = arguments.pop() {
        expect_called(outputs, "Outputs", &wrong)?;
    }
    if let Some(mutable) = arguments.iter().find(|argument| argument.mutability.is_some()) {
        return Err(wrong(mutable.span(), "nothing but the outputs is mutable"));
    }
    let (config, record) = match arguments.as_slice() {
        [record] => (None, *record),
        [config, record] => (Some((*config.elem).clone()), *record),
        [] => return Err(wrong(sig.paren_token.span.join(), "an argument is missing")),
        [.., last] => return Err(wrong(last.span(), "too many arguments")),
    };
    expect_called(record, input, &wrong)?;
    let returned = match &sig.output {
        ReturnType::Type(_, returned) => (**returned).clone(),
        ReturnType::Default => return Err(wrong(sig.ident.span(), "the return type is missing")),
    };
    Ok(Signature { config, input: (*record.elem).clone(), writes_outputs, returned })
}

/// Refuses a type whose last word is not `name`; whether it is the right type of that name, the compiler sees.
fn expect_called(
    reference: &TypeReference,
    name: &str,
    wrong: &impl Fn(proc_macro2::Span, &str) -> Error,
) -> Result<()> {
    let found = match &*reference.elem {
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default(),
        other => other.to_token_stream().to_string(),
    };
    if found == name {
        return Ok(());
    }
    Err(wrong(reference.elem.span(), &format!("found `{found}` where `{name}` has to stand")))
}
