//! Makes a failing program small: takes away whatever can go while it still fails.

use super::program::{Op, Program, ROLES};

/// The smallest program found from which nothing can be taken away without `fails` becoming false.
pub(super) fn shrink(mut program: Program, fails: impl Fn(&Program) -> bool) -> Program {
    while let Some(smaller) = smaller(&program).into_iter().find(|smaller| fails(smaller)) {
        program = smaller;
    }
    program
}

/// The program with one thing less, in every way.
fn smaller(program: &Program) -> Vec<Program> {
    let mut found = Vec::new();
    let mut with = |change: &dyn Fn(&mut Program)| {
        let mut smaller = program.clone();
        change(&mut smaller);
        smaller.close_scopes();
        if smaller != *program {
            found.push(smaller);
        }
    };
    for (task, steps) in program.tasks.iter().enumerate() {
        with(&|program| program.tasks[task].retain(|op| matches!(op, Op::Spawn(..) | Op::Close)));
        for (at, step) in steps.iter().enumerate().filter(|(_, step)| **step != Op::Close) {
            with(&|program| drop(program.tasks[task].remove(at)));
            for less in less(step) {
                with(&|program| program.tasks[task][at] = less.clone());
            }
        }
        with(&|program| program.deadline[task] = false);
    }
    for role in 0..ROLES {
        with(&|program| program.own[role] = program.own[role].saturating_sub(1));
        with(&|program| program.shared[role] = 0);
        with(&|program| program.free[role] = 0);
        with(&|program| {
            program.own[role] += std::mem::take(&mut program.shared[role]);
        });
    }
    with(&|program| program.fail_fast = false);
    let last = program.tasks.len() - 1;
    if last > 0 && program.tasks[last].is_empty() && !program.tasks.iter().flatten().any(|op| names(op, last))
    {
        with(&|program| {
            program.tasks.pop();
            program.owner.pop();
            program.deadline.pop();
        });
    }
    found
}

/// A step with less in it.
fn less(step: &Op) -> Vec<Op> {
    match step {
        Op::Par(par, arms) => {
            let mut found: Vec<Op> = arms.iter().flatten().cloned().collect();
            for arm in 0..arms.len() {
                for at in 0..arms[arm].len() {
                    let mut less = arms.clone();
                    less[arm].remove(at);
                    if !less[arm].is_empty() {
                        found.push(Op::Par(*par, less));
                    }
                }
            }
            found
        }
        Op::Spawn(task, ends) => (0..ends.len())
            .map(|at| {
                let mut less = ends.clone();
                less.remove(at);
                Op::Spawn(*task, less)
            })
            .collect(),
        Op::SendEnd(queue, _) => vec![Op::Send(*queue)],
        _ => Vec::new(),
    }
}

fn names(op: &Op, task: usize) -> bool {
    match op {
        Op::Join(other) | Op::Abort(other) | Op::Cancel(other) | Op::Spawn(other, _) => {
            usize::from(*other) == task
        }
        Op::Par(_, arms) => arms.iter().flatten().any(|op| names(op, task)),
        _ => false,
    }
}
