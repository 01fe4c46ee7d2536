//! What a page shows, before anybody draws it: columns and rows of words.

/// What a row is about. The cursor stays with it while rows come and go around it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Task(u64),
    Scope(u64),
    Queue(u64),
    Channel(u64),
    /// Tasks of one name in this scope or task that the process did not send.
    More(u64, usize),
    Resource(u64),
    /// An alert has no number: its kind, name and place.
    Alert(String),
    Deadlock(u64),
    /// A line of an opened thing.
    Line(usize),
}

/// How something is meant to be seen. Each is told in words as well: there are terminals without colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    /// Of little interest.
    Faint,
    /// A heading, a name.
    Strong,
    /// Worth a look.
    Warn,
    /// Something is wrong.
    Bad,
    /// Goes up and down as it should.
    Good,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: Tone,
}

impl Cell {
    pub(super) fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// On which side of its column a text stands, and which end of it is kept if it is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// A name: left, the beginning is kept.
    Left,
    /// A number: right.
    Right,
    /// A place in the program: left, the end is kept.
    End,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// 0 takes what is left.
    pub(super) width: usize,
    pub(super) side: Side,
}

impl Column {
    pub(super) fn new(title: &'static str, width: usize, side: Side) -> Self {
        Self { title, width, side }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) key: Key,
    pub(super) cells: Vec<Cell>,
    /// What Enter goes to.
    pub(super) opens: Option<Key>,
    /// Whether something is hidden below it (`Some(true)`), or shown and could be hidden.
    pub(super) is_folded: Option<bool>,
    /// How deep it stands: the row it belongs to is the nearest above with less.
    pub(super) depth: usize,
}

impl Row {
    /// A row that Enter opens.
    pub(super) fn of(key: Key, cells: Vec<Cell>) -> Self {
        Self { opens: Some(key.clone()), key, cells, is_folded: None, depth: 0 }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
    /// What is said instead of rows if there are none.
    pub(super) if_empty: String,
}

impl Table {
    /// The columns' widths on a screen this wide, one column free between each.
    pub(super) fn widths(&self, width: usize) -> Vec<usize> {
        let fixed: usize = self.columns.iter().map(|column| column.width).sum();
        let gaps = self.columns.len().saturating_sub(1);
        let elastic = self.columns.iter().filter(|column| column.width == 0).count().max(1);
        let rest = width.saturating_sub(fixed + gaps) / elastic;
        self.columns.iter().map(|column| if column.width == 0 { rest } else { column.width }).collect()
    }
}
