//! The functions of the contract that a plugin exports.
//!
//! Owns the glue between the bindings and the SDK's runners, written only for wasm32: natively a plugin is a type and
//! no more. It must not know what the author wrote. Invariant: the bindings are generated in the author's crate, from
//! the SDK's one copy of the contract, so that exactly one world ends up in the plugin.

use proc_macro2::TokenStream;
use quote::quote;

use crate::arguments::Kind;

/// The contract's text, so that an author's crate needs no file of it.
const CONTRACT: &str = include_str!("../../wit/plugin.wit");

/// What makes `plugin`, a type of `kind`, the plugin of a crate built for wasm32.
pub(crate) fn exports(kind: Kind, plugin: &TokenStream) -> TokenStream {
    let (world, functions) = match kind {
        Kind::Filter => ("filter-plugin", filtering()),
        Kind::Map => ("map-plugin", mapping()),
        Kind::Aggregate => ("aggregate-plugin", aggregation()),
    };
    quote! {
        #[cfg(target_arch = "wasm32")]
        #[doc(hidden)]
        #[allow(unsafe_code, missing_docs, unreachable_pub, unused, clippy::all, clippy::pedantic)]
        mod __tidegate_guest {
            use ::tidegate_plugin::__private as sdk;

            sdk::wit_bindgen::generate!({
                inline: #CONTRACT,
                world: #world,
                runtime_path: "::tidegate_plugin::__private::wit_bindgen::rt",
                with: {
                    "tidegate:plugin/types@0.1.0": ::tidegate_plugin::__private::types,
                    "tidegate:plugin/host@0.1.0": ::tidegate_plugin::__private::host,
                },
            });

            type Author = super::#plugin;
            struct Guest;

            ::std::thread_local! {
                static CONFIG: ::std::cell::OnceCell<sdk::Configured<Author>> = const { ::std::cell::OnceCell::new() };
            }

            impl exports::tidegate::plugin::lifecycle::Guest for Guest {
                fn describe() -> String {
                    sdk::describe::<Author>()
                }

                fn configure(config: String) -> Result<(), String> {
                    sdk::report_panics();
                    CONFIG.with(|slot| slot.set(sdk::configure::<Author>(&config)?).map_err(|_| sdk::TWICE.to_owned()))
                }
            }

            fn with<T>(call: impl FnOnce(&sdk::Configured<Author>) -> T) -> T {
                CONFIG.with(|slot| call(slot.get().expect(sdk::NOT_CONFIGURED)))
            }

            #functions

            export!(Guest);
        }
    }
}

fn filtering() -> TokenStream {
    quote! {
        use exports::tidegate::plugin::filtering as contract;

        impl contract::Guest for Guest {
            fn filter(input: contract::Batch) -> contract::Selection {
                let (keep, refused) = with(|config| sdk::filter(config, input));
                contract::Selection { keep, refused }
            }
        }
    }
}

fn mapping() -> TokenStream {
    quote! {
        use exports::tidegate::plugin::mapping as contract;

        impl contract::Guest for Guest {
            fn transform(input: contract::Batch) -> contract::Mapped {
                let (produced, refused) = with(|config| sdk::map(config, input));
                contract::Mapped { produced, refused }
            }
        }
    }
}

fn aggregation() -> TokenStream {
    quote! {
        use exports::tidegate::plugin::aggregation as contract;

        fn groups(groups: contract::Groups) -> sdk::Groups {
            sdk::Groups {
                states: groups.states,
                keys: groups.keys,
                windows: groups.windows.map(|windows| {
                    windows.into_iter().map(|w| sdk::Window { start: w.start, end: w.end }).collect()
                }),
            }
        }

        impl contract::Guest for Guest {
            fn accumulate(
                given: contract::Groups,
                group_of: Vec<u32>,
                input: contract::Batch,
            ) -> contract::Accumulated {
                let done = with(|config| sdk::accumulate(config, groups(given), &group_of, input));
                contract::Accumulated { states: done.states, produced: done.produced, refused: done.refused }
            }

            fn merge(states: contract::Column, parts: Vec<u32>, ends: Vec<u32>) -> contract::Column {
                with(|config| sdk::merge(config, &states, &parts, &ends))
            }

            fn finish(given: contract::Groups, why: contract::Occasion) -> contract::Finished {
                let why = match why {
                    contract::Occasion::Closed => sdk::Occasion::Closed,
                    contract::Occasion::Early => sdk::Occasion::Early,
                    contract::Occasion::Late => sdk::Occasion::Late,
                    contract::Occasion::Asked => sdk::Occasion::Asked,
                };
                let (produced, refused) = with(|config| sdk::finish(config, groups(given), why));
                contract::Finished { produced, refused }
            }

            fn migrate(from: u32, to: u32, states: contract::Column) -> contract::Migrated {
                let (states, refused) = with(|config| sdk::migrate(config, from, to, &states));
                contract::Migrated { states, refused }
            }
        }
    }
}
