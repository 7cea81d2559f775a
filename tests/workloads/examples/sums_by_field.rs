//! An aggregate that adds up a field that the host finds in the value.

use tidegate_plugin::prelude::*;
use workloads::Sum;

struct SumsByField;

#[aggregate(name = "sums-by-field", needs = ["keys", "windows"], fields = ["/us"])]
impl Aggregate for SumsByField {
    type Config = NoConfig;
    type State = Sum;

    fn add(_: &NoConfig, sum: &mut Sum, record: &Record, _: &mut Outputs) -> Result<()> {
        sum.add(record.field_as(0)?);
        Ok(())
    }

    fn merge(_: &NoConfig, sum: &mut Sum, other: Sum) {
        sum.merge(other);
    }

    fn finish(_: &NoConfig, group: &Group, sum: &Sum, out: &mut Outputs) -> Result<()> {
        let start = group.window().map_or(0, |window| window.start);
        out.json(&sum.result(std::str::from_utf8(group.key()?)?, start))?;
        Ok(())
    }
}
