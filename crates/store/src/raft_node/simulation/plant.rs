//! Faults planted in what surrounds the core, each like one that a store could have. The simulation must find them: one
//! that finds nothing shows nothing.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// Entries count as durable once they are written.
    AnswerBeforeSync,
    /// Promises to peers leave before what they promise is durable.
    SendBeforeSync,
    /// The log does not keep whom a member voted for.
    ForgetVote,
    /// The log does not keep what was known to be committed.
    ForgetCommit,
    /// A sync returns before it has done anything.
    LyingDisk,
    /// The log is cut when a checkpoint begins, not when it is durable.
    CutBeforeCheckpoint,
    /// A checkpoint counts as durable before it is.
    CheckpointBeforeSync,
    /// Linearizable reads are answered from whatever the asked member has.
    ReadWithoutIndex,
    /// Who once led alone answers reads by itself for ever.
    AloneForever,
    /// Who leads alone answers reads by itself before it has applied what one who was removed may have answered.
    AloneTooSoon,
    /// Time passes twice as fast for leases.
    HastyLeases,
    /// A lease that has run out is ended by whoever thinks so, through whoever leads by then.
    EndLeasesAsAnyone,
    /// Who was once known to lead is sure of it for long.
    SureForever,
    /// Who is sure to lead renews leases without having applied what is committed.
    SureWhenBehind,
    /// A follower takes for committed whatever the leader has sent it.
    ApplyUncommitted,
    /// A link that broke sends again what it may have sent before, commands that were forwarded too.
    ForwardTwice,
    /// What was proposed is proposed anew as soon as another leads, not when it shows that it was lost.
    ProposeTwice,
    /// The revision is taken from the newest living record when a member starts.
    RevisionFromRecords,
    /// A watch that goes on at another member leaves an event out.
    DropEvent,
    /// A watch that goes on at another member begins too early.
    RepeatEvent,
    /// A watch for a later revision is told of what is there.
    IgnoreStartRevision,
    /// One who joins believes itself to be the cluster.
    JoinerFounds,
}
