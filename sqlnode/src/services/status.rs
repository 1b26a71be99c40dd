//! One table from what went wrong to the gRPC status that a client gets.
//!
//! A [`Refusal`] carries its own sentence. What goes wrong inside is logged in full and told in general terms: a client
//! can do nothing with the name of a constraint, and somebody who probes should learn none.

use std::time::Duration;

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::database::{DbError, Refusal, RefusalKind};

/// Says in milliseconds when asking again makes sense.
pub const RETRY_AFTER_HEADER: &str = "retry-after-ms";

/// Each kind of refusal and its code.
const CODES: [(RefusalKind, Code); 9] = [
    (RefusalKind::Invalid, Code::InvalidArgument),
    (RefusalKind::Unauthenticated, Code::Unauthenticated),
    (RefusalKind::Forbidden, Code::PermissionDenied),
    (RefusalKind::NotFound, Code::NotFound),
    (RefusalKind::AlreadyExists, Code::AlreadyExists),
    (RefusalKind::FailedPrecondition, Code::FailedPrecondition),
    (RefusalKind::Exhausted, Code::ResourceExhausted),
    (RefusalKind::Aborted, Code::Aborted),
    (RefusalKind::Unavailable, Code::Unavailable),
];

fn code(kind: RefusalKind) -> Code {
    CODES.iter().find(|(known, _)| *known == kind).map_or(Code::Internal, |(_, code)| *code)
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut status = Status::new(code(refusal.kind), refusal.text);
        if let Some(after) = refusal.retry_after {
            let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            status.metadata_mut().insert(RETRY_AFTER_HEADER, MetadataValue::from(ms));
        }
        status
    }
}

/// Pause to suggest when the cluster is without a leader.
const UNAVAILABLE_RETRY: Duration = Duration::from_millis(500);

impl From<DbError> for Status {
    fn from(error: DbError) -> Self {
        let told = |kind, text: &str| Status::from(Refusal::for_now(kind, text, UNAVAILABLE_RETRY));
        match error {
            DbError::Refused(refusal) => refusal.into(),
            DbError::Conflict(reason) => {
                tracing::debug!(%reason, "a service call gave up after repeated conflicts");
                told(
                    RefusalKind::Aborted,
                    "Others were changing the same things all the time. Nothing was changed; try again.",
                )
            }
            DbError::Unavailable(reason) => {
                tracing::warn!(%reason, "a service call found the database unavailable");
                told(
                    RefusalKind::Unavailable,
                    "The cluster can't decide anything just now (no leader, or too few nodes). Nothing was changed; try again in a moment.",
                )
            }
            DbError::Stopping => {
                told(RefusalKind::Unavailable, "This node is stopping. Nothing was changed; ask another one.")
            }
            DbError::OutcomeUnknown(reason) => {
                tracing::warn!(%reason, "a service call does not know the outcome of its commit");
                told(
                    RefusalKind::Unavailable,
                    "The cluster lost contact while it was deciding, so this may or may not have happened. Look before you try again.",
                )
            }
            DbError::Limit(reason) => {
                tracing::warn!(%reason, "a service call met a limit of the store");
                Status::resource_exhausted(format!("A limit of the cluster's store was met: {reason}."))
            }
            DbError::Sql(error) => {
                tracing::error!(%error, "a statement of the services failed");
                Status::internal("The node made a mistake; its log says which. Nothing was changed.")
            }
            DbError::Fatal(reason) => {
                tracing::error!(%reason, "a service call met a broken database");
                Status::internal("The node's database failed; its log says how. Another node may do better.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_sentence_and_says_when_to_come_back() {
        let refusal = Refusal::for_now(RefusalKind::Exhausted, "Slow down.", Duration::from_millis(1500));
        let status = Status::from(DbError::from(refusal));
        assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "Slow down."));
        assert_eq!(status.metadata().get(RETRY_AFTER_HEADER).and_then(|value| value.to_str().ok()), Some("1500"));
    }

    #[test]
    fn what_goes_wrong_inside_stays_inside() {
        let status = Status::from(DbError::Fatal("page 17 of secret.sst".into()));
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("secret"));
    }
}
