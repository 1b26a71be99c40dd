//! Two links in one process.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rockpool_peer::link::{FrameSender, Link, LinkConfig, LinkError, LinkEvent, is_from_this_machine};
use tokio::sync::mpsc;

struct End {
    link: Arc<Link>,
    events: mpsc::Receiver<LinkEvent>,
    sender: Option<FrameSender>,
    certificate: Option<[u8; 32]>,
    frames: Vec<Vec<u8>>,
    closed: Option<String>,
}

impl End {
    async fn new() -> End {
        let config = LinkConfig { listen: vec!["127.0.0.1:0".into()], ..LinkConfig::default() };
        let (link, events) = Link::new(&config).await.unwrap();
        End { link: Arc::new(link), events, sender: None, certificate: None, frames: Vec::new(), closed: None }
    }

    /// Takes one event; candidates go to the other end.
    async fn step(&mut self, other: &Link) {
        let event = tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await.expect("an event in time");
        match event.expect("Closed is the last event") {
            LinkEvent::Candidate(Some(candidate)) => other.add_candidate(candidate).await.unwrap(),
            LinkEvent::Candidate(None) | LinkEvent::Disconnected => {}
            LinkEvent::Connected(certificate) => self.certificate = Some(certificate),
            LinkEvent::Open(sender) => self.sender = Some(sender),
            LinkEvent::Frame(frame) => self.frames.push(frame.to_vec()),
            LinkEvent::Closed(reason) => self.closed = Some(reason),
        }
    }
}

fn fingerprint(sdp: &str) -> [u8; 32] {
    let line = sdp.lines().find_map(|line| line.strip_prefix("a=fingerprint:sha-256 ")).expect("a fingerprint");
    let bytes: Vec<u8> = line.trim().split(':').map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

async fn pair() -> (End, End) {
    let (mut one, mut other) = (End::new().await, End::new().await);
    let offer = one.link.create_offer().await.unwrap();
    assert!(is_from_this_machine(&offer));
    let answer = other.link.accept_offer(&offer).await.unwrap();
    one.link.apply_answer(&answer).await.unwrap();
    let (ones, others) = (one.link.clone(), other.link.clone());
    while one.sender.is_none() || other.sender.is_none() {
        tokio::select! {
            () = one.step(&others), if one.sender.is_none() => {}
            () = other.step(&ones), if other.sender.is_none() => {}
        }
    }
    assert_eq!(one.certificate, Some(fingerprint(&answer)));
    assert_eq!(other.certificate, Some(fingerprint(&offer)));
    (one, other)
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_arrive_whole_and_in_order_and_closing_is_heard() {
    let (one, mut other) = pair().await;
    let sender = one.sender.clone().unwrap();
    let sizes = [1, 65_536, 16, 1_000, 65_536];
    for size in sizes {
        sender.send(BytesMut::from(vec![size as u8; size].as_slice())).await.unwrap();
    }
    while other.frames.len() < sizes.len() {
        other.step(&one.link).await;
    }
    for (frame, size) in other.frames.iter().zip(sizes) {
        assert!(frame.len() == size && frame.iter().all(|byte| *byte == size as u8));
    }
    let error = sender.send(BytesMut::zeroed(65_537)).await.unwrap_err();
    assert!(matches!(error, LinkError::Oversized { found: 65_537, limit: 65_536 }), "{error}");
    sender.flush().await;
    one.link.close().await;
    while other.closed.is_none() {
        other.step(&one.link).await;
    }
    assert!(sender.send(BytesMut::zeroed(1)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finds_a_path_again_and_loses_nothing() {
    let (mut one, mut other) = pair().await;
    let offer = one.link.restart().await.unwrap();
    let answer = other.link.accept_offer(&offer).await.unwrap();
    one.link.apply_answer(&answer).await.unwrap();
    let sender = one.sender.clone().unwrap();
    for number in 0..10u8 {
        sender.send(BytesMut::from(&[number][..])).await.unwrap();
    }
    let (ones, others) = (one.link.clone(), other.link.clone());
    while other.frames.len() < 10 {
        tokio::select! {
            () = one.step(&others) => {}
            () = other.step(&ones) => {}
        }
    }
    assert_eq!(other.frames.concat(), (0..10).collect::<Vec<u8>>());
}

#[tokio::test]
async fn descriptions_that_are_none_are_refused() {
    let end = End::new().await;
    for nonsense in ["", "v=0", "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n", "\0\0\0", &"x".repeat(40_000)] {
        assert!(end.link.accept_offer(nonsense).await.is_err(), "{nonsense:.20}");
        assert!(end.link.apply_answer(nonsense).await.is_err(), "{nonsense:.20}");
    }
}
