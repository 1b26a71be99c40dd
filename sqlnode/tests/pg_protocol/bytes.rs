//! Bytes that are no PostgreSQL client's: every connection is closed cleanly, and the listener goes on.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::Server;

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
        let mut asked = [0; 24];
        stream.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked[..9], b"R\0\0\0\x17\0\0\0\x0a");
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
