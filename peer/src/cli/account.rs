//! Accounts, devices, and the cluster.

use super::secret::PasswordArgs;
use super::{Context, print};
use crate::api::{ApiError, ErrorCode};
use crate::client::{Cluster, DeviceIdentity, ServerAddress, fetch_authority};
use crate::home::{DeviceSecret, LoginSession, Server};
use clap::{Args, Subcommand, ValueEnum};
use rockpool_peer_core::identity::DeviceKeys;
use rockpool_proto::meta::v1::{Device, DeviceType};
use serde_json::json;
use std::sync::Arc;

/// `signup`.
#[derive(Args, Debug)]
pub(super) struct SignupArgs {
    /// What you log in with
    name: String,
    /// What others see [default: NAME]
    #[arg(long, value_name = "NAME")]
    display: Option<String>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    password: PasswordArgs,
}

/// `login`.
#[derive(Args, Debug)]
pub(super) struct LoginArgs {
    /// What you log in with
    name: String,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    password: PasswordArgs,
}

#[derive(Args, Debug)]
struct DeviceArgs {
    /// What this device is called [default: the host's name]
    #[arg(id = "device_name", long = "device", value_name = "NAME")]
    name: Option<String>,
    /// What this device is
    #[arg(long = "device-type", value_enum, default_value = "desktop")]
    kind: DeviceKind,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DeviceKind {
    Desktop,
    Mobile,
    Server,
}

/// `device`.
#[derive(Subcommand, Debug)]
pub(super) enum DeviceCommand {
    /// List them
    Ls,
    /// Give one another name
    Rename {
        /// Its name, or its id or an unambiguous beginning of it
        device: String,
        /// The new name
        name: String,
    },
    /// Throw one out: its sessions end and it is cut off everywhere
    Revoke {
        /// Its name, or its id or an unambiguous beginning of it
        device: String,
    },
}

/// `server`.
#[derive(Subcommand, Debug)]
pub(super) enum ServerCommand {
    /// Use this cluster. The operator hands out the address
    Add {
        /// rockpool://HOST:7400/#FINGERPRINT
        address: String,
    },
    /// Which cluster is used, and whether it answers
    Show,
}

pub(super) async fn signup(context: &Context, args: SignupArgs) -> Result<(), ApiError> {
    let cluster = Cluster::new(&context.home)?;
    if let Some(session) = context.home.session()? {
        return Err(ApiError::new(
            ErrorCode::Denied,
            format!("{} is logged in here. Log out first, or give the new account another --home", session.login_name),
        ));
    }
    let password = args.password.read(true)?;
    let device = identity(&context.home.device_secret()?, args.device);
    let display = args.display.as_deref().unwrap_or(&args.name);
    let session = cluster.sign_up(&args.name, display, &password, &device).await?;
    welcome(context, &session);
    Ok(())
}

pub(super) async fn login(context: &Context, args: LoginArgs) -> Result<(), ApiError> {
    let cluster = Cluster::new(&context.home)?;
    let password = args.password.read(false)?;
    let device = identity(&context.home.device_secret()?, args.device);
    let session = cluster.login(&args.name, &password, &device).await?;
    welcome(context, &session);
    Ok(())
}

pub(super) async fn logout(context: &Context) -> Result<(), ApiError> {
    Cluster::new(&context.home)?.logout().await?;
    context.print(&json!({ "logged_out": true }), |_| {
        say!("Logged out. Keys and history stay in {}", context.home.root().display())
    });
    Ok(())
}

pub(super) async fn whoami(context: &Context) -> Result<(), ApiError> {
    let session = context.home.must_session()?;
    let reply = Cluster::new(&context.home)?.who_am_i().await?;
    let account = reply.account.unwrap_or_default();
    let device = reply.device.unwrap_or_default();
    let value = json!({
        "account_id": hex::encode(&account.account_id),
        "login_name": account.login_name,
        "display_name": account.display_name,
        "device_id": hex::encode(&device.device_id),
        "device": device.name,
    });
    context.print(&value, |_| {
        say!(
            "{} ({}) on {}",
            print::clean(&account.display_name),
            print::clean(&account.login_name),
            print::clean(&device.name)
        );
    });
    if device.name != session.device_name || account.display_name != session.display_name {
        context.home.save_session(&LoginSession {
            device_name: device.name,
            display_name: account.display_name,
            ..context.home.must_session()?
        })?;
    }
    Ok(())
}

pub(super) async fn device(context: &Context, command: DeviceCommand) -> Result<(), ApiError> {
    let cluster = Cluster::new(&context.home)?;
    match command {
        DeviceCommand::Ls => {
            let devices = cluster.devices().await?;
            let own = context.home.must_session()?.device_id;
            let value: Vec<_> = devices.iter().map(|device| device_json(device, &own)).collect();
            context.print(&value, |_| {
                for device in &devices {
                    let id = hex::encode(&device.device_id);
                    let state = match (device.revoked_at_us != 0, id == own) {
                        (true, _) => "  revoked",
                        (false, true) => "  this device",
                        (false, false) => "",
                    };
                    say!("{}  {}  {}{state}", &id[..12], print::clean(&device.name), device_type(device));
                }
            });
        }
        DeviceCommand::Rename { device, name } => {
            let devices = cluster.devices().await?;
            let device = find(&devices, &device)?;
            let renamed = cluster.rename_device(&device.device_id, &name).await?;
            let session = context.home.must_session()?;
            if session.device_id == hex::encode(&renamed.device_id) {
                context.home.save_session(&LoginSession { device_name: renamed.name.clone(), ..session.clone() })?;
            }
            context.print(&device_json(&renamed, &session.device_id), |_| {
                say!("It is called {} now", print::clean(&renamed.name))
            });
        }
        DeviceCommand::Revoke { device } => {
            let devices = cluster.devices().await?;
            let device = find(&devices, &device)?;
            let revoked = cluster.revoke_device(&device.device_id).await?;
            let own = context.home.must_session()?.device_id;
            context.print(&device_json(&revoked, &own), |_| say!("{} is thrown out", print::clean(&revoked.name)));
        }
    }
    Ok(())
}

pub(super) async fn server(context: &Context, command: ServerCommand) -> Result<(), ApiError> {
    match command {
        ServerCommand::Add { address } => {
            let address: ServerAddress = address.parse()?;
            let authority_pem = fetch_authority(&address).await?;
            if let Some(known) = context.home.server()?
                && known.fingerprint != address.fingerprint
                && let Some(session) = context.home.session()?
            {
                return Err(ApiError::new(
                    ErrorCode::Denied,
                    format!(
                        "{} is logged in on another cluster here. Log out first, or give this cluster another --home",
                        session.login_name
                    ),
                ));
            }
            context.home.save_server(&Server {
                addresses: vec![address.address.clone()],
                fingerprint: address.fingerprint.clone(),
                authority_pem,
                cluster_id: String::new(),
            })?;
        }
        ServerCommand::Show => {}
    }
    let described = Cluster::new(&context.home)?.describe().await?;
    let server = context.home.must_server()?;
    let value = json!({
        "cluster_id": server.cluster_id,
        "addresses": server.addresses,
        "fingerprint": server.fingerprint,
        "version": described.version,
    });
    context.print(&value, |_| {
        say!("cluster   {} (version {})", server.cluster_id, print::clean(&described.version));
        say!("nodes     {}", print::clean(&server.addresses.join(", ")));
    });
    Ok(())
}

fn welcome(context: &Context, session: &LoginSession) {
    let value = json!({
        "account_id": session.account_id,
        "login_name": session.login_name,
        "display_name": session.display_name,
        "device_id": session.device_id,
        "device": session.device_name,
    });
    context.print(&value, |_| {
        say!("Logged in as {} on {}.", print::clean(&session.login_name), print::clean(&session.device_name));
    });
}

fn identity(secret: &DeviceSecret, args: DeviceArgs) -> DeviceIdentity {
    let keys = Arc::new(DeviceKeys::from_secret(&secret.signing));
    let exchange_key = *x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(secret.exchange)).as_bytes();
    DeviceIdentity {
        name: args.name.unwrap_or_else(host_name),
        kind: match args.kind {
            DeviceKind::Desktop => DeviceType::Desktop,
            DeviceKind::Mobile => DeviceType::Mobile,
            DeviceKind::Server => DeviceType::Server,
        },
        signing_key: *keys.public().as_bytes(),
        exchange_key,
        prove: Arc::new(move |challenge| keys.registration_proof(challenge, &exchange_key).to_vec()),
    }
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "device".into() } else { name }
}

/// The device that a name or the beginning of an id means.
fn find<'a>(devices: &'a [Device], text: &str) -> Result<&'a Device, ApiError> {
    let live = || devices.iter().filter(|device| device.revoked_at_us == 0);
    let by_name: Vec<_> = live().filter(|device| device.name == text).collect();
    let found = if by_name.is_empty() {
        live().filter(|device| hex::encode(&device.device_id).starts_with(&text.to_ascii_lowercase())).collect()
    } else {
        by_name
    };
    match found[..] {
        [device] => Ok(device),
        [] => Err(ApiError::new(
            ErrorCode::NotFound,
            format!("no device of yours is called {text} or has an id that begins so"),
        )),
        _ => Err(ApiError::new(
            ErrorCode::Ambiguous,
            format!("{text} means several devices; give more of the id (rockpool device ls)"),
        )),
    }
}

fn device_json(device: &Device, own: &str) -> serde_json::Value {
    let id = hex::encode(&device.device_id);
    json!({
        "this_device": id == own,
        "device_id": id,
        "device": device.name,
        "type": device_type(device),
        "created_at_us": device.created_at_us,
        "last_seen_us": device.last_seen_us,
        "revoked": device.revoked_at_us != 0,
    })
}

fn device_type(device: &Device) -> &'static str {
    match device.r#type() {
        DeviceType::Desktop => "desktop",
        DeviceType::Mobile => "mobile",
        DeviceType::Browser => "browser",
        DeviceType::Server => "server",
        DeviceType::Unspecified => "unknown",
    }
}
