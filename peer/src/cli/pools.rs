//! Pools: making, listing, inviting, joining, leaving.

use super::{Context, print, secret};
use crate::api::{ApiError, ErrorCode};
use crate::client::Cluster;
use crate::home::{Home, KnownPool};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Subcommand;
use rockpool_proto::meta::v1::{Pool, Role};
use serde_json::json;
use std::time::Duration;

/// What an invite begins with when people pass it on.
const INVITE_PREFIX: &str = "rockpool-invite:";

/// `pool`.
#[derive(Subcommand, Debug)]
pub(super) enum PoolCommand {
    /// Make a pool
    Create {
        /// What it is called
        name: String,
    },
    /// List the pools you belong to
    Ls,
    /// Make an invite. Whoever has it can join, as often as it has uses
    Invite {
        /// The pool's name, or its id or an unambiguous beginning of it
        pool: String,
        /// How many people may use it
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
        /// How long it lasts: 90s, 15m, 12h, 7d; at most 30d
        #[arg(long, default_value = "1d", value_parser = duration)]
        ttl: Duration,
    },
    /// Join a pool
    Join {
        /// rockpool-invite:..., or "-" to read it from standard input
        invite: String,
    },
    /// Leave a pool for good
    Leave {
        /// The pool's name, or its id or an unambiguous beginning of it
        pool: String,
    },
}

pub(super) async fn run(context: &Context, command: PoolCommand) -> Result<(), ApiError> {
    let cluster = Cluster::new(&context.home)?;
    match command {
        PoolCommand::Create { name } => {
            let pool = known(&cluster.create_pool(&name).await?);
            remember(&context.home, pool.clone());
            context.print(&pool, |pool| say!("Made {} ({})", print::clean(&pool.name), pool.pool_id));
        }
        PoolCommand::Ls => {
            let (pools, fresh) = match cluster.pools().await {
                Ok(pools) => {
                    let pools: Vec<KnownPool> = pools.iter().map(known).collect();
                    keep(&context.home, &pools);
                    (pools, true)
                }
                Err(error) if error.code == ErrorCode::Unavailable => (context.home.known_pools()?, false),
                Err(error) => return Err(error),
            };
            context.print(&pools, |pools| {
                for pool in pools {
                    let members = print::plural(pool.members as usize, "member", "members");
                    say!(
                        "{}  {}  {}, {} {members}",
                        &pool.pool_id[..12],
                        print::clean(&pool.name),
                        pool.role,
                        pool.members
                    );
                }
            });
            if !fresh {
                note!("(the cluster is out of reach: this is the list as last seen)");
            }
        }
        PoolCommand::Invite { pool, uses, ttl } => {
            let pool = find(context, &cluster, &pool).await?;
            let reply = cluster.invite(&id_bytes(&pool)?, uses, ttl).await?;
            let invite = format!("{INVITE_PREFIX}{}", URL_SAFE_NO_PAD.encode(&reply.invite));
            let value = json!({ "invite": invite, "uses": reply.uses, "expires_at_us": reply.expires_at_us });
            context.print(&value, |_| say!("{invite}"));
        }
        PoolCommand::Join { invite } => {
            let text =
                if invite == "-" { secret::first_line(std::io::stdin(), "standard input")? } else { invite.into() };
            let pool = known(&cluster.join(&parse_invite(&text)?).await?);
            remember(&context.home, pool.clone());
            context.print(&pool, |pool| {
                say!(
                    "You belong to {} now. Open it with: rockpool open {}",
                    print::clean(&pool.name),
                    &pool.pool_id[..12]
                )
            });
        }
        PoolCommand::Leave { pool } => {
            let pool = find(context, &cluster, &pool).await?;
            cluster.leave(&id_bytes(&pool)?).await?;
            let known = context.home.known_pools().unwrap_or_default();
            let left: Vec<_> = known.into_iter().filter(|known| known.pool_id != pool.pool_id).collect();
            keep(&context.home, &left);
            context.print(&pool, |pool| say!("You left {}", print::clean(&pool.name)));
        }
    }
    Ok(())
}

/// The pool that a name or the beginning of an id means: asked of the cluster, or of the last list when it is out of reach.
pub(super) async fn find(context: &Context, cluster: &Cluster, text: &str) -> Result<KnownPool, ApiError> {
    let pools: Vec<KnownPool> = match cluster.pools().await {
        Ok(pools) => {
            let pools: Vec<_> = pools.iter().map(known).collect();
            keep(&context.home, &pools);
            pools
        }
        Err(error) if error.code == ErrorCode::Unavailable => context.home.known_pools()?,
        Err(error) => return Err(error),
    };
    let by_name: Vec<_> = pools.iter().filter(|pool| pool.name == text).collect();
    let found = if by_name.is_empty() {
        pools.iter().filter(|pool| !text.is_empty() && pool.pool_id.starts_with(&text.to_ascii_lowercase())).collect()
    } else {
        by_name
    };
    match found[..] {
        [pool] => Ok(pool.clone()),
        [] => Err(ApiError::new(
            ErrorCode::NotFound,
            format!("no pool of yours is called {text} (see: rockpool pool ls)"),
        )),
        _ => Err(ApiError::new(
            ErrorCode::Ambiguous,
            format!("{text} means several pools; give more of the id (rockpool pool ls)"),
        )),
    }
}

/// The bytes of a pool's id.
pub(super) fn id_bytes(pool: &KnownPool) -> Result<[u8; 16], ApiError> {
    hex::decode(&pool.pool_id).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        ApiError::new(ErrorCode::Internal, format!("{} is not a pool's id", print::clean(&pool.pool_id)))
    })
}

fn remember(home: &Home, pool: KnownPool) {
    let mut pools = home.known_pools().unwrap_or_default();
    pools.retain(|known| known.pool_id != pool.pool_id);
    pools.push(pool);
    keep(home, &pools);
}

/// Keeps the list for when the cluster is away. That it cannot be kept undoes nothing of what was asked for.
fn keep(home: &Home, pools: &[KnownPool]) {
    if home.known_pools().is_ok_and(|known| known == pools) {
        return;
    }
    if let Err(error) = home.save_known_pools(pools) {
        note!("(the list of pools is not kept for when the cluster is away: {})", print::clean(&error.message));
    }
}

fn known(pool: &Pool) -> KnownPool {
    KnownPool {
        pool_id: hex::encode(&pool.pool_id),
        name: pool.name.clone(),
        role: match pool.my_role() {
            Role::Owner => "owner",
            Role::Admin => "admin",
            Role::Member | Role::Unspecified => "member",
        }
        .into(),
        members: pool.member_count,
    }
}

fn parse_invite(text: &str) -> Result<Vec<u8>, ApiError> {
    let code = text.trim();
    let code = code.strip_prefix(INVITE_PREFIX).unwrap_or(code);
    URL_SAFE_NO_PAD.decode(code).ok().filter(|bytes| bytes.len() == 32).ok_or_else(|| {
        ApiError::new(
            ErrorCode::Invalid,
            format!("that is not an invite: one is {INVITE_PREFIX} and 43 letters and digits. Was it copied whole?"),
        )
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| "it begins with a number, such as 12h".to_string())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err("its unit is s, m, h or d, such as 12h".into()),
    };
    match number.checked_mul(seconds) {
        Some(1..) => Ok(Duration::from_secs(number * seconds)),
        _ => Err("it is longer than nothing and shorter than for ever".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invites_are_read_with_and_without_their_prefix() {
        let code = URL_SAFE_NO_PAD.encode([7u8; 32]);
        assert_eq!(parse_invite(&format!("{INVITE_PREFIX}{code}\n")).unwrap(), [7; 32]);
        assert_eq!(parse_invite(&code).unwrap(), [7; 32]);
        for bad in ["", "rockpool-invite:", &code[1..], "rockpool-invite:***"] {
            assert_eq!(parse_invite(bad).unwrap_err().code, ErrorCode::Invalid, "{bad}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        for bad in ["", "7", "d", "0s", "1w", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
