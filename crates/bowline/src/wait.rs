//! What a task waits for, packed into one word of its record, for people and for the detector to read.

/// What a leaf of ours is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) op: Op,
    /// Identity of the queue, lock or task waited on, 0 if the operation has none.
    pub(crate) on: u64,
}

macro_rules! ops {
    ($($op:ident = $number:literal, $name:literal;)*) => {
        /// The waiting operations of the crate; the number is what a record's word holds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Op {
            $($op = $number,)*
        }

        impl Op {
            fn from_number(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Op::$op),)*
                    _ => None,
                }
            }

            /// The operation's name in views.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Op::$op => $name,)*
                }
            }
        }
    };
}

ops! {
    Recv = 1, "recv";
    Send = 2, "send";
    Join = 3, "join";
    Close = 4, "close";
    Cancelled = 5, "cancelled";
    Draining = 6, "draining";
    Lock = 7, "lock";
    Read = 8, "read";
    Write = 9, "write";
    Acquire = 10, "acquire";
    Notified = 11, "notified";
    Barrier = 12, "barrier";
    Latch = 13, "latch";
    Changed = 14, "changed";
    Reply = 15, "reply";
    Spawn = 16, "spawn";
    Sleep = 17, "sleep";
    Merge = 18, "merge";
    Closed = 19, "closed";
    Job = 20, "job";
    Submit = 21, "submit";
    Lease = 22, "lease";
    Backoff = 27, "back-off";
    Supervise = 24, "supervise";
}

const OP_SHIFT: u32 = 56;

impl Wait {
    pub(crate) fn pack(self) -> u64 {
        (self.op as u64) << OP_SHIFT | (self.on & ((1 << OP_SHIFT) - 1))
    }

    pub(crate) fn unpack(word: u64) -> Option<Self> {
        let op = Op::from_number(word >> OP_SHIFT)?;
        Some(Self { op, on: word & ((1 << OP_SHIFT) - 1) })
    }
}
