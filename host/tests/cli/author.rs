//! `plugin new` and `plugin build` as verbs; what they make is tested where it is made.

use crate::folder::Folder;

#[test]
fn a_new_crate_names_what_to_type_next_and_its_pipeline_asks_for_a_build() {
    let folder = Folder::new();
    let said = folder.run(&["plugin", "new", "by-status", "--kind", "filter"]).exits(0);
    assert!(said.out.contains("tidegate plugin build"), "{}", said.out);
    folder.run(&["check", "by-status/pipeline.yaml"]).exits(2).complains("TG301").complains("tidegate plugin build");
    folder.run(&["plugin", "new", "by-status"]).exits(2).complains("it is there already");
}
