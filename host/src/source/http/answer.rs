//! What a client is told.
//!
//! Owns the statuses and their bodies. It must not know why a decision was taken. Invariant: an answer's size is
//! bounded, however much was refused.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};

/// Refusals that are listed; further ones are counted.
const LISTED: usize = 1000;

/// A record of a request that could not be taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refusal {
    /// Its position in the request, from 0.
    index: u64,
    reason: String,
}

/// What became of the records of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Records that have been taken.
    pub(super) accepted: u64,
    pub(super) refused: Vec<Refusal>,
    /// Refused records beyond those listed.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(super) unlisted: u64,
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

impl Outcome {
    /// A request of which nothing could be read.
    pub(super) fn unreadable(reason: String) -> Self {
        let mut outcome = Self::default();
        outcome.refuse(0, reason);
        outcome
    }

    /// Records that it says something about.
    pub(super) fn records(&self) -> u64 {
        self.accepted + self.refused.len() as u64 + self.unlisted
    }

    /// Bytes that its reasons take.
    pub(super) fn bytes(&self) -> usize {
        self.refused.iter().map(|refusal| size_of::<Refusal>() + refusal.reason.len()).sum()
    }

    /// Notes that the record at `index` was refused.
    pub(super) fn refuse(&mut self, index: u64, reason: String) {
        if self.refused.len() < LISTED {
            self.refused.push(Refusal { index, reason });
        } else {
            self.unlisted += 1;
        }
    }
}

/// An answer to a request.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Its records are committed or refused, each by itself.
    Decided(Outcome),
    /// An `Idempotency-Key` that is none.
    BadKey,
    /// An `Idempotency-Key` that came with another body.
    OtherBody,
    /// There is no room to remember another `Idempotency-Key`.
    NoMoreKeys,
    /// Another path.
    NoSuchPath,
    /// Another method.
    WrongMethod,
    /// A type of body that is not taken.
    WrongType,
    /// An encoding of the body that is not taken.
    WrongEncoding,
    /// The body was too slow.
    TooSlow,
    /// The body is over a limit.
    TooLarge(String),
    /// Over the rate for so long.
    OverRate(Duration),
    /// Nothing was taken, and later it may be.
    Busy(&'static str),
    /// A drain has begun: nothing is taken.
    Draining,
    /// The commit did not come in time.
    Uncommitted,
}

/// What a client is told that posts again after a crowd has gone.
const SOON: u64 = 1;
/// What a client is told that has to wait for a restart, or for what holds the pipeline up.
const LATER: u64 = 10;

impl Answer {
    /// The answer as it is sent.
    pub(super) fn response(self) -> Response<Full<Bytes>> {
        match self {
            Self::Decided(outcome) => {
                let bad = outcome.accepted == 0 && !outcome.refused.is_empty();
                json(if bad { StatusCode::BAD_REQUEST } else { StatusCode::OK }, &outcome)
            }
            Self::BadKey => error(
                StatusCode::BAD_REQUEST,
                "expected one `Idempotency-Key` of 1 to 255 visible ASCII characters without blanks",
            ),
            Self::OtherBody => error(
                StatusCode::UNPROCESSABLE_ENTITY,
                "this `Idempotency-Key` came with another body before; take a new one for a new request",
            ),
            Self::NoMoreKeys => {
                later(error(StatusCode::SERVICE_UNAVAILABLE, "no room to remember another `Idempotency-Key`"), LATER)
            }
            Self::NoSuchPath => error(StatusCode::NOT_FOUND, "records are not posted here"),
            Self::WrongMethod => {
                let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "records are posted");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
                response
            }
            Self::WrongType => error(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "expected application/x-ndjson, application/json, application/octet-stream or text/plain",
            ),
            Self::WrongEncoding => {
                let mut response = error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "expected gzip or no encoding");
                response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
                response
            }
            Self::TooSlow => closing(error(StatusCode::REQUEST_TIMEOUT, "the body came too slowly")),
            Self::TooLarge(reason) => closing(error(StatusCode::PAYLOAD_TOO_LARGE, &reason)),
            Self::OverRate(wait) => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                later(error(StatusCode::TOO_MANY_REQUESTS, "over the rate of this source"), seconds.max(1))
            }
            Self::Busy(reason) => later(error(StatusCode::SERVICE_UNAVAILABLE, reason), SOON),
            Self::Draining => closing(later(error(StatusCode::SERVICE_UNAVAILABLE, "the pipeline is draining"), LATER)),
            Self::Uncommitted => later(
                error(StatusCode::SERVICE_UNAVAILABLE, "not committed yet; the records may still be committed later"),
                LATER,
            ),
        }
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    // Text and numbers always have a JSON form; an empty body is what would be left if they had not.
    let mut response = Response::new(Full::new(Bytes::from(serde_json::to_vec(body).unwrap_or_default())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn error(status: StatusCode, reason: &str) -> Response<Full<Bytes>> {
    json(status, &serde_json::json!({ "error": reason }))
}

fn closing(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn later(mut response: Response<Full<Bytes>>, seconds: u64) -> Response<Full<Bytes>> {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}
