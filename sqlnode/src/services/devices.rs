//! The devices of one's own account.

use rockpool_proto::DeviceId;
use rockpool_proto::meta::v1::{self as wire, devices_server::Devices};
use rockpool_sql::Value;
use tonic::{Request, Response, Status};

use super::{Services, accounts, sessions, validate};
use crate::database::{DbError, time, uuid};
use crate::rooms::{EndReason, presence};

#[tonic::async_trait]
impl Devices for Services {
    async fn list(
        &self,
        request: Request<wire::ListDevicesRequest>,
    ) -> Result<Response<wire::ListDevicesReply>, Status> {
        let caller = self.caller(request.metadata()).await?;
        let devices = self.database().transaction(|tx| accounts::devices(tx, caller.account)).await?;
        Ok(Response::new(wire::ListDevicesReply { devices: devices.into_iter().map(Into::into).collect() }))
    }

    async fn rename(&self, request: Request<wire::RenameDeviceRequest>) -> Result<Response<wire::Device>, Status> {
        let caller = self.caller(request.metadata()).await?;
        let request = request.into_inner();
        let id = DeviceId(validate::bytes("device's id", &request.device_id).map_err(DbError::from)?);
        let name = validate::display_name("device's name", &request.name).map_err(DbError::from)?;
        let renamed = self.database().transaction(|tx| {
            let mut device = accounts::own_device(tx, caller.account, id)?;
            tx.execute(
                "UPDATE meta.devices SET name = $2 WHERE device_id = $1",
                &[uuid(id.as_bytes()), Value::text(&name)],
            )?;
            device.name.clone_from(&name);
            Ok((device, accounts::touch_pools(tx, caller.account)?))
        });
        let (device, pools) = renamed.await?;
        self.rooms().refresh(pools);
        Ok(Response::new(device.into()))
    }

    async fn revoke(&self, request: Request<wire::RevokeDeviceRequest>) -> Result<Response<wire::Device>, Status> {
        let caller = self.caller(request.metadata()).await?;
        let request = request.into_inner();
        let id = DeviceId(validate::bytes("device's id", &request.device_id).map_err(DbError::from)?);
        let revoked = self.database().transaction(|tx| {
            let mut device = accounts::own_device(tx, caller.account, id)?;
            if device.revoked_at_us.is_some() {
                return Ok((device, None, Vec::new()));
            }
            let now_us = tx.now_us();
            device.revoked_at_us = Some(now_us);
            tx.execute(
                "UPDATE meta.devices SET revoked_at = $2 WHERE device_id = $1",
                &[uuid(id.as_bytes()), time(now_us)],
            )?;
            sessions::end_all(tx, id, "revoked")?;
            let withdrawn = presence::withdraw(tx, id, |_| true)?;
            Ok((device, withdrawn, accounts::touch_pools(tx, caller.account)?))
        });
        let (device, withdrawn, pools) = revoked.await?;
        self.rooms().evict_withdrawn(withdrawn, EndReason::Revoked);
        self.rooms().refresh(pools);
        Ok(Response::new(device.into()))
    }
}
