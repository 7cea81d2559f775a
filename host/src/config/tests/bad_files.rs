//! Bad files and what is said about them: `tests/config/NAME.yaml` and `NAME.txt` beside it.

use std::{fs, path::Path};

use super::shown;

/// Environment of the bad files.
const ENV: &[(&str, &str)] = &[("PORT", "8080"), ("TOKEN", "hunter2")];

#[test]
fn every_bad_file_is_told_all_its_faults_with_place_and_cure() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    names.sort();
    assert!(names.len() > 5);
    let mut wrong = Vec::new();
    for path in names {
        let said = shown(&fs::read_to_string(&path).unwrap(), ENV);
        let expected = path.with_extension("txt");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&expected, &said).unwrap();
        }
        if said != fs::read_to_string(&expected).unwrap_or_default() {
            wrong.push(format!("{}:\n{said}", path.display()));
        }
        assert!(!said.contains("hunter2"), "{said}");
        assert_eq!(
            said.is_empty(),
            path.file_stem().unwrap().to_string_lossy().starts_with("good"),
            "{}",
            path.display()
        );
    }
    assert!(wrong.is_empty(), "UPDATE_EXPECT=1 accepts these:\n{}", wrong.join("\n"));
}
