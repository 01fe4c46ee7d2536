//! The page of help.

use super::super::table::Tone;
use super::Pen;

const HELP: &str = "\
1-5, tab      tasks, queues, waits, alerts, deadlocks
↑ ↓, j k      move; also page up and down, home and end
← →           fold and unfold; - and * all that is shown
⏎             open: what it waits for, who holds that, where; → leads on
esc           back; on a page: all tasks again, without a filter
/             filter: parts of a name, op:recv, wait:5s, age:1m; all must hold
w             only tasks that wait as this one does; again: all
s  r          sort by something else; the other way round
t             all tasks in one list, or the tree
p, space      stop the picture, to read; again: go on
q, ctrl-c     quit

STATE         what a task waits to do, and the name of what it waits for
parked        it waits for something unknown: a socket, a foreign timer
foreign       tasks that nobody in the process owns: bare tokio::spawn
LOST          items that a queue dropped, refused or abandoned";

pub(super) fn draw(pen: &mut Pen<'_>, first: u16, end: u16) {
    for (line, text) in (first + 1..end).zip(HELP.lines()) {
        pen.write(2, line, text, pen.palette.tone(Tone::Plain));
    }
}
