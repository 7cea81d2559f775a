//! Who may ask over TCP, by the name that the request gives the host.
//!
//! Owns the list of names. A page in a browser can point a name of its own at this machine and ask as if it were ours
//! (DNS rebinding); it cannot choose the name in `Host`. Invariant: a name that nobody has configured is refused; an
//! address is not a name.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{StatusCode, header::HOST},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Lets a request through whose `Host` is an address, `localhost`, or the name that the host listens on.
pub(super) async fn check(State(listen): State<Arc<str>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_ours(host, &listen) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "this host does not answer to that name\n").into_response()
}

fn is_ours(host: &str, listen: &str) -> bool {
    let name = without_port(host);
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    !bare.is_empty()
        && (bare.eq_ignore_ascii_case("localhost")
            || bare.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case(without_port(listen)))
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_known_names_are_ours() {
        let listen = "metrics.internal:9600";
        for host in ["localhost", "LOCALHOST:9600", "127.0.0.1:9600", "10.0.0.7", "[::1]:9600", "metrics.internal:80"] {
            assert!(is_ours(host, listen), "{host}");
        }
        for host in
            ["", ":9600", "evil.example", "evil.example:9600", "localhost.evil.example", "metrics.internal.evil"]
        {
            assert!(!is_ours(host, listen), "{host}");
        }
    }
}
