//! Signing up, logging in, tokens, and guessing.

use std::time::{Duration, Instant};

use rockpool_proto::limits::SIGN_UPS_PER_HOUR_MAX;
use rockpool_proto::meta::v1 as wire;
use tonic::Code;

use super::support::{Cluster, PASSWORD, TestDevice, bearer};

const MINUTE_US: i64 = 60 * 1_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_made_used_and_left() {
    let (_cluster, node) = Cluster::single().await;
    let ann = node.sign_up("Ann").await;
    assert_eq!(ann.account.login_name, "Ann");
    let expected = blake3::derive_key("rockpool 2026 device id v1", &ann.device.signing_key);
    assert_eq!(ann.device.device_id, expected[..16]);

    let who = node.auth().who_am_i(ann.asks(wire::WhoAmIRequest {})).await.unwrap().into_inner();
    assert_eq!(
        (who.account.unwrap(), who.device.unwrap().device_id),
        (ann.account.clone(), ann.device.device_id.clone())
    );

    // The name belongs to one account whatever its case, and logging in does not care either.
    let taken = wire::SignUpRequest {
        login_name: "aNN".into(),
        password: PASSWORD.into(),
        device: Some(TestDevice::new("another").claim(&node).await),
        ..Default::default()
    };
    assert_eq!(node.auth().sign_up(taken).await.unwrap_err().code(), Code::AlreadyExists);
    let phone = node.login("ANN", PASSWORD, &TestDevice::new("phone")).await.unwrap();
    assert_eq!(phone.account, ann.account);
    assert_ne!(phone.device.device_id, ann.device.device_id);

    node.auth().logout(ann.asks(wire::LogoutRequest {})).await.unwrap();
    let gone = node.auth().who_am_i(ann.asks(wire::WhoAmIRequest {})).await.unwrap_err();
    assert_eq!(gone.code(), Code::Unauthenticated, "{gone}");
    let refresh = wire::RefreshRequest { refresh_token: ann.tokens.refresh_token.clone() };
    assert_eq!(node.auth().refresh(refresh).await.unwrap_err().code(), Code::Unauthenticated);
    assert!(node.auth().who_am_i(phone.asks(wire::WhoAmIRequest {})).await.is_ok(), "other sessions go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_used_twice_ends_every_session_of_its_family() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    let ann = one.sign_up("ann").await;
    let first = wire::RefreshRequest { refresh_token: ann.tokens.refresh_token.clone() };
    let second = two.auth().refresh(first.clone()).await.unwrap().into_inner();
    assert_ne!(second.access_token, ann.tokens.access_token);
    assert!(one.auth().who_am_i(bearer(&second.access_token, wire::WhoAmIRequest {})).await.is_ok());
    let old = one.auth().who_am_i(ann.asks(wire::WhoAmIRequest {})).await.unwrap_err();
    assert_eq!(old.code(), Code::Unauthenticated, "the old access token went with the old pair");

    assert_eq!(one.auth().refresh(first).await.unwrap_err().code(), Code::Unauthenticated);
    for node in [&one, &two] {
        let dead = node.auth().who_am_i(bearer(&second.access_token, wire::WhoAmIRequest {})).await.unwrap_err();
        assert_eq!(dead.code(), Code::Unauthenticated);
        let refresh = wire::RefreshRequest { refresh_token: second.refresh_token.clone() };
        assert_eq!(node.auth().refresh(refresh).await.unwrap_err().code(), Code::Unauthenticated);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_whose_answer_was_lost_can_be_repeated_until_its_tokens_are_used() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    let ann = one.sign_up("ann").await;
    let first = wire::RefreshRequest { refresh_token: ann.tokens.refresh_token.clone() };
    let lost = one.auth().refresh(first.clone()).await.unwrap().into_inner();
    let lost_again = two.auth().refresh(first.clone()).await.unwrap().into_inner();
    let arrived = one.auth().refresh(first.clone()).await.unwrap().into_inner();
    for tokens in [&ann.tokens, &lost, &lost_again] {
        let dead = one.auth().who_am_i(bearer(&tokens.access_token, wire::WhoAmIRequest {})).await.unwrap_err();
        assert_eq!(dead.code(), Code::Unauthenticated, "one pair is good at a time");
    }
    assert!(two.auth().who_am_i(bearer(&arrived.access_token, wire::WhoAmIRequest {})).await.is_ok());

    // Now somebody holds the successor, so whoever shows the first one again is somebody else.
    assert_eq!(one.auth().refresh(first).await.unwrap_err().code(), Code::Unauthenticated);
    let dead = two.auth().who_am_i(bearer(&arrived.access_token, wire::WhoAmIRequest {})).await.unwrap_err();
    assert_eq!(dead.code(), Code::Unauthenticated);
    let last = wire::RefreshRequest { refresh_token: arrived.refresh_token };
    assert_eq!(two.auth().refresh(last).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thief_who_takes_the_answer_of_a_refresh_is_noticed() {
    let (_cluster, node) = Cluster::single().await;
    let refresh = async |token: &[u8]| {
        let request = wire::RefreshRequest { refresh_token: token.to_vec().into() };
        node.auth().refresh(request).await.map(tonic::Response::into_inner)
    };
    // The thief's pair was not used before the device asked again: it is worthless, and showing it ends everything.
    let ann = node.sign_up("ann").await;
    let stolen = refresh(&ann.tokens.refresh_token).await.unwrap();
    let own = refresh(&ann.tokens.refresh_token).await.unwrap();
    assert_eq!(refresh(&stolen.refresh_token).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(refresh(&own.refresh_token).await.unwrap_err().code(), Code::Unauthenticated);

    // Trading the successor in counts as use, too.
    let bob = node.sign_up("bob").await;
    let stolen = refresh(&bob.tokens.refresh_token).await.unwrap();
    let stolen = refresh(&stolen.refresh_token).await.unwrap();
    assert_eq!(refresh(&bob.tokens.refresh_token).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(refresh(&stolen.refresh_token).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_makes_so_many_accounts_and_has_to_wait_for_more() {
    let (cluster, node) = Cluster::single().await;
    let device = Some(TestDevice::new("laptop").claim(&node).await);
    let request = |number: usize| wire::SignUpRequest {
        login_name: "taken".into(),
        display_name: format!("number {number}"),
        password: PASSWORD.into(),
        device: device.clone(),
    };
    let ann = node.sign_up("taken").await;
    let tries = (1..SIGN_UPS_PER_HOUR_MAX as usize).map(|number| {
        let (mut auth, request) = (node.auth(), request(number));
        async move { auth.sign_up(request).await.unwrap_err().code() }
    });
    let codes = futures::future::join_all(tries).await;
    assert!(codes.iter().all(|code| *code == Code::AlreadyExists), "{codes:?}");
    let slowed = node.auth().sign_up(request(0)).await.unwrap_err();
    assert_eq!(slowed.code(), Code::ResourceExhausted, "{slowed}");
    let wait_ms: u64 = slowed.metadata().get("retry-after-ms").unwrap().to_str().unwrap().parse().unwrap();
    assert!((60_000..=120_000).contains(&wait_ms), "{wait_ms}");
    node.login("taken", PASSWORD, &ann.keys).await.expect("who has an account is not slowed");
    cluster.clock.shift_by_us(2 * MINUTE_US);
    node.sign_up("ben").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_from_the_same_address_does_not_lock_out_a_device_that_is_known() {
    let (_cluster, node) = Cluster::single().await;
    let ann = node.sign_up("ann").await;
    let thief = TestDevice::new("thief");
    let mut guesses = 0;
    let slowed = loop {
        guesses += 1;
        let refused = node.login(&format!("name {guesses}").replace(' ', "-"), PASSWORD, &thief).await.err().unwrap();
        if refused.code() == Code::ResourceExhausted {
            break refused;
        }
        assert!(guesses < 30, "the address is never slowed");
    };
    assert!(slowed.message().contains("a device that logged in before is not slowed"), "{slowed}");
    node.login("ann", PASSWORD, &ann.keys).await.expect("a device that logged in before is not slowed");
    let stranger = node.login("ann", PASSWORD, &TestDevice::new("new")).await.err().unwrap();
    assert_eq!(stranger.code(), Code::ResourceExhausted, "a new device at that address has to wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn login_names_that_look_alike_are_one() {
    let (_cluster, node) = Cluster::single().await;
    node.sign_up("Mu\u{308}ller").await;
    for same in ["MÜLLER", "müller", "ｍüｌｌｅｒ"] {
        node.login(same, PASSWORD, &TestDevice::new(same)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_expire_and_invented_ones_open_nothing() {
    let (cluster, node) = Cluster::single().await;
    let ann = node.sign_up("ann").await;
    cluster.clock.shift_by_us(16 * MINUTE_US);
    let expired = node.auth().who_am_i(ann.asks(wire::WhoAmIRequest {})).await.unwrap_err();
    assert_eq!(expired.code(), Code::Unauthenticated);
    let refresh = wire::RefreshRequest { refresh_token: ann.tokens.refresh_token.clone() };
    let fresh = node.auth().refresh(refresh).await.unwrap().into_inner();
    assert!(node.auth().who_am_i(bearer(&fresh.access_token, wire::WhoAmIRequest {})).await.is_ok());
    cluster.clock.shift_by_us(31 * 24 * 60 * MINUTE_US);
    let refresh = wire::RefreshRequest { refresh_token: fresh.refresh_token };
    assert_eq!(node.auth().refresh(refresh).await.unwrap_err().code(), Code::Unauthenticated);

    for invented in [&[0u8; 32][..], &[1; 31], b""] {
        let refused = node.auth().who_am_i(bearer(invented, wire::WhoAmIRequest {})).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        let refresh = wire::RefreshRequest { refresh_token: invented.to_vec().into() };
        assert_eq!(node.auth().refresh(refresh).await.unwrap_err().code(), Code::Unauthenticated);
    }
    let without = node.auth().who_am_i(wire::WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(without.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_hold_neither_passwords_nor_tokens() {
    let (cluster, node) = Cluster::single().await;
    let ann = node.sign_up("ann").await;
    let stored = cluster.stored_bytes().await;
    let holds = |secret: &[u8]| stored.iter().any(|bytes| bytes.windows(secret.len()).any(|window| window == secret));
    assert!(holds(b"ann"), "the search finds what is stored");
    assert!(!holds(PASSWORD.as_bytes()));
    assert!(!holds(&ann.tokens.access_token) && !holds(&ann.tokens.refresh_token));
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_slowed_on_every_node_but_not_for_a_device_that_is_known() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    let ann = one.sign_up("ann").await;
    let thief = TestDevice::new("thief");
    for _ in 0..5 {
        let wrong = one.login("ann", "not the password", &thief).await.err().unwrap();
        assert_eq!(wrong.code(), Code::Unauthenticated, "{wrong}");
    }
    let delay = async || {
        let sql = "SELECT last_failure_at, blocked_until FROM meta.login_attempts WHERE subject = 'account:ann'";
        let row = one.database.transaction(|tx| tx.query_one(sql, &[])).await.unwrap();
        row.time_us(1).unwrap() - row.time_us(0).unwrap()
    };
    assert_eq!(delay().await, 1_000_000);
    cluster.clock.shift_by_us(-MINUTE_US / 3); // or the wait would be over before a busy machine has asked
    for node in [&one, &two] {
        let slowed = node.login("Ann", PASSWORD, &thief).await.err().unwrap();
        assert_eq!(slowed.code(), Code::ResourceExhausted, "even the right password has to wait: {slowed}");
        let wait_ms: u64 = slowed.metadata().get("retry-after-ms").unwrap().to_str().unwrap().parse().unwrap();
        assert!((1..=21_000).contains(&wait_ms), "{wait_ms}");
    }
    let again = two.login("ann", PASSWORD, &ann.keys).await.unwrap();
    assert_eq!(again.device.device_id, ann.device.device_id, "its owner is not locked out");

    cluster.clock.shift_by_us(22_000_000);
    let wrong = two.login("ann", "still not the password", &thief).await.err().unwrap();
    assert_eq!(wrong.code(), Code::Unauthenticated);
    assert_eq!(delay().await, 2_000_000, "delays grow");

    cluster.clock.shift_by_us(MINUTE_US);
    one.login("ann", PASSWORD, &thief).await.expect("the right password after the wait");
    one.login("ann", PASSWORD, &TestDevice::new("next")).await.expect("a right password clears the account's counter");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_guesses_at_once_are_counted_like_one_by_one() {
    let (_cluster, node) = Cluster::single().await;
    node.sign_up("ann").await;
    let thief = TestDevice::new("thief");
    let claim = thief.claim(&node).await;
    let guesses = (0..40).map(|n| {
        let (mut auth, device) = (node.auth(), Some(claim.clone()));
        async move {
            let request =
                wire::LoginRequest { login_name: "ann".into(), password: format!("guess number {n}"), device };
            auth.login(request).await.unwrap_err().code()
        }
    });
    let codes = futures::future::join_all(guesses).await;
    let tried = codes.iter().filter(|code| **code == Code::Unauthenticated).count();
    assert!((1..=5).contains(&tried), "{tried} of {} guesses were let through", codes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_nobody_has_is_answered_like_a_wrong_password() {
    let (_cluster, node) = Cluster::single().await;
    node.sign_up("ann").await;
    let device = TestDevice::new("thief");
    let mut answers = Vec::new();
    for name in ["ann", "nobody", "ann", "nobody"] {
        let began = Instant::now();
        let status = node.login(name, "not the password", &device).await.err().unwrap();
        answers.push((status.code(), status.message().to_owned()));
        assert!(began.elapsed() > Duration::from_millis(2), "{name}: no password is hashed in no time");
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_and_names_that_are_not_sound_are_refused_with_a_reason() {
    let (cluster, node) = Cluster::single().await;
    let device = TestDevice::new("laptop");
    let good = wire::SignUpRequest {
        login_name: "ann".into(),
        display_name: "Ann".into(),
        password: PASSWORD.into(),
        device: Some(device.claim(&node).await),
    };
    let spoil = |change: &dyn Fn(&mut wire::SignUpRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let bad = [
        spoil(&|request| request.login_name = "two words".into()),
        spoil(&|request| request.login_name = "x".repeat(51)),
        spoil(&|request| request.display_name = "evil\u{202e}txt".into()),
        spoil(&|request| request.password = "short".into()),
        spoil(&|request| request.password = "x".repeat(1025)),
        spoil(&|request| request.device = None),
        spoil(&|request| request.device.as_mut().unwrap().name = "\u{7}".into()),
        spoil(&|request| request.device.as_mut().unwrap().proof = vec![0; 64].into()),
        spoil(&|request| request.device.as_mut().unwrap().exchange_key = vec![9; 32].into()),
        spoil(&|request| request.device.as_mut().unwrap().signing_key = vec![0; 32].into()),
        spoil(&|request| request.device.as_mut().unwrap().signing_key = vec![1; 7].into()),
        spoil(&|request| request.device.as_mut().unwrap().challenge = vec![0; 56].into()),
    ];
    for request in bad {
        let refused = node.auth().sign_up(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().len() > 20, "{refused} says what to do");
    }
    cluster.clock.shift_by_us(3 * MINUTE_US);
    assert_eq!(node.auth().sign_up(good).await.unwrap_err().code(), Code::InvalidArgument, "the challenge is too old");
}
