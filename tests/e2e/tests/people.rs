//! Bad days of people with devices, over real processes: a cluster that is gone, programs that are killed, disks that are
//! full, invites and sessions that hold no longer. Nobody loses what was said or received, and everybody is told why.

use anyhow::{Context, Result};
use rockpool_e2e::device::Outcome;
use rockpool_e2e::{Cluster, Device, OpenPool, SmallDisk, files, wait_until};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PASSWORD: &str = "correct horse battery";
const POOL: &str = "reef";
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a download may take: a sender that died is noticed after some seconds only.
const DOWNLOAD_DEADLINE: Duration = Duration::from_secs(60);

/// One node, and Ann's and Bob's device in one pool.
struct Scene {
    folder: tempfile::TempDir,
    cluster: Cluster,
    ann: Device,
    bob: Device,
}

impl Scene {
    fn new() -> Result<Scene> {
        let folder = tempfile::tempdir()?;
        let cluster = Cluster::start(folder.path(), 1)?;
        let address = cluster.address()?;
        let ann = Device::new(folder.path(), "ann-laptop", &address)?;
        let bob = Device::new(folder.path(), "bob-desktop", &address)?;
        ann.sign_up("ann", "Ann", PASSWORD)?;
        bob.sign_up("bob", "Bob", PASSWORD)?;
        ann.must(&["pool", "create", POOL])?;
        let scene = Scene { folder, cluster, ann, bob };
        scene.bob.must_with(&["pool", "join", "-"], &scene.invite(&[])?)?;
        Ok(scene)
    }

    fn invite(&self, options: &[&str]) -> Result<String> {
        let invite = self.ann.must(&[&["pool", "invite", POOL], options].concat())?;
        Ok(invite["invite"].as_str().context("an invite")?.to_owned())
    }

    /// Both have the pool open and are linked.
    fn open(&self) -> Result<(OpenPool, OpenPool)> {
        let (mut at_ann, mut at_bob) = (self.ann.open(POOL)?, self.bob.open(POOL)?);
        at_ann.wait_linked("bob-desktop")?;
        at_bob.wait_linked("ann-laptop")?;
        Ok((at_ann, at_bob))
    }

    /// Ann offers a generated file of so many bytes; answers the offer's id once Bob knows of it.
    fn offer(&self, name: &str, bytes: u64, at_bob: &mut OpenPool) -> Result<String> {
        let path = self.folder.path().join(name);
        files::generate(&path, bytes, bytes)?;
        let offer = self.ann.must(&["send", text(&path)?])?;
        at_bob.wait_for("the offer", DEADLINE, |event| event["event"] == "offer" && event["id"] == offer["id"])?;
        Ok(offer["id"].as_str().context("an offer has an id")?.to_owned())
    }

    fn assert_same(&self, name: &str, to: &Path) -> Result<()> {
        assert_eq!(files::hash(&self.folder.path().join(name))?, files::hash(&to.join(name))?);
        assert_eq!(std::fs::read_dir(to)?.count(), 1, "nothing else stays in {}", to.display());
        Ok(())
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a printable path")
}

/// `rockpool get` on its way.
struct Get {
    child: Child,
    lines: Receiver<Value>,
    deadline: Instant,
}

impl Get {
    fn start(device: &Device, offer: &str, to: &Path) -> Result<Get> {
        let mut child = device.command(&["get", offer, "--to", text(to)?])?.stdout(Stdio::piped()).spawn()?;
        let stdout = BufReader::new(child.stdout.take().context("standard output is piped")?);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let values = stdout.lines().map_while(|line| serde_json::from_str(&line.ok()?).ok());
            values.take_while(|value: &Value| sender.send(value.clone()).is_ok()).for_each(drop);
        });
        Ok(Get { child, lines, deadline: Instant::now() + DOWNLOAD_DEADLINE })
    }

    /// The next line; `None` at the end.
    fn next(&mut self) -> Result<Option<Value>> {
        match self.lines.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                self.child.kill()?;
                anyhow::bail!("the download did not end within {DOWNLOAD_DEADLINE:?}")
            }
        }
    }

    /// Waits until so many bytes have arrived.
    fn until(&mut self, bytes: u64) -> Result<()> {
        while let Some(event) = self.next()? {
            if event["event"] == "progress" && event["done_bytes"].as_u64().is_some_and(|done| done >= bytes) {
                return Ok(());
            }
        }
        anyhow::bail!("the download ended before {bytes} bytes had arrived")
    }

    /// Waits for the end: exit status and last line.
    fn finish(mut self) -> Result<(Option<i32>, Value)> {
        let mut last = Value::Null;
        while let Some(line) = self.next()? {
            last = line;
        }
        Ok((self.child.wait()?.code(), last))
    }
}

#[track_caller]
fn assert_refused(outcome: Result<Outcome>, code: i32, sentence: &str) {
    let outcome = outcome.expect("the command runs");
    let said = outcome.json["error"]["message"].as_str().unwrap_or_default();
    assert!(said.contains(sentence), "{}{} lacks {sentence:?}", outcome.stdout, outcome.stderr);
    assert_eq!(outcome.code, Some(code), "{said}");
}

fn texts(device: &Device) -> Result<Vec<String>> {
    let history = device.must(&["history", "-n", "1000"])?;
    let messages = history.as_array().context("a list of messages")?;
    Ok(messages.iter().filter_map(|message| message["text"].as_str().map(str::to_owned)).collect())
}

#[test]
fn with_the_whole_cluster_gone_connected_people_go_on_talking_and_sharing() -> Result<()> {
    let mut scene = Scene::new()?;
    let (mut at_ann, mut at_bob) = scene.open()?;
    scene.cluster.nodes[0].kill9()?;
    for at in [&mut at_ann, &mut at_bob] {
        at.wait_for("the news", DEADLINE, |event| event["event"] == "cluster" && event["connected"] == false)?;
    }
    scene.ann.must(&["say", "is anybody there"])?;
    at_bob.wait_message("is anybody there")?;
    scene.bob.must(&["say", "yes, and no cluster"])?;
    at_ann.wait_message("yes, and no cluster")?;
    let offer = scene.offer("alone", 20_000_000, &mut at_bob)?;
    let to = scene.folder.path().join("to");
    scene.bob.must(&["get", &offer, "--to", text(&to)?])?;
    scene.assert_same("alone", &to)?;
    // What needs the cluster says so.
    let refused = scene.ann.run(&["pool", "invite", POOL])?;
    assert_eq!(refused.code, Some(5), "{}", refused.stdout);
    let said = refused.json["error"]["message"].as_str().unwrap_or_default();
    assert!(said.contains("node") || said.contains("cluster"), "{said}");

    scene.cluster.nodes[0].start(None)?;
    scene.cluster.nodes[0].wait_ready()?;
    for at in [&mut at_ann, &mut at_bob] {
        at.wait_for("the cluster's return", DEADLINE, |event| {
            event["event"] == "cluster" && event["connected"] == true
        })?;
    }
    assert_eq!(texts(&scene.ann)?, texts(&scene.bob)?);
    Ok(())
}

#[test]
fn a_program_killed_right_after_it_answered_has_kept_every_message() -> Result<()> {
    let scene = Scene::new()?;
    let (mut at_ann, _at_bob) = scene.open()?;
    let mut said = Vec::new();
    for number in 0..20 {
        let text = format!("message {number}");
        scene.ann.must(&["say", &text])?;
        said.push(text);
    }
    at_ann.process.kill9()?;
    let _at_ann = scene.ann.open(POOL)?;
    assert_eq!(texts(&scene.ann)?, said);
    // It goes on behind what it had said: nobody saw two messages under one number.
    scene.ann.must(&["say", "back again"])?;
    said.push("back again".into());
    wait_until("Bob to have all of it", DEADLINE, || (texts(&scene.bob).ok()? == said).then_some(()))
}

#[test]
fn a_receiver_killed_in_the_middle_goes_on_where_it_was() -> Result<()> {
    let scene = Scene::new()?;
    let (_at_ann, mut at_bob) = scene.open()?;
    let bytes = 256 << 20;
    let offer = scene.offer("film", bytes, &mut at_bob)?;
    let to = scene.folder.path().join("to");
    let mut get = Get::start(&scene.bob, &offer, &to)?;
    get.until(160 << 20)?;
    at_bob.process.kill9()?;
    let (code, _) = get.finish()?;
    assert_ne!(code, Some(0), "whoever waited is told");
    assert!(!to.join("film").exists(), "no half of a file under its name");

    let mut at_bob = scene.bob.open(POOL)?;
    at_bob.wait_linked("ann-laptop")?;
    let done = scene.bob.must(&["get", &offer, "--to", text(&to)?])?;
    let again = done["received_bytes"].as_u64().context("a number")?;
    assert!(again < bytes * 3 / 4, "{again} bytes came again");
    scene.assert_same("film", &to)
}

#[test]
fn a_sender_killed_in_the_middle_comes_back_and_the_download_goes_on() -> Result<()> {
    let scene = Scene::new()?;
    let (mut at_ann, mut at_bob) = scene.open()?;
    let bytes = 256 << 20;
    let offer = scene.offer("film", bytes, &mut at_bob)?;
    let to = scene.folder.path().join("to");
    let mut get = Get::start(&scene.bob, &offer, &to)?;
    get.until(60 << 20)?;
    at_ann.process.kill9()?;
    let _at_ann = scene.ann.open(POOL)?;
    let (code, last) = get.finish()?;
    assert_eq!(code, Some(0), "{last}");
    let received = last["received_bytes"].as_u64().context("a number")?;
    assert!(received < bytes + (64 << 20), "{received} bytes in all");
    scene.assert_same("film", &to)
}

#[test]
fn a_file_that_changes_under_way_is_withdrawn_and_never_half_received() -> Result<()> {
    let scene = Scene::new()?;
    let (_at_ann, mut at_bob) = scene.open()?;
    let offer = scene.offer("draft", 256 << 20, &mut at_bob)?;
    let to = scene.folder.path().join("to");
    let mut get = Get::start(&scene.bob, &offer, &to)?;
    get.until(16 << 20)?;
    files::generate(&scene.folder.path().join("draft"), 256 << 20, 99)?;
    let (code, last) = get.finish()?;
    assert_eq!(code, Some(3), "{last}");
    at_bob.wait_for("its withdrawal", DEADLINE, |event| event["event"] == "withdrawn" && event["offer"] == *offer)?;
    assert!(!to.join("draft").exists());
    Ok(())
}

#[test]
fn a_full_disk_is_said_and_after_making_room_the_same_command_goes_on() -> Result<()> {
    let mut scene = Scene::new()?;
    let mut disk = SmallDisk::new(&scene.folder.path().join("small"), 32 << 20, 16 << 20)?;
    scene.bob.file_bytes_max = disk.file_bytes_max();
    let (_at_ann, mut at_bob) = scene.open()?;
    let offer = scene.offer("film", 64 << 20, &mut at_bob)?;
    let to = disk.path.join("to");
    assert_refused(scene.bob.run(&["get", &offer, "--to", text(&to)?]), 6, disk.full_text());
    assert!(!to.join("film").exists());

    disk.make_room()?;
    if scene.bob.file_bytes_max.take().is_some() {
        at_bob.process.terminate(DEADLINE)?;
        at_bob = scene.bob.open(POOL)?;
        at_bob.wait_linked("ann-laptop")?;
    }
    scene.bob.must(&["get", &offer, "--to", text(&to)?])?;
    scene.assert_same("film", &to)
}

#[test]
fn a_disk_that_fills_up_on_the_way_is_said_and_the_download_goes_on_later() -> Result<()> {
    let scene = Scene::new()?;
    let mut disk = SmallDisk::new(&scene.folder.path().join("small"), 24 << 20, 1 << 20)?;
    let (_at_ann, mut at_bob) = scene.open()?;
    // Small files take more room than their bytes: nobody can tell beforehand that there is too little.
    let folder = scene.folder.path().join("notes");
    std::fs::create_dir(&folder)?;
    for number in 0..8_000 {
        std::fs::write(folder.join(format!("note {number}")), number.to_string())?;
    }
    let offer = scene.ann.must(&["send", text(&folder)?])?;
    let offer = offer["id"].as_str().context("an offer has an id")?;
    at_bob.wait_for("the offer", DEADLINE, |event| event["event"] == "offer" && event["id"] == offer)?;
    let to = text(&disk.path)?.to_owned();
    // Where it cannot be mounted, the disk is as large as any and there is nothing to be said.
    if disk.file_bytes_max().is_none() {
        assert_refused(scene.bob.run(&["get", offer, "--to", &to]), 6, "the disk is full");
        assert_refused(scene.bob.run(&["get", offer, "--to", &to]), 6, "make room, then get it again");
        disk.make_room()?;
    }
    scene.bob.must(&["get", offer, "--to", &to])?;
    let got = std::fs::read_dir(disk.path.join("notes"))?.filter_map(Result::ok);
    assert_eq!(got.filter(|file| !file.file_name().to_string_lossy().ends_with(".part")).count(), 8_000);
    assert_eq!(std::fs::read(disk.path.join("notes/note 7999"))?, b"7999");
    Ok(())
}

#[test]
fn a_full_disk_under_the_home_is_said_to_whoever_spoke() -> Result<()> {
    let scene = Scene::new()?;
    let disk = SmallDisk::new(&scene.folder.path().join("small"), 16 << 20, 4 << 20)?;
    let mut phone = Device::new(&disk.path, "ann-phone", &scene.cluster.address()?)?;
    phone.log_in("ann", PASSWORD)?;
    phone.file_bytes_max = disk.file_bytes_max();
    let mut at_phone = phone.open(POOL)?;
    if disk.file_bytes_max().is_none() {
        let mut filler = std::fs::File::create(disk.path.join("filler"))?;
        while std::io::Write::write_all(&mut filler, &[1; 65_536]).is_ok() {}
    }
    let long = "x".repeat(5_000);
    let refused = (0..4_000)
        .map(|_| phone.run(&["say", &long]))
        .find(|outcome| !matches!(outcome, Ok(said) if said.code == Some(0)));
    assert_refused(refused.context("the disk is full at some time")?, 6, "nothing can be kept any more");
    assert_eq!(at_phone.process.wait(DEADLINE)?.code(), Some(6));
    Ok(())
}

#[test]
fn of_two_who_open_at_the_same_moment_nobody_is_told_nonsense() -> Result<()> {
    let scene = Scene::new()?;
    scene.ann.must(&["pool", "create", "lagoon"])?;
    let open = |pool: &'static str| {
        let device = scene.ann.clone();
        std::thread::spawn(move || device.run(&["open", pool, "--detach"]))
    };
    for _ in 0..3 {
        let both = [open(POOL), open(POOL)].map(|one| one.join().expect("it runs"));
        let mut pids = std::collections::BTreeSet::new();
        for outcome in both {
            let outcome = outcome?;
            assert_eq!((outcome.code, &outcome.json["pool"]), (Some(0), &Value::from(POOL)), "{}", outcome.stdout);
            pids.insert(outcome.json["pid"].to_string());
        }
        assert_eq!(pids.len(), 1, "one process has the pool open");
        // And right after it is closed it can be opened.
        scene.ann.must(&["close"])?;
        scene.ann.must(&["open", POOL, "--detach"])?;
        scene.ann.must(&["close"])?;
    }
    // Of two pools one stays; whoever is told that it is open is told of the pool that was asked for.
    for (pool, one) in [POOL, "lagoon"].map(|pool| (pool, open(pool))) {
        let outcome = one.join().expect("it runs")?;
        match outcome.code {
            Some(0) => assert_eq!(outcome.json["pool"], pool),
            _ => assert_eq!(outcome.code, Some(5), "{}", outcome.stdout),
        }
    }
    let open = scene.ann.must(&["status"])?;
    assert!(open["pool"] == POOL || open["pool"] == "lagoon", "{open}");
    scene.ann.must(&["close"])?;
    Ok(())
}

#[test]
fn a_chat_gives_the_terminal_back_as_it_was() -> Result<()> {
    let scene = Scene::new()?;
    let program = rockpool_e2e::process::binary("rockpool")?;
    for leaves in ["by itself", "because the pool is closed"] {
        // `script` gives it a terminal.
        let chat = format!(
            "stty -a > before; {} --home {} open {POOL}; stty -a > after",
            program.display(),
            scene.ann.home.display()
        );
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &chat, "/dev/null"]).current_dir(scene.folder.path());
        let mut script = script.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        wait_until("the chat", DEADLINE, || scene.ann.run(&["status"]).ok().filter(|status| status.code == Some(0)))?;
        let mut stdin = script.stdin.take().context("standard input is piped")?;
        // Spoken by hand, so the line is being edited by then.
        let hello = format!("left {leaves}");
        std::io::Write::write_all(&mut stdin, format!("{hello}\r").as_bytes())?;
        wait_until("what was typed", DEADLINE, || texts(&scene.ann).ok()?.contains(&hello).then_some(()))?;
        match leaves {
            "by itself" => std::io::Write::write_all(&mut stdin, b"/quit\r")?,
            _ => drop(scene.ann.must(&["close"])?),
        }
        assert!(script.wait()?.success());
        let [before, after] = ["before", "after"].map(|name| std::fs::read_to_string(scene.folder.path().join(name)));
        assert_eq!(before?, after?, "it left {leaves}");
    }
    Ok(())
}

#[test]
fn paths_that_are_no_text_are_refused_with_a_sentence() -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let scene = Scene::new()?;
    let _at_ann = scene.ann.open(POOL)?;
    let folder = scene.folder.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("menu"), b"tea")?;
    let output = scene.ann.command(&["send"])?.arg(folder.join("menu")).output()?;
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("not UTF-8"));
    Ok(())
}

#[test]
fn invites_that_are_used_expired_or_invented_let_nobody_in() -> Result<()> {
    let scene = Scene::new()?;
    let eve = Device::new(scene.folder.path(), "eve-phone", &scene.cluster.address()?)?;
    eve.sign_up("eve", "Eve", PASSWORD)?;
    let join = |invite: &str| eve.run_with(&["pool", "join", "-"], invite);

    let used = scene.invite(&[])?;
    let cid = Device::new(scene.folder.path(), "cid-phone", &scene.cluster.address()?)?;
    cid.sign_up("cid", "Cid", PASSWORD)?;
    cid.must_with(&["pool", "join", "-"], &used)?;
    assert_refused(join(&used), 3, "not known, or has been used up");

    let invite = scene.ann.must(&["pool", "invite", POOL, "--ttl", "1s"])?;
    let expires_us = u128::from(invite["expires_at_us"].as_u64().context("an expiry")?);
    wait_until("its expiry", DEADLINE, || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        (now.as_micros() > expires_us).then_some(())
    })?;
    assert_refused(join(invite["invite"].as_str().context("an invite")?), 2, "This invite has expired");

    let good = scene.invite(&[])?;
    // The last characters are the secret's.
    let at = good.len() - 6;
    let other = if &good[at..=at] == "A" { "B" } else { "A" };
    let invented = format!("{}{other}{}", &good[..at], &good[at + 1..]);
    assert_refused(join(&invented), 3, "not known, or has been used up");
    assert_eq!(join("rockpool-invite:rubbish")?.code, Some(2));
    assert_eq!(eve.must(&["pool", "ls"])?.as_array().map(Vec::len), Some(0));
    eve.must_with(&["pool", "join", "-"], &good)?;
    Ok(())
}

#[test]
fn a_revoked_device_is_cut_within_a_second_and_what_was_copied_from_it_opens_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let (_at_ann, mut at_bob) = scene.open()?;
    let phone = Device::new(scene.folder.path(), "ann-phone", &scene.cluster.address()?)?;
    phone.log_in("ann", PASSWORD)?;
    let mut at_phone = phone.open(POOL)?;
    at_phone.wait_linked("bob-desktop")?;
    at_bob.wait_linked("ann-phone")?;
    // A thief copies everything that the phone knows.
    let thief = Device { home: scene.folder.path().join("thief"), ..phone.clone() };
    std::fs::create_dir(&thief.home)?;
    for name in ["device.key", "session.json", "server.json", "pools.json"] {
        std::fs::copy(phone.home.join(name), thief.home.join(name))?;
    }
    thief.must(&["whoami"])?;

    scene.ann.must(&["device", "revoke", "ann-phone"])?;
    let revoked = Instant::now();
    let closed = |event: &Value| event["event"] == "closed" && event["reason"] == "revoked";
    let (cut, _) = at_phone.wait_for("its end", DEADLINE, closed)?;
    assert!(cut.saturating_duration_since(revoked) < Duration::from_secs(1), "{:?}", cut - revoked);
    assert_eq!(at_phone.process.wait(DEADLINE)?.code(), Some(4));
    let unlinked = |event: &Value| event["event"] == "unlinked" && event["device"] == "ann-phone";
    at_bob.wait_for("the end of the link", DEADLINE, unlinked)?;

    assert_refused(thief.run(&["whoami"]), 4, "revoked");
    assert_refused(thief.run(&["open", POOL]), 4, "revoked");
    let words = ["login", "ann", "--device", "ann-phone", "--password-file", "-"];
    assert_refused(thief.run_with(&words, &format!("{PASSWORD}\n")), 4, "revoked");
    // The others go on.
    scene.ann.must(&["say", "the phone is gone"])?;
    at_bob.wait_message("the phone is gone")?;
    Ok(())
}

#[test]
fn a_session_that_was_ended_is_worth_nothing_to_whoever_copied_it() -> Result<()> {
    let scene = Scene::new()?;
    let thief = Device { home: scene.folder.path().join("thief"), ..scene.ann.clone() };
    std::fs::create_dir(&thief.home)?;
    for name in ["device.key", "session.json", "server.json"] {
        std::fs::copy(scene.ann.home.join(name), thief.home.join(name))?;
    }
    scene.ann.must(&["logout"])?;
    assert_refused(thief.run(&["whoami"]), 4, "session was ended");
    assert_refused(thief.run(&["pool", "ls"]), 4, "session was ended");
    Ok(())
}

#[test]
fn names_that_would_do_harm_and_links_out_of_the_folder_are_not_offered() -> Result<()> {
    let scene = Scene::new()?;
    let _at_ann = scene.ann.open(POOL)?;
    let folder = |names: &[&str]| -> Result<std::path::PathBuf> {
        let folder = tempfile::tempdir_in(scene.folder.path())?.keep();
        names.iter().try_for_each(|name| std::fs::write(folder.join(name), name))?;
        Ok(folder)
    };
    let refused = |names: &[&str], sentence: &str| -> Result<()> {
        assert_refused(scene.ann.run(&["send", text(&folder(names)?)?]), 2, sentence);
        Ok(())
    };
    refused(&["README", "readme"], "two names that are one on some systems")?;
    refused(&["a\u{202e}gpj.exe"], "changes the direction of text")?;
    refused(&["line\nfeed"], "a control character in a name")?;
    refused(&["..\\up"], "a separator in a name")?;
    refused(&["NUL.txt"], "a name that is a device on Windows")?;
    assert_eq!(scene.ann.must(&["offers"])?.as_array().map(Vec::len), Some(0));

    let links = folder(&["honest"])?;
    std::os::unix::fs::symlink("/etc/passwd", links.join("passwd"))?;
    let offered = scene.ann.run(&["send", text(&links)?])?;
    assert_eq!((offered.code, &offered.json["files"]), (Some(0), &Value::from(1)), "{}", offered.stdout);
    assert!(offered.stdout.contains("a symbolic link (links are not followed) is not offered"), "{}", offered.stdout);
    assert_refused(
        scene.ann.run(&["send", text(&links.join("passwd"))?]),
        2,
        "a symbolic link (links are not followed) cannot be offered",
    );
    Ok(())
}
