//! An aggregate that counts records and adds up their lengths.

use tidegate_plugin::prelude::*;
use workloads::Sum;

struct Fold;

#[aggregate(name = "fold")]
impl Aggregate for Fold {
    type Config = NoConfig;
    type State = Sum;

    fn add(_: &NoConfig, sum: &mut Sum, record: &Record, _: &mut Outputs) -> Result<()> {
        sum.add(record.value().len() as u64);
        Ok(())
    }

    fn merge(_: &NoConfig, sum: &mut Sum, other: Sum) {
        sum.merge(other);
    }

    fn finish(_: &NoConfig, _: &Group, sum: &Sum, out: &mut Outputs) -> Result<()> {
        out.json(sum)?;
        Ok(())
    }
}
