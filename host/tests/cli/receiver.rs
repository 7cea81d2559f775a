//! A receiver of posted requests that outlives every host.
//!
//! Owns connections and the little of HTTP that a posting host says. What is answered, the test says.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
};

use crate::folder::PATIENCE;

/// Answers requests of one connection until it is closed: with the status that `take` says of a key and a body, or by
/// breaking off.
fn serve(stream: TcpStream, take: &impl Fn(String, String) -> Option<u16>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut key, mut length, mut head) = (String::new(), 0, String::new());
        while reader.read_line(&mut head)? > 2 {
            let line = head.to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("idempotency-key: ") {
                value.trim().clone_into(&mut key);
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            head.clear();
        }
        if head.is_empty() {
            return Ok(());
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let Some(status) = take(key, String::from_utf8(body).unwrap()) else { return Ok(()) };
        write!(&stream, "HTTP/1.1 {status} Fine\r\ncontent-length: 0\r\n\r\n")?;
    }
}

/// Starts one, each connection on a thread of its own, and says where it listens.
pub(crate) fn receiver(take: impl Fn(String, String) -> Option<u16> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, take) = (listener.local_addr().unwrap(), Arc::new(take));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let take = take.clone();
            // A host that falls breaks off what it is saying.
            std::thread::spawn(move || serve(stream, &*take));
        }
    });
    address
}
