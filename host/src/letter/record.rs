//! The record in a letter, as it was before somebody refused it.
//!
//! Owns the way back from what people and programs read. Invariant: bytes that went into a letter come out of it.

use super::{Data, Letter};
use crate::batch::{Batch, ID, INPUT, push_header};

impl Data {
    /// The bytes; none where these are no hexadecimal digits.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.clone().into_bytes()),
            Self::Bytes { hex } => unhex(hex),
        }
    }
}

fn unhex(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = hex.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

impl Letter {
    /// A batch of the record alone; none where the letter does not hold what a letter holds.
    pub fn record(&self) -> Option<Batch> {
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            push_header(&mut headers, &name.bytes()?, &value.bytes()?);
        }
        let key = match &self.key {
            Some(key) => key.bytes()?,
            None => Vec::new(),
        };
        let mut batch = Batch::of_values([self.value.bytes()?].iter().collect());
        batch = batch.with_keys([key].iter().collect()).ok()?;
        batch = batch.with_headers([headers].iter().collect()).ok()?;
        if let Some(time) = self.time {
            batch = batch.with_timestamps(vec![time]).ok()?;
        }
        if let Some(input) = self.input {
            batch = batch.with_named(INPUT.into(), [[input]].iter().collect()).ok()?;
        }
        match &self.id {
            Some(id) => batch.with_named(ID.into(), [unhex(id)?].iter().collect()).ok(),
            None => Some(batch),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::letter::{Kind, Origin, Part};

    fn letter(value: Data) -> Letter {
        Letter {
            offset: 3,
            by: Origin { name: "s".to_owned(), part: Part::Stage, plugin: None },
            kind: Kind::Refused,
            reason: String::new(),
            place: None,
            epoch: 1,
            refused: (0, 0),
            attempts: 1,
            was: None,
            value,
            key: None,
            time: None,
            headers: Vec::new(),
            id: None,
            input: None,
        }
    }

    proptest! {
        #[test]
        fn bytes_come_out_as_they_went_in(value in prop::collection::vec(any::<u8>(), 0..40), key in prop::collection::vec(any::<u8>(), 1..9)) {
            let whole = Letter {
                key: Some(Data::of(&key)),
                time: Some(-1),
                headers: vec![(Data::of(b"h"), Data::of(&value))],
                id: Some("01".repeat(16)),
                ..letter(Data::of(&value))
            };
            let record = whole.record().unwrap();
            let mut header = Vec::new();
            push_header(&mut header, b"h", &value);
            prop_assert_eq!(record.values().get(0), Some(&value[..]));
            prop_assert_eq!(record.keys().unwrap().get(0), Some(&key[..]));
            prop_assert_eq!(record.timestamps(), Some(&[-1][..]));
            prop_assert_eq!(record.headers().unwrap().get(0), Some(&header[..]));
            prop_assert_eq!(record.named(ID).unwrap().get(0), Some(&[1u8; 16][..]));
        }
    }

    #[test]
    fn what_is_no_hexadecimal_is_no_record() {
        for hex in ["0", "0g", "é"] {
            assert!(letter(Data::Bytes { hex: hex.to_owned() }).record().is_none(), "{hex}");
        }
        assert!(Letter { id: Some("x".to_owned()), ..letter(Data::of(b"v")) }.record().is_none());
    }
}
