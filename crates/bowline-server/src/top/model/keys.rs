//! What each key does.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::super::data::State;
use super::super::filter::Filter;
use super::super::table::{Key, Row};
use super::{Cursor, Model, Page, Then};

/// Characters a filter has at most.
const MAX_FILTER_CHARS: usize = 200;

impl Model {
    pub(super) fn press(&mut self, key: KeyEvent) -> Then {
        if key.kind == KeyEventKind::Release {
            return Then::GoOn;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c' | 'd') => Then::Quit,
                _ => Then::GoOn,
            };
        }
        if self.is_typing {
            self.type_filter(key.code);
            return Then::GoOn;
        }
        if self.is_help {
            self.is_help = false; // whatever is pressed; and `q` is what it always is
            return if key.code == KeyCode::Char('q') { Then::Quit } else { Then::GoOn };
        }
        match key.code {
            KeyCode::Char('q') => return Then::Quit,
            KeyCode::Char('?' | 'h') => self.is_help = true,
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char('s') => self.sort_otherwise(),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Char('t') if self.page == Page::Tasks && self.opened.is_empty() => {
                self.is_list = !self.is_list
            }
            KeyCode::Char('w') => self.filter_by_op(),
            KeyCode::Char('*') => self.fold_all(false),
            KeyCode::Char('-') => self.fold_all(true),
            KeyCode::Char(digit @ '1'..='5') => self.go_to(Page::ALL[digit as usize - '1' as usize]),
            KeyCode::Tab => self.go_to(Page::ALL[(self.page as usize + 1) % Page::ALL.len()]),
            KeyCode::BackTab => {
                self.go_to(Page::ALL[(self.page as usize + Page::ALL.len() - 1) % Page::ALL.len()])
            }
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-self.screenful()),
            KeyCode::PageDown => self.step(self.screenful()),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            KeyCode::Right | KeyCode::Char('l') => self.fold(false),
            KeyCode::Left => self.fold(true),
            KeyCode::Enter => self.open(),
            KeyCode::Esc | KeyCode::Backspace => self.back(),
            _ => {}
        }
        Then::GoOn
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter_text.clear();
            }
            // One more than there are characters leads out.
            KeyCode::Backspace => self.is_typing = self.filter_text.pop().is_some(),
            KeyCode::Char(c) if self.filter_text.chars().count() < MAX_FILTER_CHARS => {
                self.filter_text.push(c)
            }
            _ => {}
        }
        self.filter = Filter::parse(&self.filter_text);
    }

    /// Shows only tasks that wait as the one under the cursor does; again, all.
    fn filter_by_op(&mut self) {
        let Some(Key::Task(id)) = self.row().map(|row| row.key) else { return };
        let found = self.picture.tree.as_ref().and_then(|tree| tree.find(id));
        let op = match found.map(|(task, _)| &task.state) {
            Some(State::Waiting(wait)) => &wait.op,
            Some(State::Is(is)) => is,
            _ => return,
        };
        let word = format!("op:{op}");
        let others: Vec<&str> =
            self.filter_text.split_whitespace().filter(|known| !known.starts_with("op:")).collect();
        let is_on = self.filter_text.split_whitespace().any(|known| known == word);
        let mut words = others;
        if !is_on {
            words.push(&word);
        }
        self.filter_text = words.join(" ");
        self.filter = Filter::parse(&self.filter_text);
    }

    fn go_to(&mut self, page: Page) {
        self.page = page;
        self.opened.clear();
        self.opened_cursors.clear();
    }

    fn row(&self) -> Option<Row> {
        self.table().rows.into_iter().nth(self.cursor().at)
    }

    fn screenful(&self) -> isize {
        isize::try_from(self.body_lines().max(2) - 1).unwrap_or(1)
    }

    fn step(&mut self, rows: isize) {
        let cursor = self.cursor_mut();
        cursor.at = cursor.at.saturating_add_signed(rows);
        cursor.key = None; // where it comes to stand is the row it stays with
    }

    /// Hides or shows what is below the row. Where there is nothing more to hide, the cursor goes to what the row belongs to.
    fn fold(&mut self, hide: bool) {
        let Some(row) = self.row() else { return };
        if row.is_folded == Some(!hide) {
            self.folds.insert(row.key, hide);
            return;
        }
        if !hide {
            return self.step(1);
        }
        if !self.opened.is_empty() {
            return self.back();
        }
        let rows = self.table().rows;
        let above = rows.iter().take(self.cursor().at).rposition(|other| other.depth < row.depth);
        if let Some(at) = above {
            let cursor = self.cursor_mut();
            (cursor.at, cursor.key) = (at, None);
        }
    }

    fn fold_all(&mut self, hide: bool) {
        // What is shown now; what comes out of a fold has its own default.
        for row in self.table().rows {
            // The top stays open: a screen with one line helps nobody.
            if row.is_folded.is_some() && (!hide || row.depth > 0) {
                self.folds.insert(row.key, hide);
            }
        }
    }

    fn open(&mut self) {
        let Some(row) = self.row() else { return };
        match (row.opens, row.is_folded) {
            (Some(opens), _) => {
                // Going round in a circle of waits must not cost memory.
                const MAX_OPENED: usize = 50;
                if self.opened.len() < MAX_OPENED {
                    self.opened.push(opens);
                    self.opened_cursors.push(Cursor::default());
                }
            }
            (None, Some(is_folded)) => {
                self.folds.insert(row.key, !is_folded);
            }
            (None, None) => {}
        }
    }

    /// One step back: out of what is opened, or out of the filter.
    fn back(&mut self) {
        if self.opened.pop().is_some() {
            self.opened_cursors.pop();
        } else {
            self.filter_text.clear();
            self.filter = Filter::default();
        }
    }
}
