//! Bytes that are no PostgreSQL client's: every connection is closed cleanly, and the listener goes on.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Server, message};

/// What the server says until it closes.
async fn say(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    // The server may have closed before all of it is written; that is what is being looked at.
    let _ = socket.write_all(bytes).await;
    let _ = socket.shutdown().await;
    listen(&mut socket).await
}

async fn listen(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    read.expect("the connection is closed in time").ok();
    answer
}

fn startup(parameters: &[u8]) -> Vec<u8> {
    let mut packet = ((8 + parameters.len()) as u32).to_be_bytes().to_vec();
    packet.extend(b"\0\x03\0\0");
    packet.extend(parameters);
    packet
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_startup_packets_are_answered_or_closed() {
    let server = Server::start().await;
    let mut truncated = startup(b"user\0root\0\0");
    truncated.truncate(12);
    let packets: [&[u8]; 9] = [
        b"",
        b"\0",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\x04",
        b"\xff\xff\xff\xff\0\x03\0\0",
        b"\0\0\0\x08\0\x02\0\0",
        b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01abcd",
        &truncated,
    ];
    for packet in packets {
        let answer = say(&server, packet).await;
        assert!(answer.is_empty() || answer[0] == b'E', "{packet:?} was answered {answer:?}");
    }
    for parameters in [&b"user\0root"[..], b"user\0\xff\xfe\0\0", b"\0", b"database\0rockpool\0\0"] {
        let mut stream = server.raw().await;
        stream.write_all(&startup(parameters)).await.unwrap();
        let answer = listen(&mut stream).await;
        assert!(answer.is_empty() || answer[0] == b'E', "{parameters:?} was answered {answer:?}");
    }
    server.connect().await.batch_execute("SELECT 1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_in_the_clear_behind_a_tls_request_are_not_taken_for_the_clients() {
    let server = Server::start().await;
    let mut bytes = b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec();
    bytes.extend(startup(b"user\0root\0\0"));
    assert_eq!(say(&server, &bytes).await, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_message_that_is_no_scram_is_refused() {
    let server = Server::start().await;
    for message in [
        &b"p\0\0\0\x08abc\0"[..],
        b"p\0\0\0\x04",
        b"p\0\0\0\x16SCRAM-SHA-256\0\x7f\xff\xff\xff",
        b"Q\0\0\0\x0dSELECT 1\0",
    ] {
        let mut stream = server.raw().await;
        stream.write_all(&startup(b"user\0root\0database\0rockpool\0\0")).await.unwrap();
        let mut asked = [0; 43];
        stream.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
        stream.write_all(message).await.unwrap();
        let answer = listen(&mut stream).await;
        assert!(answer.starts_with(b"E"), "{message:?} was answered {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_close_their_connection_only() {
    let server = Server::start().await;
    let watcher = server.connect().await;
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for round in 0..60 {
        let bytes: Vec<u8> = (0..1 + round * 7)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        if round % 2 == 0 {
            say(&server, &bytes).await;
        } else {
            let mut stream = server.raw().await;
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            listen(&mut stream).await;
        }
    }
    watcher.batch_execute("SELECT 1").await.unwrap();
}

/// Parse, Bind with parameters of these types as text, Execute, Sync.
fn run(sql: &str, types: &[u32], parameters: &[&str]) -> Vec<Vec<u8>> {
    let mut parse = [b"\0", sql.as_bytes(), b"\0", &(types.len() as u16).to_be_bytes()].concat();
    types.iter().for_each(|oid| parse.extend(oid.to_be_bytes()));
    let mut bind = b"\0\0\0\0".to_vec();
    bind.extend((parameters.len() as u16).to_be_bytes());
    for parameter in parameters {
        bind.extend((parameter.len() as u32).to_be_bytes());
        bind.extend(parameter.as_bytes());
    }
    bind.extend(b"\0\0");
    vec![message(b'P', &parse), message(b'B', &bind), message(b'E', b"\0\0\0\0\0"), message(b'S', b"")]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_never_leaves_a_client_waiting() {
    let server = Server::start().await;
    let mut raw = server.raw_login().await;
    // A function call stands for itself: no Sync follows.
    raw.send(&[message(b'F', b"\0\0\0\x01\0\0\0\0\0\0")]).await;
    assert_eq!(raw.until_ready().await, "E(0A000)Z");
    raw.send(&[message(b'Q', b"COPY nowhere FROM STDIN\0")]).await;
    let refused = raw.until_ready().await;
    assert!(refused.starts_with("E(") && refused.ends_with(")Z"), "{refused}");
    // Data that was under way already.
    raw.send(&[message(b'd', b"1\n"), message(b'c', b""), message(b'Q', b"\0")]).await;
    assert_eq!(raw.until_ready().await, "IZ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_may_name_what_the_catalog_holds() {
    const REGCLASS: u32 = 2205;
    let server = Server::start().await;
    let mut raw = server.raw_login().await;
    raw.send(&[message(b'Q', b"CREATE TABLE t (a int)\0")]).await;
    assert_eq!(raw.until_ready().await, "CZ");
    for name in ["t", "public.t", "pg_catalog.pg_class"] {
        raw.send(&run("SELECT $1", &[REGCLASS], &[name])).await;
        assert_eq!(raw.until_ready().await, "12DCZ", "{name}");
    }
    raw.send(&run("SELECT $1", &[REGCLASS], &["nowhere"])).await;
    assert_eq!(raw.until_ready().await, "1E(42P01)Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_that_changed_something_does_so_once() {
    let server = Server::start().await;
    let mut raw = server.raw_login().await;
    raw.send(&[message(b'Q', b"CREATE TABLE t (a int)\0")]).await;
    assert_eq!(raw.until_ready().await, "CZ");
    let mut twice = run("INSERT INTO t VALUES (1)", &[], &[]);
    twice.insert(3, message(b'E', b"\0\0\0\0\0"));
    raw.send(&twice).await;
    assert_eq!(raw.until_ready().await, "12CE(55000)Z");
}
