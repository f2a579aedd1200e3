//! Room under the quota for requests that come at once. Whether a request adds what it carries shows when it is applied: one
//! whose comparison fails adds nothing. So nobody is refused for what others have asked and not been answered: who finds
//! no room beside them waits until they are done, and is judged by what is stored.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Context;
use crate::auth::Asker;
use crate::error::Refusal;
use crate::pb::etcdserverpb as pb;
use crate::pb::kvraft::command::Op;

#[derive(Debug, Default)]
pub struct Room {
    /// What the requests under way may add.
    taken: Mutex<usize>,
    freed: Notify,
    /// Of those who wait for room one after the other looks.
    turn: tokio::sync::Mutex<()>,
}

/// Stands for bytes until the state has them, or nobody will.
#[derive(Debug)]
pub struct Taken {
    room: Arc<Room>,
    bytes: usize,
}

impl Drop for Taken {
    fn drop(&mut self) {
        *self.room.taken.lock() -= self.bytes;
        self.room.freed.notify_one();
    }
}

#[derive(Debug)]
enum Answer {
    Fits(Taken),
    /// Beside those under way it does not.
    Later,
    Never,
}

impl Room {
    fn take(self: &Arc<Room>, used: usize, bytes: usize, quota: u64) -> Answer {
        let mut taken = self.taken.lock();
        let fits = |others: usize| used.saturating_add(others).saturating_add(bytes) as u64 <= quota;
        if fits(*taken) {
            *taken += bytes;
            return Answer::Fits(Taken { room: self.clone(), bytes });
        }
        if *taken > 0 { Answer::Later } else { Answer::Never }
    }
}

impl Context {
    /// Refuses writes when the quota is used up. The first to notice raises the alarm.
    pub(super) async fn check_space(&self, bytes: usize) -> Result<Taken, Refusal> {
        match self.take_room(bytes)? {
            Answer::Fits(taken) => Ok(taken),
            Answer::Never => Err(self.raise().await?),
            Answer::Later => {
                let waits = tokio::time::timeout(self.node.request_timeout, self.wait_for_room(bytes));
                waits.await.map_err(|_| Refusal::TimedOut)?
            }
        }
    }

    async fn wait_for_room(&self, bytes: usize) -> Result<Taken, Refusal> {
        let _turn = self.room.turn.lock().await;
        loop {
            match self.take_room(bytes)? {
                Answer::Fits(taken) => return Ok(taken),
                Answer::Never => return Err(self.raise().await?),
                Answer::Later => self.room.freed.notified().await,
            }
        }
    }

    fn take_room(&self, bytes: usize) -> Result<Answer, Refusal> {
        let state = self.shared.state.read();
        // Whoever makes room is refused for the first, and is to know it.
        for (alarm, refusal) in [(pb::AlarmType::Corrupt, Refusal::Corrupt), (pb::AlarmType::Nospace, Refusal::NoSpace)]
        {
            if state.is_raised(alarm) {
                return Err(refusal);
            }
        }
        Ok(self.room.take(state.kv.size_bytes(), bytes, self.limits.quota_bytes))
    }

    async fn raise(&self) -> Result<Refusal, Refusal> {
        let alarm = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Activate.into(),
            member_id: self.shared.member_id,
            alarm: pb::AlarmType::Nospace.into(),
        };
        self.propose(Asker::Member, Op::Alarm(alarm)).await?;
        tracing::warn!(quota = self.limits.quota_bytes, "the quota is used up: alarm raised");
        Ok(Refusal::NoSpace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_no_room_beside_others_is_not_refused_for_them() {
        let room = Arc::new(Room::default());
        let Answer::Fits(first) = room.take(10, 60, 100) else { panic!("it fits") };
        assert!(matches!(room.take(10, 30, 100), Answer::Fits(_)), "and is done at once");
        assert!(matches!(room.take(10, 31, 100), Answer::Later));
        drop(first);
        assert!(matches!(room.take(10, 90, 100), Answer::Fits(_)), "the first has added nothing");
        assert!(matches!(room.take(70, 31, 100), Answer::Never), "the first has added what it carried");
        assert!(matches!(room.take(0, usize::MAX, u64::MAX), Answer::Fits(_)), "without a limit");
    }
}
