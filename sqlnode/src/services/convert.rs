//! The one place of the services where generated types are made and read.

use bytes::Bytes;
use rockpool_proto::meta::v1 as wire;

use super::model::{Account, Device, DeviceKind, Member, Pool, Role};

/// An identifier as it travels.
pub fn id(bytes: &[u8; 16]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

impl From<Account> for wire::Account {
    fn from(account: Account) -> Self {
        Self {
            account_id: id(account.id.as_bytes()),
            login_name: account.login_name,
            display_name: account.display_name,
        }
    }
}

impl From<wire::DeviceType> for DeviceKind {
    fn from(kind: wire::DeviceType) -> Self {
        match kind {
            wire::DeviceType::Unspecified => Self::Unspecified,
            wire::DeviceType::Desktop => Self::Desktop,
            wire::DeviceType::Mobile => Self::Mobile,
            wire::DeviceType::Browser => Self::Browser,
            wire::DeviceType::Server => Self::Server,
        }
    }
}

impl From<DeviceKind> for wire::DeviceType {
    fn from(kind: DeviceKind) -> Self {
        match kind {
            DeviceKind::Unspecified => Self::Unspecified,
            DeviceKind::Desktop => Self::Desktop,
            DeviceKind::Mobile => Self::Mobile,
            DeviceKind::Browser => Self::Browser,
            DeviceKind::Server => Self::Server,
        }
    }
}

impl From<Device> for wire::Device {
    fn from(device: Device) -> Self {
        Self {
            device_id: id(device.id.as_bytes()),
            account_id: id(device.account.as_bytes()),
            name: device.name,
            r#type: wire::DeviceType::from(device.kind).into(),
            signing_key: Bytes::copy_from_slice(&device.signing_key),
            exchange_key: Bytes::copy_from_slice(&device.exchange_key),
            created_at_us: device.created_at_us,
            revoked_at_us: device.revoked_at_us.unwrap_or_default(),
            last_seen_us: device.last_seen_us.unwrap_or_default(),
        }
    }
}

impl From<Role> for wire::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Member => Self::Member,
            Role::Admin => Self::Admin,
            Role::Owner => Self::Owner,
        }
    }
}

impl From<Member> for wire::Member {
    fn from(member: Member) -> Self {
        Self {
            account: Some(member.account.into()),
            role: wire::Role::from(member.role).into(),
            joined_at_us: member.joined_at_us,
            devices: member.devices.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Pool> for wire::Pool {
    fn from(pool: Pool) -> Self {
        Self {
            pool_id: id(pool.id.as_bytes()),
            name: pool.name,
            my_role: wire::Role::from(pool.my_role).into(),
            member_count: pool.member_count,
            created_at_us: pool.created_at_us,
        }
    }
}
