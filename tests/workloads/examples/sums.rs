//! An aggregate that parses JSON for the one field that it adds up.

use tidegate_plugin::prelude::*;
use workloads::{Sum, Took};

struct Sums;

#[aggregate(name = "sums", needs = ["keys", "windows"])]
impl Aggregate for Sums {
    type Config = NoConfig;
    type State = Sum;

    fn add(_: &NoConfig, sum: &mut Sum, record: &Record, _: &mut Outputs) -> Result<()> {
        sum.add(record.json::<Took>()?.us);
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
