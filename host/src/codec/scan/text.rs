//! What is between the quotes of a JSON string, without its escapes.
//!
//! Owns the escapes, in both directions. It relies on the raw JSON having been checked.

use std::borrow::Cow;

use super::reader::special;

/// What a raw JSON value says as text: the contents of a string, anything else as it stands. For valid JSON only.
pub fn text(raw: &[u8]) -> Cow<'_, [u8]> {
    let contents = match raw {
        [b'"', contents @ .., b'"'] => contents,
        _ => return Cow::Borrowed(raw),
    };
    if memchr::memchr(b'\\', contents).is_none() {
        return Cow::Borrowed(contents);
    }
    Cow::Owned(unescaped(contents).collect::<String>().into_bytes())
}

/// Appends what [`text`] gives, without anything in between.
pub(in crate::codec) fn push_text(raw: &[u8], out: &mut Vec<u8>) {
    match raw {
        [b'"', contents @ .., b'"'] if memchr::memchr(b'\\', contents).is_some() => {
            let mut buffer = [0; 4];
            for character in unescaped(contents) {
                out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
            }
        }
        [b'"', contents @ .., b'"'] => out.extend_from_slice(contents),
        _ => out.extend_from_slice(raw),
    }
}

/// Whether a raw name of a member is this one.
pub(in crate::codec) fn is_named(raw: &[u8], name: &str) -> bool {
    raw == name.as_bytes() || (memchr::memchr(b'\\', raw).is_some() && name.chars().eq(unescaped(raw)))
}

/// A raw name of a member without its escapes.
pub(in crate::codec) fn unescape(raw: &[u8]) -> String {
    unescaped(raw).collect()
}

/// The characters between the quotes of a string. What is not a valid escape comes out as U+FFFD.
fn unescaped(contents: &[u8]) -> impl Iterator<Item = char> + '_ {
    let mut chars = std::str::from_utf8(contents).unwrap_or_default().chars();
    std::iter::from_fn(move || {
        Some(match chars.next()? {
            '\\' => match chars.next()? {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => {
                    let unit = |chars: &mut std::str::Chars<'_>| {
                        chars.by_ref().take(4).fold(0, |unit, digit| unit << 4 | digit.to_digit(16).unwrap_or_default())
                    };
                    let high = unit(&mut chars);
                    let code = if (0xd800..0xdc00).contains(&high) {
                        chars.nth(1);
                        0x10000 + ((high - 0xd800) << 10) + (unit(&mut chars) & 0x3ff)
                    } else {
                        high
                    };
                    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
                }
                other => other,
            },
            plain => plain,
        })
    })
}

/// Appends `text` as it stands between the quotes of a JSON string.
pub(in crate::codec) fn push_escaped(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let (mut plain, mut at) = (0, 0);
    while let Some(&byte) = bytes.get(at) {
        if bytes
            .get(at..)
            .and_then(<[u8]>::first_chunk::<8>)
            .is_some_and(|eight| special(u64::from_le_bytes(*eight)) == 0)
        {
            at += 8;
            continue;
        }
        at += 1;
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(bytes.get(plain..at - 1).unwrap_or_default());
        plain = at;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend([byte >> 4, byte & 15].map(|digit| HEX[digit as usize & 15]));
            }
        }
    }
    out.extend_from_slice(bytes.get(plain..).unwrap_or_default());
}
