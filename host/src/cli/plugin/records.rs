//! Records for trying a plugin: read from a file or standard input, or made up.
//!
//! Owns how they come to be, with keys, times and the fields that the plugin asks for.

use std::{io::Read, path::Path};

use clap::{Args, ValueEnum};

use super::{Answer, Exit, Trouble};
use crate::{
    batch::{Batch, Column, Limit},
    codec::{Decoder, Format, Origin, Stamp, Undecoded},
    plugin::Plugin,
    stage::prepare::Wants,
};

/// Most bytes of records that are taken in hand.
const MOST: u64 = 256 << 20;

/// How records are read.
#[derive(Args, Debug)]
pub(super) struct Reading {
    /// How the input becomes records.
    #[arg(long, value_enum, default_value_t)]
    decode: Decode,
    /// JSON pointer to the key of each record.
    #[arg(long, value_name = "POINTER", value_parser = pointer)]
    key: Option<String>,
    /// JSON pointer to the event time of each record.
    #[arg(long, value_name = "POINTER", value_parser = pointer)]
    time: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Decode {
    /// A JSON value a line.
    #[default]
    Json,
    /// A record a line, whatever is in it.
    Lines,
    /// Comma-separated values with a header line.
    Csv,
    /// Everything in one record.
    Raw,
}

fn pointer(text: &str) -> Result<String, String> {
    if crate::codec::scan::is_pointer(text) {
        Ok(text.to_owned())
    } else {
        Err("a JSON pointer begins with `/`, such as `/client/id`".to_owned())
    }
}

impl Reading {
    /// Every record of `input`, as one batch with what `plugin` asks for, and what could not be decoded.
    pub(super) fn read(
        &self,
        input: impl Read,
        name: &str,
        plugin: &Plugin,
    ) -> Result<(Batch, Vec<Undecoded>), Box<Answer>> {
        let mut bytes = Vec::new();
        input.take(MOST).read_to_end(&mut bytes).map_err(|error| {
            Box::new(Answer::failed(Exit::Environment, Trouble::of(format!("read {name}: {error}"))))
        })?;
        if bytes.len() as u64 == MOST {
            let trouble = Trouble::of(format!("read {name}: it is larger than 256 MiB"));
            return Err(Box::new(Answer::failed(Exit::Usage, trouble)));
        }
        let format = match self.decode {
            Decode::Json => Format::Json,
            Decode::Lines => Format::Lines,
            Decode::Csv => Format::Csv,
            Decode::Raw => Format::Raw,
        };
        let stamp = Stamp { key: self.key.clone(), time: self.time.clone(), fields: [].into() };
        let mut decoder = Decoder::new(format, &stamp, bytes.len().max(1));
        let (mut builder, mut undecoded) = (decoder.builder(), Vec::new());
        let most = Limit { records: usize::MAX, bytes: usize::MAX };
        decoder.end(&bytes, Origin { name, offset: 0 }, &mut builder, &mut undecoded, most);
        Ok((prepared(builder.finish(), plugin), undecoded))
    }

    /// The records of the file at `path`.
    pub(super) fn read_file(&self, path: &Path, plugin: &Plugin) -> Result<(Batch, Vec<Undecoded>), Box<Answer>> {
        let name = path.display().to_string();
        let file = std::fs::File::open(path)
            .map_err(|error| Box::new(Answer::failed(Exit::Usage, Trouble::of(format!("read {name}: {error}")))))?;
        self.read(file, &name, plugin)
    }
}

/// What a plugin meets sooner or later: nothing, no JSON, no text, JSON of another shape.
const ODD: [&[u8]; 10] = [
    b"",
    b"null",
    b"{}",
    b"[]",
    b"-0.0",
    b"\"text\"",
    b"no json",
    b"\xff\xfe\0",
    b"{\"status\":\"\",\"ms\":null}",
    b"{\"status\":1e308,\"ms\":[{}]}",
];

/// [`made_up`] records with [`ODD`] ones among them.
pub(super) fn made_up_and_odd(count: usize, size: usize, plugin: &Plugin) -> Batch {
    let odd: Column = ODD.iter().collect();
    let keys: Column = (0..ODD.len()).map(|at| format!("c{}", at % 3)).collect();
    let batch = Batch::of_values(odd);
    // The columns were made with as many items as there are records.
    let batch = batch.clone().with_keys(keys).unwrap_or(batch);
    let batch = batch.clone().with_timestamps(vec![0; ODD.len()]).unwrap_or(batch);
    Batch::concat(&[made_up(count, size, plugin), prepared(batch, plugin), made_up(count / 10, 0, plugin)])
}

/// `count` JSON objects of about `size` bytes: 1 of 10 has the status 503, keys are 100 different ones.
pub(super) fn made_up(count: usize, size: usize, plugin: &Plugin) -> Batch {
    let one = |at: usize| {
        let status = if at.is_multiple_of(10) { 503 } else { 200 };
        let (client, ms) = (at % 100, at.wrapping_mul(7919) % 1000);
        let head =
            format!(r#"{{"client":"c{client}","path":"/p/{client}","status":{status},"ms":{ms},"ts":{at},"pad":""#);
        let pad = "x".repeat(size.saturating_sub(head.len() + 2));
        format!("{head}{pad}\"}}")
    };
    let values: Column = (0..count).map(one).collect();
    let keys: Column = (0..count).map(|at| format!("c{}", at % 100)).collect();
    let times = (0..count).map(|at| i64::try_from(at).unwrap_or(i64::MAX)).collect();
    let batch = Batch::of_values(values);
    // The columns were made with as many items as there are records.
    let batch = batch.clone().with_keys(keys).unwrap_or(batch);
    let batch = batch.clone().with_timestamps(times).unwrap_or(batch);
    prepared(batch, plugin)
}

fn prepared(batch: Batch, plugin: &Plugin) -> Batch {
    let needs: Vec<String> = plugin.described().needs.iter().map(ToString::to_string).collect();
    Wants::new(&needs, None).prepare(0, batch)
}
