//! Who somebody is: signing up, logging in, refreshing, logging out.
//!
//! A login reads and counts in one transaction, hashes the password outside of any, and writes in a second one that looks
//! again at what may have changed in between. Of a wrong name and a wrong password nobody can tell which it was, neither
//! by the answer nor by its time.

use std::net::IpAddr;

use bytes::Bytes;
use rockpool_proto::AccountId;
use rockpool_proto::meta::v1::{self as wire, auth_server::Auth};
use tonic::{Request, Response, Status};

use super::model::{Account, Device, DeviceKind};
use super::secrets::DeviceProof;
use super::sessions::{self, Refreshed, SessionId, Tokens};
use super::throttle::{self, Subject};
use super::{Services, accounts, validate};
use crate::database::{Database, DbError, Refusal, RefusalKind};

#[tonic::async_trait]
impl Auth for Services {
    async fn challenge(
        &self,
        _request: Request<wire::ChallengeRequest>,
    ) -> Result<Response<wire::ChallengeReply>, Status> {
        let challenge = self.challenger().challenge(&**self.database().environment());
        Ok(Response::new(wire::ChallengeReply { challenge: challenge.into() }))
    }

    async fn sign_up(&self, request: Request<wire::SignUpRequest>) -> Result<Response<wire::LoginReply>, Status> {
        let address = request.remote_addr().map(|address| address.ip());
        let request = request.into_inner();
        let login = validate::login_name(&request.login_name).map_err(DbError::from)?;
        let shown = if request.display_name.trim().is_empty() { &login.name } else { &request.display_name };
        let display_name = validate::display_name("display name", shown).map_err(DbError::from)?;
        let password = validate::new_password(&request.password).map_err(DbError::from)?;
        let claim = self.check_claim(request.device).map_err(DbError::from)?;
        let environment = self.database().environment();
        self.sign_ups().take(environment.now_us(), address).map_err(DbError::from)?;
        let password = self.hasher().hash(&**environment, &password).await?;
        let account = AccountId(environment.random());
        let session = SessionId(environment.random());
        let tokens = Tokens::fresh(&**environment);
        let made = self.database().transaction(|tx| {
            accounts::insert_account(tx, account, &login, &display_name, &password)?;
            let (device, _) = accounts::admit_device(tx, account, &claim.proof, &claim.name, claim.kind)?;
            sessions::begin(tx, session, account, device.id, &tokens)?;
            Ok((accounts::account(tx, account)?, device))
        });
        let (account, device) = made.await?;
        Ok(Response::new(login_reply(account, device, &tokens)))
    }

    async fn login(&self, request: Request<wire::LoginRequest>) -> Result<Response<wire::LoginReply>, Status> {
        let address = request.remote_addr().map(|address| address.ip());
        let request = request.into_inner();
        let login = validate::login_name(&request.login_name).map_err(DbError::from)?;
        let password = validate::password(&request.password).map_err(DbError::from)?;
        let claim = self.check_claim(request.device).map_err(DbError::from)?;

        let counted = self.database().transaction(|tx| {
            let found = accounts::account_to_log_in(tx, &login)?;
            let subjects = subjects(tx, &login, found.as_ref().map(|(id, _)| *id), &claim.proof, address)?;
            throttle::begin_try(tx, &subjects)?;
            Ok((found, subjects))
        });
        let (found, subjects) = counted.await?;
        let hash = found.as_ref().map(|(_, hash)| hash);
        let right = self.hasher().verify(&password, hash).await?;
        let Some((account, checked)) = found.filter(|_| right) else {
            let text =
                "The login name or the password is wrong. Check both; after several wrong tries you will have to wait.";
            return Err(Refusal::new(RefusalKind::Unauthenticated, text).into());
        };

        let environment = self.database().environment();
        let session = SessionId(environment.random());
        let tokens = Tokens::fresh(&**environment);
        let begun = self.database().transaction(|tx| {
            let now = accounts::account_to_log_in(tx, &login)?;
            if now.is_none_or(|(id, hash)| id != account || hash != checked) {
                let text = "The password was changed while you logged in. Try again with the new one.";
                return Err(Refusal::new(RefusalKind::Unauthenticated, text).into());
            }
            throttle::forgive(tx, &subjects)?;
            let (device, news) = accounts::admit_device(tx, account, &claim.proof, &claim.name, claim.kind)?;
            let withdrawn = sessions::begin(tx, session, account, device.id, &tokens)?;
            Ok((accounts::account(tx, account)?, device, withdrawn, news))
        });
        let (account, device, withdrawn, news) = begun.await?;
        self.rooms().evict_withdrawn(withdrawn, crate::rooms::EndReason::Expired);
        self.rooms().refresh(news);
        Ok(Response::new(login_reply(account, device, &tokens)))
    }

    async fn refresh(&self, request: Request<wire::RefreshRequest>) -> Result<Response<wire::SessionTokens>, Status> {
        let token = request.into_inner().refresh_token;
        let next = Tokens::fresh(&**self.database().environment());
        match self.database().transaction(|tx| sessions::refresh(tx, &token, &next)).await? {
            Refreshed::Continued => Ok(Response::new(session_tokens(&next))),
            Refreshed::Replayed(withdrawn) => {
                self.rooms().evict_withdrawn(withdrawn, crate::rooms::EndReason::Expired);
                let text = "This refresh token was used before, so somebody else may have it. \
                            Every session that came from it was ended. Log in again.";
                Err(Refusal::new(RefusalKind::Unauthenticated, text).into())
            }
        }
    }

    async fn logout(&self, request: Request<wire::LogoutRequest>) -> Result<Response<wire::LogoutReply>, Status> {
        let caller = self.caller(request.metadata()).await?;
        let ended = self.database().transaction(|tx| sessions::end(tx, caller.session, "logged out"));
        let withdrawn = ended.await?;
        self.rooms().evict_withdrawn(withdrawn, crate::rooms::EndReason::Expired);
        Ok(Response::new(wire::LogoutReply {}))
    }

    async fn who_am_i(&self, request: Request<wire::WhoAmIRequest>) -> Result<Response<wire::WhoAmIReply>, Status> {
        let caller = self.caller(request.metadata()).await?;
        let read = self.database().transaction(|tx| {
            Ok((accounts::account(tx, caller.account)?, accounts::own_device(tx, caller.account, caller.device)?))
        });
        let (account, device) = read.await?;
        Ok(Response::new(wire::WhoAmIReply { account: Some(account.into()), device: Some(device.into()) }))
    }
}

/// What a device says of itself, checked.
struct Claim {
    proof: DeviceProof,
    name: String,
    kind: DeviceKind,
}

impl Services {
    fn check_claim(&self, claim: Option<wire::DeviceClaim>) -> Result<Claim, Refusal> {
        let claim = claim.ok_or_else(|| {
            Refusal::new(RefusalKind::Invalid, "The device is missing. Send its name, keys, challenge and proof.")
        })?;
        let kind = claim.r#type().into();
        let name = validate::display_name("device's name", &claim.name)?;
        let signing_key = validate::bytes("device's signing key", &claim.signing_key)?;
        let exchange_key = validate::bytes("device's exchange key", &claim.exchange_key)?;
        let now_us = self.database().environment().now_us();
        let proof = self.challenger().verify(now_us, &claim.challenge, signing_key, exchange_key, &claim.proof)?;
        Ok(Claim { proof, name, kind })
    }
}

/// Whose counters a try moves.
fn subjects(
    tx: &mut crate::database::Tx<'_>,
    login: &validate::LoginName,
    account: Option<AccountId>,
    proof: &DeviceProof,
    address: Option<IpAddr>,
) -> Result<Vec<Subject>, DbError> {
    let device = accounts::device(tx, proof.id)?;
    let known = device.is_some_and(|device| Some(device.account) == account && device.revoked_at_us.is_none());
    Ok(if known {
        vec![Subject::Device(proof.id)]
    } else {
        vec![Subject::Account(login.key.clone()), Subject::Address(address)]
    })
}

fn session_tokens(tokens: &Tokens) -> wire::SessionTokens {
    wire::SessionTokens {
        access_token: Bytes::copy_from_slice(&tokens.access),
        refresh_token: Bytes::copy_from_slice(&tokens.refresh),
        access_expires_at_us: tokens.access_expires_us,
        refresh_expires_at_us: tokens.refresh_expires_us,
    }
}

fn login_reply(account: Account, device: Device, tokens: &Tokens) -> wire::LoginReply {
    wire::LoginReply {
        account: Some(account.into()),
        device: Some(device.into()),
        tokens: Some(session_tokens(tokens)),
    }
}

/// A secret that the whole cluster shares, for challenges that any node may check.
pub(super) const CHALLENGE_SECRET: &str = "auth.challenge_secret";

/// The challenger under the cluster's secret.
pub(super) async fn challenger(database: &Database) -> Result<super::secrets::Challenger, DbError> {
    let secret = super::schema::cluster_secret(database, CHALLENGE_SECRET).await?;
    Ok(super::secrets::Challenger::new(secret))
}
