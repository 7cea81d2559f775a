//! What an author's item is turned into.
//!
//! Owns the implementations of the SDK's traits that an attribute writes beside the item. It must not know the
//! contract's functions; they are `guest`'s. Invariant: what is written natively has no effect but to name the plugin
//! as a type, so that `cargo test` needs no wasm.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, ItemFn, ItemImpl, Result, Type};

use crate::arguments::{self, Arguments, Kind};
use crate::guest;
use crate::signature::{self, Signature};

const FILTER: &str = "fn(config: &Config, record: &Record) -> Result<bool>";
const FILTER_BATCH: &str = "fn(config: &Config, batch: &Batch) -> Result<Selection>";
const MAP: &str = "fn(config: &Config, record: &Record) -> Result<Output>";
const MAP_OUT: &str = "fn(config: &Config, record: &Record, out: &mut Outputs) -> Result<()>";
const MAP_BATCH: &str = "fn(config: &Config, batch: &Batch, out: &mut Outputs) -> Result<()>";

/// `#[filter]`.
pub(crate) fn filter(tokens: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let arguments = Arguments::read(Kind::Filter, tokens)?;
    let function = read_function(item)?;
    let (input, shape) = if arguments.batch { ("Batch", FILTER_BATCH) } else { ("Record", FILTER) };
    let signature = signature::read(&function, input, shape)?;
    if signature.writes_outputs {
        return Err(Error::new(function.sig.inputs.span(), format!("a filter puts nothing out: expected `{shape}`")));
    }
    let call = call(&function, &signature, None);
    let call = if arguments.batch {
        call
    } else {
        quote!(::core::result::Result::Ok(::tidegate_plugin::__private::keep_each(
            input,
            |input: &::tidegate_plugin::Record<'_>| -> ::tidegate_plugin::Result<bool> { #call },
        )))
    };
    let body = quote! {
        fn select(
            config: &Self::Config,
            input: &::tidegate_plugin::Batch,
        ) -> ::tidegate_plugin::Result<::tidegate_plugin::Selection> {
            #call
        }
    };
    Ok(plugin(&function, &signature, &arguments, Kind::Filter, &body))
}

/// `#[map]`.
pub(crate) fn map(tokens: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let arguments = Arguments::read(Kind::Map, tokens)?;
    let function = read_function(item)?;
    let several = function.sig.inputs.len() > 2;
    let (input, shape) = match (arguments.batch, several) {
        (true, _) => ("Batch", MAP_BATCH),
        (false, true) => ("Record", MAP_OUT),
        (false, false) => ("Record", MAP),
    };
    let signature = signature::read(&function, input, shape)?;
    if arguments.batch && !signature.writes_outputs {
        return Err(Error::new(function.sig.inputs.span(), format!("nowhere to put outputs: expected `{shape}`")));
    }
    if !arguments.outputs_from_config {
        let block = &function.block;
        arguments::check_targets(quote!(#block), &arguments.outputs)?;
    }
    let out = signature.writes_outputs.then(|| quote!(out));
    let mut call = call(&function, &signature, out.as_ref());
    if !signature.writes_outputs {
        let at = signature.returned.span();
        call = quote_spanned!(at=> ::tidegate_plugin::__private::put_all(out, #call));
    }
    if !arguments.batch {
        call = quote! {
            ::tidegate_plugin::__private::turn_each(
                input,
                out,
                |input: &::tidegate_plugin::Record<'_>, out: &mut ::tidegate_plugin::Outputs<'_>|
                    -> ::tidegate_plugin::Result<()> { #call },
            );
            ::core::result::Result::Ok(())
        };
    }
    let body = quote! {
        fn turn(
            config: &Self::Config,
            input: &::tidegate_plugin::Batch,
            out: &mut ::tidegate_plugin::Outputs<'_>,
        ) -> ::tidegate_plugin::Result<()> {
            #call
        }
    };
    Ok(plugin(&function, &signature, &arguments, Kind::Map, &body))
}

/// `#[aggregate]`.
pub(crate) fn aggregate(tokens: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let arguments = Arguments::read(Kind::Aggregate, tokens)?;
    let span = item.span();
    let block: ItemImpl =
        syn::parse2(item).map_err(|_| Error::new(span, "`#[aggregate]` stands on an `impl Aggregate for YourType`"))?;
    let of_aggregate = block.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
    if of_aggregate.is_none_or(|segment| segment.ident != "Aggregate") {
        return Err(Error::new(block.self_ty.span(), "expected `impl Aggregate for YourType`"));
    }
    let Type::Path(path) = &*block.self_ty else {
        return Err(Error::new(block.self_ty.span(), "expected the name of a type of this crate"));
    };
    let Some(name) = path.path.get_ident() else {
        return Err(Error::new(path.span(), "expected the name of a type of this crate"));
    };
    arguments::check_targets(quote!(#block), &arguments.outputs)?;
    let config = quote!(<#name as ::tidegate_plugin::Aggregate>::Config);
    let facts = facts(&arguments, Kind::Aggregate, name);
    let alive = alive(name);
    let guest = guest::exports(Kind::Aggregate, &quote!(#name));
    Ok(quote! {
        #block
        #[automatically_derived]
        impl ::tidegate_plugin::Plugin for #name {
            type Config = #config;
            const FACTS: ::tidegate_plugin::Facts = #facts;
        }
        #alive
        #guest
    })
}

fn read_function(item: TokenStream) -> Result<ItemFn> {
    let span = item.span();
    syn::parse2(item).map_err(|error| {
        // A syntax error inside a function is better told where it is.
        if error.to_string().starts_with("expected `fn`") { Error::new(span, "expected a function") } else { error }
    })
}

/// A call of the author's function, each argument spanned as the author's type of it, and the call as the return type, so
/// that a mismatch is shown there.
fn call(function: &ItemFn, signature: &Signature, out: Option<&TokenStream>) -> TokenStream {
    let name = &function.sig.ident;
    let config = signature.config.as_ref().map(|config| quote_spanned!(config.span()=> config,));
    let input = quote_spanned!(signature.input.span()=> input,);
    quote_spanned!(signature.returned.span()=> #name(#config #input #out))
}

fn plugin(
    function: &ItemFn,
    signature: &Signature,
    arguments: &Arguments,
    kind: Kind,
    body: &TokenStream,
) -> TokenStream {
    let name = &function.sig.ident;
    let vis = &function.vis;
    let config = match &signature.config {
        Some(config) => quote!(#config),
        None => quote!(::tidegate_plugin::NoConfig),
    };
    let implemented = match kind {
        Kind::Filter => quote!(Filter),
        Kind::Map | Kind::Aggregate => quote!(Map),
    };
    let facts = facts(arguments, kind, name);
    let alive = alive(name);
    let guest = guest::exports(kind, &quote!(#name));
    let doc = format!("The plugin made of the function `{name}`.");
    quote! {
        #function

        #[doc = #doc]
        #[allow(non_camel_case_types)]
        #vis struct #name {}

        #[automatically_derived]
        impl ::tidegate_plugin::Plugin for #name {
            type Config = #config;
            const FACTS: ::tidegate_plugin::Facts = #facts;
        }

        #[automatically_derived]
        impl ::tidegate_plugin::#implemented for #name {
            #body
        }

        #alive
        #guest
    }
}

/// Natively nothing but the author's tests names the plugin, and the compiler must not call it dead for that.
fn alive(name: &Ident) -> TokenStream {
    quote!(const _: fn() -> ::tidegate_plugin::Facts = || <#name as ::tidegate_plugin::Plugin>::FACTS;)
}

fn facts(arguments: &Arguments, kind: Kind, item: &Ident) -> TokenStream {
    let kind = match kind {
        Kind::Filter => quote!(Filter),
        Kind::Map => quote!(Map),
        Kind::Aggregate => quote!(Aggregate),
    };
    let name = arguments::name_or(arguments, &item.to_string());
    let values = arguments.takes_values();
    let needs = arguments.columns();
    let fields = &arguments.fields;
    let outputs = &arguments.outputs;
    let from_config = arguments.outputs_from_config;
    // Spanned as the author's text, so that a file that is not there is told at its name.
    let selftest = arguments.selftest.as_ref().map_or_else(
        || quote!(::core::option::Option::None),
        |path| {
            quote_spanned!(path.span()=> ::core::option::Option::Some(
                ::core::include_str!(::core::concat!(::core::env!("CARGO_MANIFEST_DIR"), "/", #path))
            ))
        },
    );
    let version = arguments.state_version.unwrap_or(1);
    let mut writes = arguments.writes_state_versions.clone();
    if !writes.contains(&version) {
        writes.push(version);
    }
    quote! {
        ::tidegate_plugin::Facts {
            kind: ::tidegate_plugin::Kind::#kind,
            name: #name,
            version: ::core::env!("CARGO_PKG_VERSION"),
            values: #values,
            needs: &[#(#needs),*],
            fields: &[#(#fields),*],
            outputs: &[#(#outputs),*],
            outputs_from_config: #from_config,
            selftest: #selftest,
            state_version: #version,
            writes_state_versions: &[#(#writes),*],
        }
    }
}
