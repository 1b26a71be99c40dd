//! Every statement of the services finds its rows by a key.
//!
//! A statement that reads a whole table is slow, and worse: in a serializable transaction it conflicts with every change of
//! that table.

use rockpool_proto::meta::v1 as wire;
use rockpool_sql::{SessionInfo, Value};

use super::support::{Cluster, PASSWORD, TestDevice, bearer};

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_of_the_services_reads_a_whole_table() {
    let (_cluster, node) = Cluster::single().await;
    let (ann, bob) = (node.sign_up("ann").await, node.sign_up("bob").await);
    let pool = node.pool(&ann, &[&bob]).await;
    let mut stream = ann.open(&node, &pool).await.unwrap();
    let _other = ann.open(&node, &node.pool(&ann, &[]).await).await.unwrap();
    assert_eq!(stream.until_ended().await, wire::ended::Reason::Fenced);
    let phone = node.login("ann", PASSWORD, &TestDevice::new("phone")).await.unwrap();
    let refresh = wire::RefreshRequest { refresh_token: ann.tokens.refresh_token.clone() };
    let lost = node.auth().refresh(refresh.clone()).await.unwrap().into_inner();
    let arrived = node.auth().refresh(refresh).await.unwrap().into_inner();
    let who = bearer(&arrived.access_token, wire::WhoAmIRequest {});
    node.auth().who_am_i(who).await.unwrap();
    let replayed = wire::RefreshRequest { refresh_token: lost.refresh_token };
    node.auth().refresh(replayed).await.unwrap_err();
    node.pools().list(phone.asks(wire::ListPoolsRequest {})).await.unwrap();
    node.devices().list(phone.asks(wire::ListDevicesRequest {})).await.unwrap();
    node.pools().leave(bob.asks(wire::LeaveRequest { pool_id: pool.clone().into() })).await.unwrap();
    node.pools().leave(phone.asks(wire::LeaveRequest { pool_id: pool.into() })).await.unwrap();
    let revoke = wire::RevokeDeviceRequest { device_id: ann.device.device_id.clone() };
    node.devices().revoke(phone.asks(revoke)).await.unwrap();
    node.auth().logout(phone.asks(wire::LogoutRequest {})).await.unwrap();

    let mut store = node.database.begin().await.unwrap();
    let session = SessionInfo::new("root", "rockpool");
    let statements = node.database.statements();
    assert!(statements.len() > 40, "{}", statements.len());
    let control = "SELECT login_name FROM meta.accounts";
    for sql in statements.into_iter().chain([control]) {
        let parsed = rockpool_sql::parse(&format!("EXPLAIN {sql}")).unwrap();
        let plan = rockpool_sql::prepare(&parsed[0], &*store, &session, node.database.caches(), &[]).unwrap();
        let params = vec![Value::Null; plan.params().len()];
        let mut rows: Vec<rockpool_sql::Row> = Vec::new();
        rockpool_sql::execute(&plan, &params, &mut *store, &session, &mut rows).unwrap();
        let text: Vec<String> = rows.iter().map(|row| format!("{:?}", row[0])).collect();
        let whole = text.iter().any(|line| line.contains("Full Scan"));
        assert_eq!(whole, sql == control, "{sql}\n{}", text.join("\n"));
    }
}
