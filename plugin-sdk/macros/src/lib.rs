//! The attributes of `tidegate-plugin`: `#[filter]`, `#[map]` and `#[aggregate]`.
//!
//! Owns what an author's function or `impl` is turned into. It must not know how a batch is laid out: what it writes
//! only names items of `tidegate-plugin`. Invariant: what the author wrote is kept as it is, and every error points at
//! the author's own tokens.

mod arguments;
mod expand;
mod guest;
mod signature;

use proc_macro::TokenStream;

/// Turns a function into a filter plugin; see `tidegate_plugin::filter`.
#[proc_macro_attribute]
pub fn filter(arguments: TokenStream, item: TokenStream) -> TokenStream {
    or_error(expand::filter(arguments.into(), item.into()))
}

/// Turns a function into a map plugin; see `tidegate_plugin::map`.
#[proc_macro_attribute]
pub fn map(arguments: TokenStream, item: TokenStream) -> TokenStream {
    or_error(expand::map(arguments.into(), item.into()))
}

/// Turns an `impl Aggregate` into an aggregate plugin; see `tidegate_plugin::aggregate`.
#[proc_macro_attribute]
pub fn aggregate(arguments: TokenStream, item: TokenStream) -> TokenStream {
    or_error(expand::aggregate(arguments.into(), item.into()))
}

fn or_error(expanded: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    expanded.unwrap_or_else(|error| error.to_compile_error()).into()
}
