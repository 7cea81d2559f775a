//! The functions that a plugin exports, by name and by type.
//!
//! Owns the signatures of the contract. It must not know when they are called. Invariant: a function is called only
//! after its type was compared with the contract's.

use wasmtime::Store;
use wasmtime::component::{Component, ComponentExportIndex, Instance, TypedFunc};

use super::abi::{
    AccumulatedOut, BatchIn, ColumnIn, ColumnOut, GroupsIn, MigratedOut, OccasionIn, ProducedAndRefused, SelectionOut,
};
use super::contract::{self, AGGREGATION, FILTERING, LIFECYCLE, MAPPING};
use super::guest::Guest;
use super::{Kind, LoadError};

pub(super) type Describe = TypedFunc<(), (String,)>;
pub(super) type Configure = TypedFunc<(&'static str,), (Result<(), String>,)>;
pub(super) type Filter = TypedFunc<(BatchIn<'static>,), (SelectionOut,)>;
pub(super) type Transform = TypedFunc<(BatchIn<'static>,), (ProducedAndRefused,)>;
pub(super) type Accumulate = TypedFunc<(GroupsIn<'static>, &'static [u32], BatchIn<'static>), (AccumulatedOut,)>;
pub(super) type Merge = TypedFunc<(ColumnIn<'static>, &'static [u32], &'static [u32]), (ColumnOut,)>;
pub(super) type Migrate = TypedFunc<(u32, u32, ColumnIn<'static>), (MigratedOut,)>;
pub(super) type Finish = TypedFunc<(GroupsIn<'static>, OccasionIn), (ProducedAndRefused,)>;

/// Where a plugin's functions are found in any of its instances.
pub(super) struct Exports {
    pub(super) describe: ComponentExportIndex,
    pub(super) configure: ComponentExportIndex,
    calls: CallExports,
}

enum CallExports {
    Filter(ComponentExportIndex),
    Map(ComponentExportIndex),
    Aggregate {
        accumulate: ComponentExportIndex,
        merge: ComponentExportIndex,
        finish: ComponentExportIndex,
        migrate: ComponentExportIndex,
    },
}

/// The functions of one instance that are called with data.
pub(super) enum Calls {
    Filter(Filter),
    Map(Transform),
    Aggregate { accumulate: Accumulate, merge: Merge, finish: Finish, migrate: Migrate },
}

impl Exports {
    /// Finds the functions of a plugin of `kind`.
    ///
    /// # Errors
    /// When one is not there.
    pub(super) fn find(component: &Component, kind: Kind) -> Result<Self, LoadError> {
        let find = |interface: &str, function: &str| {
            component
                .get_export_index(None, interface)
                .and_then(|interface| component.get_export_index(Some(&interface), function))
                .ok_or_else(|| contract::differs(contract::VERSION, format!("{interface} lacks {function}")))
        };
        let calls = match kind {
            Kind::Filter => CallExports::Filter(find(FILTERING, "filter")?),
            Kind::Map => CallExports::Map(find(MAPPING, "transform")?),
            Kind::Aggregate => CallExports::Aggregate {
                accumulate: find(AGGREGATION, "accumulate")?,
                merge: find(AGGREGATION, "merge")?,
                finish: find(AGGREGATION, "finish")?,
                migrate: find(AGGREGATION, "migrate")?,
            },
        };
        Ok(Self { describe: find(LIFECYCLE, "describe")?, configure: find(LIFECYCLE, "configure")?, calls })
    }

    /// The functions of `instance` that are called with data.
    ///
    /// # Errors
    /// When a type is not the contract's; the function is named.
    pub(super) fn calls(&self, store: &mut Store<Guest>, instance: &Instance) -> Result<Calls, String> {
        let named = |function: &'static str| move |error: wasmtime::Error| format!("{function}: {error:#}");
        Ok(match &self.calls {
            CallExports::Filter(filter) => {
                Calls::Filter(instance.get_typed_func(store, filter).map_err(named("filtering.filter"))?)
            }
            CallExports::Map(transform) => {
                Calls::Map(instance.get_typed_func(store, transform).map_err(named("mapping.transform"))?)
            }
            CallExports::Aggregate { accumulate, merge, finish, migrate } => Calls::Aggregate {
                accumulate: instance
                    .get_typed_func(&mut *store, accumulate)
                    .map_err(named("aggregation.accumulate"))?,
                merge: instance.get_typed_func(&mut *store, merge).map_err(named("aggregation.merge"))?,
                finish: instance.get_typed_func(&mut *store, finish).map_err(named("aggregation.finish"))?,
                migrate: instance.get_typed_func(&mut *store, migrate).map_err(named("aggregation.migrate"))?,
            },
        })
    }
}
