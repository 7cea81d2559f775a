//! Where requests go, and what is written above each of them.
//!
//! Owns the checks of the address, the token and the headers, and the request's head that follows from them. It must
//! not know records. Invariant: nothing in a head comes from data, and no message holds the value of a header.

use std::collections::HashSet;

use hyper::{
    HeaderMap, Method, Uri,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderName,
        HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
    },
    http::uri::Scheme,
};

use super::{Compression, Config, Form, Verb};
use crate::secret::Secret;

/// Name of the header by which a receiver knows a request that it has seen.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest address: longer ones are refused by many servers.
const LONGEST: usize = 8 << 10;

/// A fault of a configuration: the fields that lead to it, from `http` on, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misuse {
    /// Such as `url`, or `headers` and a name.
    pub path: Vec<String>,
    /// What is wrong, to be read after the field's name.
    pub message: String,
}

/// What every request has in common.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) uri: Uri,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
}

impl Target {
    /// The address as it may be shown: a query may hold what is nobody's business.
    pub(super) fn shown(&self) -> String {
        let (scheme, authority) = (self.uri.scheme_str().unwrap_or_default(), self.uri.authority());
        format!("{scheme}://{}{}", authority.map_or("", |authority| authority.as_str()), self.uri.path())
    }
}

/// The target that `config` describes.
///
/// # Errors
/// All its faults.
pub(super) fn target(config: &Config) -> Result<Target, Vec<Misuse>> {
    let mut faults = Vec::new();
    let mut fault = |path: &[&str], message: String| {
        faults.push(Misuse { path: path.iter().map(|&field| field.to_owned()).collect(), message });
    };
    let uri = address(&config.url).map_err(|message| fault(&["url"], message)).unwrap_or_default();
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION"))));
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(match config.format {
            Form::Ndjson => "application/x-ndjson",
            Form::Json => "application/json",
        }),
    );
    let mut given = HashSet::new();
    for (name, text) in &config.headers {
        match header(name, text, config) {
            Ok((known, _)) if !given.insert(known.clone()) => {
                fault(&["headers", name], "stands twice, for case does not count".to_owned());
            }
            Ok((name, value)) => {
                headers.insert(name, value);
            }
            Err(message) => fault(&["headers", name], message),
        }
    }
    if config.compression == Compression::Gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Some(token) = &config.token {
        match value(&format!("Bearer {}", token.expose())) {
            Ok(value) => {
                headers.insert(AUTHORIZATION, value);
            }
            Err(message) => fault(&["token"], message),
        }
    }
    let method = match config.method {
        Verb::Post => Method::POST,
        Verb::Put => Method::PUT,
    };
    if faults.is_empty() { Ok(Target { uri, method, headers }) } else { Err(faults) }
}

fn address(url: &str) -> Result<Uri, String> {
    if url.len() > LONGEST {
        return Err(format!("is longer than {LONGEST} bytes"));
    }
    if url.contains('#') {
        return Err("has a fragment, which is never sent".to_owned());
    }
    let uri: Uri = url.parse().map_err(|error| format!("is no URL: {error}"))?;
    let is_known = uri.scheme() == Some(&Scheme::HTTP) || uri.scheme() == Some(&Scheme::HTTPS);
    match uri.authority() {
        Some(authority) if is_known => {
            if authority.as_str().contains('@') {
                return Err("has a user or password in it, which would be shown; write `token` instead".to_owned());
            }
            if authority.host().is_empty() { Err("has no host".to_owned()) } else { Ok(uri) }
        }
        _ => Err("is not absolute; it begins with `http://` or `https://` and a host".to_owned()),
    }
}

fn header(name: &str, text: &Secret, config: &Config) -> Result<(HeaderName, HeaderValue), String> {
    let name: HeaderName = name.parse().map_err(|_| "is no name of a header".to_owned())?;
    let made_here = [
        HOST,
        CONTENT_LENGTH,
        CONTENT_ENCODING,
        CONNECTION,
        EXPECT,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        IDEMPOTENCY_KEY,
    ];
    if made_here.contains(&name) {
        return Err("is written by the sink itself".to_owned());
    }
    if name == AUTHORIZATION && config.token.is_some() {
        return Err("is what `token` is written to".to_owned());
    }
    Ok((name, value(text.expose())?))
}

fn value(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text).map_err(|_| "has characters that a header cannot hold".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::http::tests::config;

    fn faults(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = config("http://localhost/in");
        change(&mut config);
        let told = |misuse: Misuse| format!("{} {}", misuse.path.join("."), misuse.message);
        target(&config).map_or_else(|faults| faults.into_iter().map(told).collect(), |_| Vec::new())
    }

    #[test]
    fn an_address_is_absolute_and_holds_no_secret() {
        for good in ["http://localhost", "https://h:8443/a/b?c=d", "http://[::1]:80/", "HTTP://h/"] {
            assert_eq!(faults(|config| config.url = good.to_owned()), <[String; 0]>::default(), "{good}");
        }
        for (bad, why) in [
            ("", "is no URL"),
            ("localhost", "is not absolute"),
            ("/in", "is not absolute"),
            ("ftp://h/", "is not absolute"),
            ("http://", "is no URL"),
            ("http://user:secret@h/", "has a user or password"),
            ("http://token@h/", "has a user or password"),
            ("http://h/#there", "has a fragment"),
            ("http://h/a b", "is no URL"),
            ("http://h/\r\nx: y", "is no URL"),
            (&format!("http://h/{}", "x".repeat(LONGEST)), "is longer than"),
        ] {
            let faults = faults(|config| config.url = bad.to_owned());
            assert!(faults.len() == 1 && faults[0].starts_with(&format!("url {why}")), "{bad}: {faults:?}");
            assert!(!faults[0].contains("secret"));
        }
    }

    #[test]
    fn headers_that_the_sink_writes_itself_are_refused_and_no_value_is_told() {
        let with = |name: &str, value: &str| {
            let secret = Secret::new(value.to_owned());
            faults(|config| {
                config.token = Some(Secret::new("t".to_owned()));
                config.headers.insert(name.to_owned(), secret);
            })
        };
        assert_eq!(with("x-scope", "one"), <[String; 0]>::default());
        for (name, value, why) in [
            ("Host", "h", "is written by the sink itself"),
            ("content-length", "1", "is written by the sink itself"),
            ("Idempotency-Key", "1", "is written by the sink itself"),
            ("Authorization", "Basic x", "is what `token` is written to"),
            ("a b", "x", "is no name of a header"),
            ("x", "hidden\r\ny: z", "has characters that a header cannot hold"),
        ] {
            assert_eq!(with(name, value), [format!("headers.{name} {why}")]);
        }
        let twice = faults(|config| {
            let one = || Secret::new("1".to_owned());
            config.headers.extend([("X-A".to_owned(), one()), ("x-a".to_owned(), one())]);
        });
        assert_eq!(twice, ["headers.x-a stands twice, for case does not count"]);
        let of_token = faults(|config| config.token = Some(Secret::new("hidden\n".to_owned())));
        assert_eq!(of_token, ["token has characters that a header cannot hold"]);
    }

    #[test]
    fn what_is_shown_of_an_address_has_no_query() {
        assert_eq!(target(&config("https://h:1/a?b=c")).unwrap().shown(), "https://h:1/a");
    }
}
