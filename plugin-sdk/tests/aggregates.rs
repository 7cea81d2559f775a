//! What an aggregate may rely on.

use tidegate_plugin::prelude::*;

/// Keeps the last three words of a group; puts out a word that comes twice in a row.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Words(Vec<String>);

#[aggregate(name = "words", state_version = 2, writes_state_versions = [1], needs = ["keys"], outputs = ["twice"])]
impl Aggregate for Words {
    type Config = NoConfig;
    type State = Self;

    fn add(_: &NoConfig, words: &mut Self, record: &Record, out: &mut Outputs) -> Result<()> {
        let word = record.text()?;
        // Deliberately changes the state before it finds out that it should not have.
        words.0.push(word.to_owned());
        out.same();
        ensure!(!word.is_empty(), "no word");
        if words.0.len() > 1 && words.0.iter().rev().nth(1).is_some_and(|before| before == word) {
            out.value(word).to("twice")?;
        }
        if words.0.len() > 3 {
            words.0.remove(0);
        }
        Ok(())
    }

    fn merge(_: &NoConfig, words: &mut Self, later: Self) {
        words.0.extend(later.0);
    }

    fn finish(_: &NoConfig, group: &Group, words: &Self, out: &mut Outputs) -> Result<()> {
        ensure!(group.key()? != b"secret", "not for your ears");
        out.json(&json!({ "words": words.0, "window": group.window().is_some() }))?;
        Ok(())
    }

    fn is_over(_: &NoConfig, words: &Self) -> bool {
        words.0.last().is_some_and(|word| word == "bye")
    }

    fn migrate(from: u32, to: u32, state: &[u8]) -> Result<Vec<u8>> {
        match (from, to) {
            (1, 2) => state::encode(&Self(vec![state::decode(state)?])),
            (2, 1) => state::encode(&state::decode::<Self>(state)?.0.concat()),
            _ => bail!("no version {from}"),
        }
    }
}

fn say(key: &str, word: &str) -> testing::Input {
    testing::text(word).key(key)
}

fn state(groups: &testing::Groups<Words>, key: &str) -> Vec<String> {
    state::decode::<Words>(groups.state(key).unwrap()).unwrap().0
}

#[test]
fn a_refused_record_leaves_no_trace_in_the_state_or_the_outputs() {
    let mut groups = testing::Groups::<Words>::new("");
    let given = groups.add([
        say("a", "one"),
        say("a", ""),
        say("b", ""),
        say("a", "two"),
        say("a", ""),
        say("a", "two"),
        say("b", "x"),
        say("a", ""),
    ]);
    assert_eq!(given.refused.iter().map(|refused| refused.at).collect::<Vec<_>>(), [1, 2, 4, 7]);
    let origins: Vec<_> = given.outputs.iter().map(|out| (out.origin, out.to.as_deref())).collect();
    assert_eq!(origins, [(0, None), (3, None), (5, None), (5, Some("twice")), (6, None)]);
    assert_eq!(
        (state(&groups, "a"), state(&groups, "b")),
        (vec!["one".into(), "two".into(), "two".into()], vec!["x".into()])
    );
}

#[test]
fn other_batches_come_to_the_same() {
    let words = ["a", "b", "", "b", "c", "", "", "d", "d"].map(|word| say("k", word));
    let mut whole = testing::Groups::<Words>::new("");
    let outputs = whole.add(words.clone()).outputs;
    let mut cut = testing::Groups::<Words>::new("");
    let alone: Vec<_> = words
        .into_iter()
        .enumerate()
        .flat_map(|(origin, word)| cut.add([word]).outputs.into_iter().map(move |out| testing::Out { origin, ..out }))
        .collect();
    assert_eq!((outputs, whole.state("k")), (alone, cut.state("k")));
}

#[test]
fn a_group_that_is_over_is_forgotten() {
    let mut groups = testing::Groups::<Words>::new("");
    groups.add([say("a", "hello"), say("b", "hello"), say("a", "bye")]);
    assert_eq!((groups.state("a"), groups.state("b").is_some()), (None, true));
}

#[test]
fn a_group_can_be_refused_and_the_others_come_out() {
    let mut groups = testing::Groups::<Words>::new("");
    groups.add([say("open", "x"), say("secret", "y")]);
    let given = groups.finish(Occasion::Asked);
    assert_eq!(given.outputs[0].json(), json!({ "words": ["x"], "window": false }));
    assert_eq!(given.refused, [testing::Refused { at: 1, reason: "not for your ears".into() }]);
}

#[test]
fn states_move_between_versions_and_back() {
    let mut groups = testing::Groups::<Words>::new("");
    groups.add([say("k", "ab"), say("k", "cd")]);
    assert_eq!(groups.migrate(2, 1), []);
    assert_eq!(state::decode::<String>(groups.state("k").unwrap()).unwrap(), "abcd");
    assert_eq!(groups.migrate(1, 2), []);
    assert_eq!(state(&groups, "k"), ["abcd"]);
    assert_eq!(groups.migrate(3, 2)[0].reason, "no version 3");
}

#[test]
fn a_state_that_cannot_be_read_refuses_its_records_and_stays_as_it_is() {
    let mut groups = testing::Groups::<Words>::new("");
    groups.add([say("k", "ab")]);
    groups.migrate(2, 1);
    let before = groups.state("k").unwrap().to_vec();
    let given = groups.add([say("k", "x"), say("fine", "x")]);
    assert_eq!(given.refused.iter().map(|refused| refused.at).collect::<Vec<_>>(), [0]);
    assert!(given.refused[0].reason.contains("state cannot be read"), "{:?}", given.refused);
    assert_eq!(groups.state("k").unwrap(), before);
}

#[test]
fn the_description_names_the_versions() {
    let described = testing::describe::<Words>();
    assert_eq!(described["kind"], "aggregate");
    assert_eq!((&described["state-version"], &described["writes-state-versions"]), (&json!(2), &json!([1, 2])));
    assert_eq!((&described["outputs"], &described["contract"]), (&json!(["twice"]), &json!("0.1.0")));
}
