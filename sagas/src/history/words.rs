//! Facts in words, for histories that people read and golden files keep.

use std::fmt;

use super::fact::Fact;

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |undo: &bool| if *undo { "undo of " } else { "" };
        match self {
            Self::Started { parent: None, .. } => write!(f, "started"),
            Self::Started {
                parent: Some(parent),
                ..
            } => write!(
                f,
                "started by step {} of {} {}",
                parent.step, parent.saga, parent.instance
            ),
            Self::Activated {
                step,
                undo,
                activation,
                requests,
                timeout_ms,
            } => {
                write!(f, "{}{step} asks", of(undo))?;
                for request in requests {
                    let way = if request.outbox { " (outbox)" } else { "" };
                    write!(f, " {}{way}", request.kind)?;
                }
                if *activation > 1 {
                    write!(f, ", activation {activation}")?;
                }
                timeout_ms.map_or(Ok(()), |ms| write!(f, ", within {ms} ms"))
            }
            Self::Answered {
                step,
                undo,
                request,
                ok: true,
                ..
            } => write!(f, "answer to request {request} of {}{step}", of(undo)),
            Self::Answered {
                step,
                undo,
                request,
                ok: false,
                error,
                ..
            } => {
                let error = error.as_deref().unwrap_or("no reason given");
                write!(
                    f,
                    "refusal of request {request} of {}{step}: {error}",
                    of(undo)
                )
            }
            Self::AttemptFailed {
                step,
                undo,
                attempt,
                error,
                retry_ms,
                ..
            } => write!(
                f,
                "attempt {attempt} of {}{step} failed, next in {retry_ms} ms: {error}",
                of(undo)
            ),
            Self::Completed { step, undo, .. } => write!(f, "{}{step} completed", of(undo)),
            Self::Failed {
                step, undo, error, ..
            } => {
                write!(f, "{}{step} failed: {error}", of(undo))
            }
            Self::TimedOut { step, undo } => write!(f, "{}{step} timed out", of(undo)),
            Self::Skipped { step, undo, why } => write!(f, "{}{step} skipped: {why}", of(undo)),
            Self::Abandoned { step } => write!(f, "{step} abandoned"),
            Self::CompensationStarted { cause } => write!(f, "turned back: {cause}"),
            Self::Ended { outcome, .. } => write!(f, "ended: {}", outcome.as_str()),
            Self::InterventionNeeded { error } => write!(f, "an operator is needed: {error}"),
            Self::Signalled { signal, .. } => write!(f, "signal {signal}"),
            Self::CancelRequested { reason, by } => by_whom(f, "cancel", by, Some(reason)),
            Self::CompensationRequested { reason, by } => {
                by_whom(f, "compensation", by, Some(reason))
            }
            Self::RetryRequested { step, by } => by_whom(f, "retry", by, step.as_ref()),
            Self::SkipRequested { step, by } => by_whom(f, "skip", by, Some(step)),
            Self::Parked { reason, by } => by_whom(f, "parked", by, Some(reason)),
            Self::Resumed { by } => by_whom(f, "resumed", by, None),
            Self::Migrated { from, to, .. } => write!(f, "moved from version {from} to {to}"),
        }
    }
}

fn by_whom(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    by: &str,
    detail: Option<&String>,
) -> fmt::Result {
    f.write_str(what)?;
    if !by.is_empty() {
        write!(f, " by {by}")?;
    }
    detail.map_or(Ok(()), |detail| write!(f, ": {detail}"))
}
