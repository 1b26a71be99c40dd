//! Two and three daemons in one process, over real links on loopback and a small relay instead of a cluster.

mod hub;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hub::Hub;
use rockpool_peer::api::{
    ApiError, DownloadView, ErrorCode, Event, MessageView, OfferView, Reply, ReplyBody, Request, StatusView,
};
use rockpool_peer::daemon::Daemon;
use rockpool_peer::home::Home;
use tokio::sync::mpsc;
use tokio::time::Instant;

const DEADLINE: Duration = Duration::from_secs(30);

struct Person {
    _folder: tempfile::TempDir,
    home: Home,
    daemon: Option<Daemon>,
    name: &'static str,
}

impl Person {
    async fn open(hub: &Hub, name: &'static str) -> Person {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&folder.path().join("home"))).unwrap();
        let daemon = Some(hub::open(&home, name, hub.address).await);
        Person { _folder: folder, home, daemon, name }
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("this one is open")
    }

    async fn close(&mut self) {
        self.daemon.take().expect("this one is open").stop().await.unwrap();
    }

    async fn reopen(&mut self, hub: &Hub) {
        self.daemon = Some(hub::open(&self.home, self.name, hub.address).await);
    }

    async fn ask(&self, request: Request) -> Result<Reply, ApiError> {
        answer(&mut self.daemon().ask(request).await).await
    }

    async fn say(&self, text: &str) -> MessageView {
        match self.ask(Request::Say { text: text.into() }).await {
            Ok(Reply::Message(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    async fn history(&self) -> Vec<MessageView> {
        match self.ask(Request::History { limit: 100, before: None }).await {
            Ok(Reply::History(messages)) => messages,
            other => panic!("{other:?}"),
        }
    }

    async fn status(&self) -> StatusView {
        match self.ask(Request::Status).await {
            Ok(Reply::Status(status)) => status,
            other => panic!("{other:?}"),
        }
    }

    async fn offers(&self) -> Vec<OfferView> {
        match self.ask(Request::Offers).await {
            Ok(Reply::Offers(offers)) => offers,
            other => panic!("{other:?}"),
        }
    }

    async fn offer(&self, path: &Path) -> OfferView {
        match self.ask(Request::Send { paths: vec![path.to_owned()] }).await {
            Ok(Reply::Offered(offer)) => offer,
            other => panic!("{other:?}"),
        }
    }

    async fn get(&self, offer: &str, to: &Path) -> Result<DownloadView, ApiError> {
        match self.ask(Request::Get { offer: offer.into(), to: to.to_owned() }).await? {
            Reply::Downloaded(download) => Ok(download),
            other => panic!("{other:?}"),
        }
    }

    async fn linked(&self, count: usize) {
        until(async || self.status().await.linked.len() == count).await;
    }

    async fn sees_offer(&self, id: &str) {
        until(async || self.offers().await.iter().any(|offer| offer.id == id)).await;
    }

    async fn hears(&self, text: &str) {
        until(async || self.history().await.iter().any(|message| message.text == text)).await;
    }
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "it did not come to hold");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The last line of an answer.
async fn answer(lines: &mut mpsc::Receiver<ReplyBody>) -> Result<Reply, ApiError> {
    let read = async {
        loop {
            match lines.recv().await.expect("every request is answered") {
                ReplyBody::Event(_) => {}
                ReplyBody::Ok(reply) => return Ok(reply),
                ReplyBody::Error(error) => return Err(error),
            }
        }
    };
    tokio::time::timeout(DEADLINE, read).await.expect("an answer in time")
}

/// Bytes that no two offsets share.
fn content(seed: u8, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    blake3::Hasher::new_derive_key("test content").update(&[seed]).finalize_xof().fill(&mut content);
    content
}

fn tree(folder: &Path) -> Vec<(PathBuf, Option<Vec<u8>>, bool)> {
    fn walk(root: &Path, at: &Path, found: &mut Vec<(PathBuf, Option<Vec<u8>>, bool)>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            if path.is_dir() {
                found.push((name, None, false));
                walk(root, &path, found);
            } else {
                let executable = fs::metadata(&path).unwrap().permissions().mode() & 0o100 != 0;
                found.push((name, Some(fs::read(&path).unwrap()), executable));
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn people_talk_and_all_see_the_same_order_also_after_a_restart() {
    let hub = Hub::start().await;
    let mut ann = Person::open(&hub, "ann").await;
    let bob = Person::open(&hub, "bob").await;
    ann.linked(1).await;
    bob.linked(1).await;
    ann.say("hello bob").await;
    bob.hears("hello bob").await;
    bob.say("hello ann").await;
    ann.hears("hello ann").await;
    let (hers, his) = (ann.history().await, bob.history().await);
    assert_eq!(hers.len(), 2);
    let ids = |messages: &[MessageView]| messages.iter().map(|message| message.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&hers), ids(&his));
    assert_eq!(his[0].from.author, "ann");
    assert!(!his[0].from.this_device && his[1].from.this_device);

    ann.close().await;
    bob.say("are you there").await;
    ann.reopen(&hub).await;
    ann.hears("are you there").await;
    assert_eq!(ids(&ann.history().await), ids(&bob.history().await));
    let taken_back = ann.history().await[0].id.clone();
    ann.ask(Request::Retract { message: taken_back.clone() }).await.unwrap();
    until(async || bob.history().await.iter().any(|message| message.id == taken_back && message.retracted)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_arrives_as_it_was() {
    let hub = Hub::start().await;
    let (ann, bob) = (Person::open(&hub, "ann").await, Person::open(&hub, "bob").await);
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from/share"), folder.path().join("to"));
    fs::create_dir_all(from.join("deep/er")).unwrap();
    fs::create_dir_all(from.join("nothing in it")).unwrap();
    for (name, bytes) in [
        ("empty", 0),
        ("one", 1),
        ("group", 16384),
        ("group+1", 16385),
        ("deep/er/block", 1 << 20),
        ("large", 5_000_003),
    ] {
        fs::write(from.join(name), content(bytes as u8, bytes)).unwrap();
    }
    for number in 0..500 {
        fs::write(from.join(format!("deep/small{number}")), content(number as u8, number * 7)).unwrap();
    }
    fs::set_permissions(from.join("one"), fs::Permissions::from_mode(0o755)).unwrap();
    let offer = ann.offer(&from).await;
    assert_eq!(offer.name, "share");
    bob.sees_offer(&offer.id).await;
    let download = bob.get(&offer.id[..8], &to).await.unwrap();
    assert_eq!(download.paths, [to.canonicalize().unwrap().join("share")]);
    assert_eq!(download.files, 506);
    assert_eq!(tree(&from.join("..")), tree(&to));

    // Getting it again moves nothing and changes nothing.
    let again = bob.get(&offer.id, &to).await.unwrap();
    assert_eq!(again.received_bytes, 0);
    assert_eq!(tree(&from.join("..")), tree(&to));

    // Nothing of one's own is overwritten, and people are told of the other name.
    let other = folder.path().join("other");
    fs::create_dir_all(other.join("share")).unwrap();
    fs::write(other.join("share/one"), b"mine").unwrap();
    let download = bob.get(&offer.id, &other).await.unwrap();
    assert_eq!(fs::read(other.join("share/one")).unwrap(), b"mine");
    assert_eq!(fs::read(other.join("share/one (1)")).unwrap(), content(1, 1));
    assert_eq!(download.renamed, [other.canonicalize().unwrap().join("share/one (1)")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_the_folder_already_does_not_come_again() {
    let hub = Hub::start().await;
    let (ann, bob) = (Person::open(&hub, "ann").await, Person::open(&hub, "bob").await);
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("share"), folder.path().join("to"));
    fs::create_dir_all(&from).unwrap();
    for (name, seed) in [("there", 1), ("other", 2), ("missing", 3)] {
        fs::write(from.join(name), content(seed, 1 << 20)).unwrap();
    }
    // Copied by other means: a stick, an earlier tool.
    fs::create_dir_all(to.join("share")).unwrap();
    fs::write(to.join("share/there"), content(1, 1 << 20)).unwrap();
    fs::write(to.join("share/other"), content(9, 1 << 20)).unwrap();
    let offer = ann.offer(&from).await;
    bob.sees_offer(&offer.id).await;
    let download = bob.get(&offer.id, &to).await.unwrap();
    assert_eq!((download.received_bytes, download.files), (2 << 20, 3));
    assert_eq!(fs::read(to.join("share/other")).unwrap(), content(9, 1 << 20), "what was there stays");
    assert_eq!(fs::read(to.join("share/other (1)")).unwrap(), content(2, 1 << 20));
    assert_eq!(fs::read(to.join("share/missing")).unwrap(), content(3, 1 << 20));
    assert_eq!(fs::read_dir(to.join("share")).unwrap().count(), 4);

    // All of it there: nothing comes, and it is served like any other download.
    let copy = folder.path().join("copy");
    fs::create_dir_all(&copy).unwrap();
    fs::rename(to.join("share"), copy.join("share")).unwrap();
    fs::rename(copy.join("share/other (1)"), copy.join("share/other")).unwrap();
    let cleo = Person::open(&hub, "cleo").await;
    cleo.sees_offer(&offer.id).await;
    let download = cleo.get(&offer.id, &copy).await.unwrap();
    assert_eq!((download.received_bytes, download.renamed.len()), (0, 0));
    assert_eq!(tree(&copy.join("share")), tree(&from));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_download_can_begin_in_another_folder() {
    let hub = Hub::start().await;
    let (ann, bob) = (Person::open(&hub, "ann").await, Person::open(&hub, "bob").await);
    let folder = tempfile::tempdir().unwrap();
    let (file, first, second) = (folder.path().join("file"), folder.path().join("first"), folder.path().join("second"));
    fs::write(&file, content(7, 200 << 20)).unwrap();
    let offer = ann.offer(&file).await;
    bob.sees_offer(&offer.id).await;
    let mut lines = bob.daemon().ask(Request::Get { offer: offer.id.clone(), to: first.clone() }).await;
    loop {
        match lines.recv().await.unwrap() {
            ReplyBody::Event(Event::Progress(progress)) if progress.done_bytes > 10 << 20 => break,
            ReplyBody::Event(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let elsewhere = bob.get(&offer.id, &second).await.unwrap_err();
    assert!(elsewhere.message.contains("is being downloaded into"), "{elsewhere}");
    bob.ask(Request::Cancel { offer: offer.id.clone() }).await.unwrap();
    assert_eq!(answer(&mut lines).await.unwrap_err().code, ErrorCode::Cancelled);
    bob.get(&offer.id, &second).await.unwrap();
    assert_eq!(fs::read(second.join("file")).unwrap(), content(7, 200 << 20));
    assert!(fs::read_dir(&first).unwrap().count() == 1, "what had arrived there is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn own_offers_are_not_waited_for() {
    let hub = Hub::start().await;
    let ann = Person::open(&hub, "ann").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"mine").unwrap();
    let offer = ann.offer(&file).await;
    let error = ann.get(&offer.id, &folder.path().join("to")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Invalid);
    assert!(!folder.path().join("to").exists(), "no folder is made for nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_history_comes_in_parts_that_fit_a_line() {
    let hub = Hub::start().await;
    let ann = Person::open(&hub, "ann").await;
    // Each of these characters takes six bytes in JSON.
    let texts: Vec<String> = (0..60).map(|number| format!("{number} {}", "\u{1}".repeat(4_900))).collect();
    for text in &texts {
        ann.say(text).await;
    }
    let mut found: Vec<MessageView> = Vec::new();
    loop {
        let before = found.first().map(|message| message.id.clone());
        let Ok(Reply::History(part)) = ann.ask(Request::History { limit: 1_000, before }).await else { panic!() };
        assert!(serde_json::to_vec(&part).unwrap().len() < rockpool_peer::api::LINE_BYTES_MAX);
        if part.is_empty() {
            break;
        }
        found.splice(0..0, part);
    }
    assert_eq!(found.into_iter().map(|message| message.text).collect::<Vec<_>>(), texts);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_gets_the_lock_of_a_closed_pool_can_open_its_store() {
    let hub = Hub::start().await;
    let mut ann = Person::open(&hub, "ann").await;
    for number in 0..5 {
        ann.say(&format!("message {number}")).await;
        let home = ann.home.clone();
        let next = std::thread::spawn(move || {
            let _lock = loop {
                match home.lock_daemon() {
                    Ok(lock) => break lock,
                    Err(_) => std::hint::spin_loop(),
                }
            };
            rockpool_peer::store::Store::open(&home.store_path()).map(drop).map_err(|error| error.to_string())
        });
        ann.close().await;
        assert_eq!(next.join().unwrap(), Ok(()));
        ann.reopen(&hub).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn talk_and_transfers_go_on_without_the_cluster() {
    let hub = Hub::start().await;
    let (ann, bob) = (Person::open(&hub, "ann").await, Person::open(&hub, "bob").await);
    ann.linked(1).await;
    bob.linked(1).await;
    hub.cut();
    until(async || !ann.status().await.cluster_connected && !bob.status().await.cluster_connected).await;
    ann.say("still here").await;
    bob.hears("still here").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, content(1, 3_000_000)).unwrap();
    let offer = ann.offer(&file).await;
    bob.sees_offer(&offer.id).await;
    bob.get(&offer.id, &folder.path().join("to")).await.unwrap();
    assert_eq!(fs::read(folder.path().join("to/file")).unwrap(), content(1, 3_000_000));
    hub.heal();
    until(async || ann.status().await.cluster_connected).await;
    ann.say("and back").await;
    bob.hears("and back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_finished_serves_others_and_offers_survive_a_restart() {
    let hub = Hub::start().await;
    let (mut ann, mut bob) = (Person::open(&hub, "ann").await, Person::open(&hub, "bob").await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, content(2, 2_500_000)).unwrap();
    let offer = ann.offer(&file).await;
    bob.sees_offer(&offer.id).await;
    bob.get(&offer.id, &folder.path().join("bob")).await.unwrap();

    // Whoever looks at the list sees that two have it.
    until(async || ann.offers().await[0].seeders == 2).await;
    assert_eq!(bob.offers().await[0].seeders, 2);

    // The offer's own device restarts and still serves it.
    ann.close().await;
    ann.reopen(&hub).await;
    let cleo = Person::open(&hub, "cleo").await;
    cleo.sees_offer(&offer.id).await;
    cleo.get(&offer.id, &folder.path().join("cleo")).await.unwrap();

    // It goes; who has finished serves, after a restart too.
    bob.close().await;
    bob.reopen(&hub).await;
    ann.close().await;
    let dora = Person::open(&hub, "dora").await;
    dora.sees_offer(&offer.id).await;
    dora.get(&offer.id, &folder.path().join("dora")).await.unwrap();
    assert_eq!(fs::read(folder.path().join("dora/file")).unwrap(), content(2, 2_500_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_whose_file_changed_or_went_is_withdrawn() {
    let hub = Hub::start().await;
    let (mut ann, bob) = (Person::open(&hub, "ann").await, Person::open(&hub, "bob").await);
    let folder = tempfile::tempdir().unwrap();
    let (changing, going) = (folder.path().join("changing"), folder.path().join("going"));
    fs::write(&changing, content(3, 2_000_000)).unwrap();
    fs::write(&going, content(4, 2_000_000)).unwrap();
    let (first, second) = (ann.offer(&changing).await, ann.offer(&going).await);
    bob.sees_offer(&first.id).await;
    bob.sees_offer(&second.id).await;

    // Noticed when it is asked for.
    fs::write(&changing, content(5, 2_000_000)).unwrap();
    let error = bob.get(&first.id, &folder.path().join("to")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound, "{error}");
    assert!(!folder.path().join("to/changing").exists());
    until(async || ann.offers().await.iter().all(|offer| offer.id != first.id)).await;

    // Noticed at the start.
    ann.close().await;
    fs::remove_file(&going).unwrap();
    ann.reopen(&hub).await;
    until(async || bob.offers().await.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_resumes_where_it_was_stopped() {
    let hub = Hub::start().await;
    let (ann, mut bob) = (Person::open(&hub, "ann").await, Person::open(&hub, "bob").await);
    let folder = tempfile::tempdir().unwrap();
    let (file, to) = (folder.path().join("file"), folder.path().join("to"));
    let bytes = 200 << 20;
    fs::write(&file, content(6, bytes)).unwrap();
    let offer = ann.offer(&file).await;
    bob.sees_offer(&offer.id).await;
    let mut lines = bob.daemon().ask(Request::Get { offer: offer.id.clone(), to: to.clone() }).await;
    loop {
        match lines.recv().await.unwrap() {
            ReplyBody::Event(Event::Progress(progress)) if progress.done_bytes > 100 << 20 => break,
            ReplyBody::Event(_) => {}
            other => panic!("{other:?}"),
        }
    }
    bob.close().await;
    bob.reopen(&hub).await;
    bob.sees_offer(&offer.id).await;
    let download = bob.get(&offer.id, &to).await.unwrap();
    assert!(download.received_bytes < 150 << 20, "{} bytes came again", download.received_bytes);
    assert_eq!(fs::read(to.join("file")).unwrap(), content(6, bytes));
    assert_eq!(tree(&to).len(), 1, "no .part file stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_device_stops_at_once() {
    let hub = Hub::start().await;
    let (mut ann, bob) = (Person::open(&hub, "ann").await, Person::open(&hub, "bob").await);
    ann.linked(1).await;
    bob.linked(1).await;
    let mut events = ann.daemon().ask(Request::Subscribe).await;
    let id = ann.status().await.me.device_id;
    hub.end(&id, rockpool_proto::meta::v1::ended::Reason::Revoked);
    let error = ann.daemon.take().unwrap().wait().await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Denied);
    let mut last = None;
    while let Some(ReplyBody::Event(event)) = events.recv().await {
        last = Some(event);
    }
    assert!(matches!(last, Some(Event::Closed { reason, .. }) if reason == "revoked"));
    bob.linked(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_with_a_sentence() {
    let hub = Hub::start().await;
    let ann = Person::open(&hub, "ann").await;
    let folder = tempfile::tempdir().unwrap();
    let code = |answer: Result<Reply, ApiError>| answer.unwrap_err().code;
    assert_eq!(code(ann.ask(Request::Say { text: String::new() }).await), ErrorCode::Invalid);
    assert_eq!(code(ann.ask(Request::Say { text: "x".repeat(5_001) }).await), ErrorCode::Invalid);
    assert_eq!(code(ann.ask(Request::Get { offer: "ab".into(), to: "/tmp".into() }).await), ErrorCode::NotFound);
    assert_eq!(code(ann.ask(Request::Send { paths: vec![folder.path().join("no")] }).await), ErrorCode::Invalid);
    assert_eq!(code(ann.ask(Request::Send { paths: vec!["relative".into()] }).await), ErrorCode::Invalid);
    assert_eq!(code(ann.ask(Request::Retract { message: "x".into() }).await), ErrorCode::Invalid);
    // A second daemon on the same home.
    let error = hub::try_open(&ann.home, "ann", hub.address).await.err().unwrap();
    assert!(error.message.contains("has a pool open"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_speaks_json_lines_and_survives_nonsense() {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let hub = Hub::start().await;
    let mut ann = Person::open(&hub, "ann").await;
    let path = ann.home.socket_path();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write
        .write_all(b"nonsense\n{\"id\":7,\"kind\":\"unknown\"}\n{\"id\":8,\"kind\":\"say\",\"text\":\"hi\"}\n")
        .await
        .unwrap();
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(first.starts_with(r#"{"id":0,"error":{"code":"invalid""#), "{first}");
    let second = lines.next_line().await.unwrap().unwrap();
    assert!(second.starts_with(r#"{"id":7,"error""#), "{second}");
    let third = lines.next_line().await.unwrap().unwrap();
    assert!(third.starts_with(r#"{"id":8,"ok":{"message""#), "{third}");
    // A line without an end is cut off at its limit.
    let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    let (read, mut write) = stream.into_split();
    let endless = tokio::spawn(async move { while write.write_all(&[b'x'; 65536]).await.is_ok() {} });
    let mut lines = BufReader::new(read).lines();
    assert!(lines.next_line().await.unwrap().unwrap().contains("a line has at most"));
    assert!(!matches!(lines.next_line().await, Ok(Some(_))));
    drop(lines);
    endless.await.unwrap();
    ann.close().await;
    assert!(!path.exists());
}
