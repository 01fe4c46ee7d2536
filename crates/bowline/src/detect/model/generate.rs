//! Random programs, each from a seed.
//!
//! Most come from the mixed profile. Some rules matter only in rare company - an end in a message that nobody fetches, an abort
//! in the one moment it decides something - so other profiles ask for that company.

use super::program::{
    ABORT, LOCKS, LockKind, OBJECT, Op, Par, Program, QUEUES, RIGHT, ROLES, RX, Role, SIGNALS, Signal, TASKS,
    TX,
};
use super::state::small;

/// What a program is rich in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    Mixed,
    /// Ends in messages and in the shared object, handed about.
    Ends,
    /// Locks, permits of different size, waits kept beside, arms.
    Locks,
    /// Signals of every kind.
    Signals,
    /// Aborts, cancels, failures, deadlines.
    Cancels,
    /// Tasks that can only be dropped, with something in their hands that others wait for.
    Aborts,
    /// The same waits again and again: what a scan that takes its time mistakes for one wait.
    Turns,
}

pub(super) const PROFILES: [Profile; 7] = [
    Profile::Mixed,
    Profile::Ends,
    Profile::Locks,
    Profile::Signals,
    Profile::Cancels,
    Profile::Aborts,
    Profile::Turns,
];

/// The program of a seed: every second one is mixed.
pub(super) fn program(seed: u64) -> Program {
    let profile = if seed % 2 == 0 { Profile::Mixed } else { PROFILES[1 + (seed / 2 % 6) as usize] };
    of_profile(seed, profile)
}

pub(super) fn of_profile(seed: u64, profile: Profile) -> Program {
    let mut generator = Generator { dice: fastrand::Rng::with_seed(seed), profile, tasks: 0 };
    // Neighbouring seeds begin alike.
    generator.dice.u64(..);
    generator.program()
}

struct Generator {
    dice: fastrand::Rng,
    profile: Profile,
    tasks: usize,
}

impl Generator {
    fn percent(&mut self, chance: u32) -> bool {
        self.dice.u32(..100) < chance
    }

    fn below(&mut self, end: usize) -> u8 {
        small(self.dice.usize(..end))
    }

    /// `often` percent in the profile that asks for it, else `seldom`.
    fn rich(&mut self, profile: Profile, often: u32, seldom: u32) -> bool {
        let chance = if self.profile == profile { often } else { seldom };
        self.percent(chance)
    }

    fn program(&mut self) -> Program {
        self.tasks = 2 + self.dice.usize(..TASKS - 1);
        let mut program = Program::bare(self.tasks);
        for queue in &mut program.queues {
            *queue = [0, 1, 1, 2][self.dice.usize(..4)];
        }
        for lock in 0..LOCKS {
            program.locks[lock] = match (lock, self.dice.u32(..8)) {
                (0, 0..6) => LockKind::Mutex,
                (_, 6) => LockKind::Semaphore,
                (_, 7) => LockKind::StaticSemaphore,
                _ => LockKind::RwLock,
            };
        }
        for signal in 0..SIGNALS {
            program.signals[signal] = [
                Signal::Notify,
                Signal::Notify,
                Signal::Latch,
                Signal::Barrier,
                Signal::Watch,
                Signal::Broadcast,
                Signal::Oneshot,
                Signal::Token,
            ][self.dice.usize(..8)];
        }
        self.ends(&mut program);
        self.spawns(&mut program);
        for task in 0..self.tasks {
            let steps = if task == 0 { self.dice.usize(..4) } else { 1 + self.dice.usize(..4) };
            for _ in 0..steps {
                let step = self.step(task, &program);
                program.tasks[task].push(step);
            }
        }
        if self.percent(30) {
            self.add_endless(&mut program);
        }
        for task in 1..self.tasks {
            program.deadline[task] = self.rich(Profile::Cancels, 15, 3);
            if self.rich(Profile::Cancels, 25, 4) && !program.owns_some(task) {
                program.tasks[task].push(Op::Fail);
            }
        }
        program.fail_fast = self.percent(50);
        if self.profile == Profile::Turns {
            self.add_turns(&mut program);
        }
        if self.profile == Profile::Aborts {
            self.add_abort(&mut program);
        }
        program.close_scopes();
        program
    }

    fn ends(&mut self, program: &mut Program) {
        let shares = self.rich(Profile::Ends, 70, 40);
        for role in 0..OBJECT {
            let kind = role.checked_sub(RIGHT).map(|signal| program.signals[signal]);
            if shares && kind != Some(Signal::Oneshot) && self.percent(50) {
                program.shared[role] = 1;
            } else {
                program.own[role] = if kind == Some(Signal::Barrier) { 2 + self.below(2) } else { 1 };
            }
        }
        if shares {
            program.own[OBJECT] = 1;
        }
        for task in 0..self.tasks {
            program.own[ABORT + task] = u8::from(self.rich(Profile::Cancels, 50, 10));
        }
        if self.percent(8) {
            let role = self.dice.usize(..ABORT);
            if program.own[role] > 0 {
                program.free[role] = 1;
                program.own[role] -= u8::from(self.percent(50));
            }
        }
    }

    fn spawns(&mut self, program: &mut Program) {
        for task in 1..self.tasks {
            let owner = if task > 1 && self.percent(25) { 1 + self.dice.usize(..task - 1) } else { 0 };
            program.owner[task] = Some(small(owner));
            let mut ends: Vec<(Role, bool)> = Vec::new();
            for role in 0..ROLES {
                let chance = match role {
                    OBJECT => 75,
                    ABORT.. if self.profile == Profile::Cancels => 30,
                    ABORT.. => 10,
                    _ => 45,
                };
                if self.percent(chance) {
                    ends.push((small(role), self.percent(55)));
                }
            }
            program.tasks[owner].push(Op::Spawn(small(task), ends));
            if self.percent(15) {
                let step = self.step(owner, program);
                program.tasks[owner].push(step);
            }
        }
    }

    /// A task that never ends; mostly one that has let go of everything, so that others can be dead beside it.
    fn add_endless(&mut self, program: &mut Program) {
        let task = 1 + self.dice.usize(..self.tasks - 1);
        if self.percent(60) {
            for role in 0..small(ABORT) {
                program.tasks[task].extend([Op::Drop(role), Op::Drop(role)]);
            }
        }
        program.tasks[task].push(Op::Spin);
    }

    /// The first and the second task hand something to and fro.
    fn add_turns(&mut self, program: &mut Program) {
        let (there, back) = (0, 1);
        for role in [TX, TX + 1, RX, RX + 1] {
            (program.own[role], program.shared[role]) = (1, 0);
        }
        program.owner[1] = Some(0);
        for op in program.tasks.iter_mut().flatten() {
            if let Op::Spawn(task, ends) = op {
                ends.retain(|(role, _)| usize::from(*role) >= RIGHT);
                if *task == 1 {
                    ends.extend([small(RX), small(TX + 1)].map(|role| (role, true)));
                }
            }
        }
        for _ in 0..2 + self.dice.usize(..2) {
            program.tasks[0].extend([Op::Send(there), Op::Recv(back)]);
            program.tasks[1].extend([Op::Recv(there), Op::Send(back)]);
        }
    }

    /// The last task, long alive, may abort the first child, which may hold what somebody else waits for.
    fn add_abort(&mut self, program: &mut Program) {
        let (victim, last) = (1, self.tasks - 1);
        program.fail_fast = false;
        program.deadline.fill(false);
        program.own[ABORT + victim] = 1;
        for op in program.tasks.iter_mut().flatten() {
            if let Op::Spawn(task, ends) = op {
                ends.retain(|(role, _)| usize::from(*role) < ABORT);
                if usize::from(*task) == last {
                    ends.push((small(ABORT + victim), true));
                }
            }
        }
        let acquire = self.acquire();
        program.tasks[victim].insert(0, acquire);
        program.tasks[last].splice(0..0, [Op::Sleep, Op::Abort(small(victim))]);
        if last > 2 {
            program.tasks[2].truncate(1);
            let wait = self.leaf(2);
            program.tasks[2].insert(0, wait);
        }
    }

    /// A step that waits, alone or in an arm.
    fn leaf(&mut self, task: usize) -> Op {
        let kind = match self.profile {
            Profile::Locks => [4, 4, 5, 5, 0, 2, 6, 9][self.dice.usize(..8)],
            Profile::Signals => [6, 6, 6, 6, 0, 2, 4, 7][self.dice.usize(..8)],
            _ => [0, 0, 2, 2, 2, 4, 5, 6, 6, 7, 8, 9][self.dice.usize(..12)],
        };
        match kind {
            0 => Op::Send(self.below(QUEUES)),
            2 => Op::Recv(self.below(QUEUES)),
            4 => Op::Acquire(0, 1),
            5 => Op::Acquire(1, 1 + self.below(2)),
            6 => Op::Wait(self.below(SIGNALS)),
            7 if task == 0 => Op::Join(1 + self.below(self.tasks - 1)),
            7 => Op::Acquire(0, 1 + self.below(2)),
            8 => Op::Closed(self.below(QUEUES)),
            _ if self.percent(30) => Op::Sleep,
            _ => Op::Recv(self.below(QUEUES)),
        }
    }

    fn par(&mut self, task: usize) -> Op {
        let par = if self.percent(65) { Par::Race } else { Par::Join };
        let mut arms = vec![vec![self.leaf(task)], vec![self.leaf(task)]];
        if self.percent(40) {
            let second = self.in_arm(task);
            arms[0].push(second);
        }
        Op::Par(par, arms)
    }

    /// What an arm does behind its first wait: often something that others wait for.
    fn in_arm(&mut self, task: usize) -> Op {
        match self.dice.u32(..6) {
            0 => Op::Fire(self.below(SIGNALS)),
            1 => Op::Release(self.below(LOCKS)),
            2 => Op::SendEnd(self.below(QUEUES), self.below(ABORT)),
            _ => self.leaf(task),
        }
    }

    fn step(&mut self, task: usize, program: &Program) -> Op {
        let (rich, richer) = (self.percent(55), self.percent(60));
        if rich {
            match self.profile {
                Profile::Ends => return self.ends_step(task),
                Profile::Locks => return self.locks_step(task),
                Profile::Signals => return self.signals_step(task),
                Profile::Cancels if richer => return self.cancels_step(task, program),
                Profile::Cancels | Profile::Aborts | Profile::Turns | Profile::Mixed => {}
            }
        }
        match self.dice.u32(..20) {
            0..8 => self.leaf(task),
            8..11 => self.par(task),
            11 => self.ends_step(task),
            12 | 13 => self.locks_step(task),
            14 | 15 => self.signals_step(task),
            16 => self.cancels_step(task, program),
            17 => Op::Drop(self.below(ABORT)),
            18 => Op::Release(self.below(LOCKS)),
            _ => self.acquire(),
        }
    }

    fn acquire(&mut self) -> Op {
        Op::Acquire(self.below(LOCKS), 1 + self.below(2))
    }

    fn ends_step(&mut self, task: usize) -> Op {
        match self.dice.u32(..12) {
            0..6 => Op::SendEnd(self.below(QUEUES), self.below(ABORT)),
            6 => Op::Free(self.below(ABORT)),
            7 => Op::Forget(self.below(ABORT)),
            8 => Op::Drop(self.below(ABORT)),
            9 => Op::Closed(self.below(QUEUES)),
            _ => self.leaf(task),
        }
    }

    fn locks_step(&mut self, task: usize) -> Op {
        match self.dice.u32(..14) {
            0..3 => self.acquire(),
            3 | 4 => Op::Release(self.below(LOCKS)),
            5 | 6 => Op::Pin(self.below(LOCKS), 1 + self.below(2)),
            7 => Op::Await,
            8 => Op::Unpin,
            9 => Op::ForgetGuard(self.below(LOCKS)),
            10 => Op::Add(self.below(LOCKS)),
            _ => self.par(task),
        }
    }

    fn signals_step(&mut self, task: usize) -> Op {
        match self.dice.u32(..10) {
            0..4 => Op::Wait(self.below(SIGNALS)),
            4..6 => Op::Fire(self.below(SIGNALS)),
            6 => Op::FireAll(self.below(SIGNALS)),
            7 => Op::Drop(small(RIGHT) + self.below(SIGNALS)),
            8 => Op::Forget(small(RIGHT) + self.below(SIGNALS)),
            _ => self.par(task),
        }
    }

    fn cancels_step(&mut self, task: usize, program: &Program) -> Op {
        match self.dice.u32(..10) {
            0..4 => Op::Abort(self.below(self.tasks)),
            4 | 5 if program.owns_some(task) => Op::Cancel(self.below(self.tasks)),
            6 => Op::SendEnd(self.below(QUEUES), small(ABORT) + self.below(self.tasks)),
            7 => Op::Recv(self.below(QUEUES)),
            _ => self.par(task),
        }
    }
}

const _: () = assert!(TX == 0, "ends are drawn by role from 0");
