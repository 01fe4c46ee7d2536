//! Colours, and how to do without.

use ratatui::style::{Color, Modifier, Style};

use super::super::table::Tone;

/// How a screen is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Palette {
    /// The sixteen colours that every terminal's user has chosen to be readable.
    Colours,
    /// Bold and reversed only.
    Plain,
}

impl Palette {
    /// As the environment asks for: no colours if `NO_COLOR` is set to anything but the empty text.
    pub(crate) fn of_env() -> Self {
        match std::env::var_os("NO_COLOR") {
            Some(value) if !value.is_empty() => Self::Plain,
            _ => Self::Colours,
        }
    }

    pub(super) fn tone(self, tone: Tone) -> Style {
        let style = Style::new();
        let coloured = |colour| if self == Self::Colours { style.fg(colour) } else { style };
        match tone {
            Tone::Plain => style,
            Tone::Faint => style.add_modifier(Modifier::DIM), // a dark grey is the background of some
            Tone::Strong => style.add_modifier(Modifier::BOLD),
            Tone::Warn => coloured(Color::Yellow),
            Tone::Bad => coloured(Color::Red).add_modifier(Modifier::BOLD),
            Tone::Good => coloured(Color::Green),
        }
    }

    /// The line of titles.
    pub(super) fn titles(self) -> Style {
        match self {
            Self::Colours => Style::new().fg(Color::Cyan),
            Self::Plain => Style::new().add_modifier(Modifier::UNDERLINED),
        }
    }

    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) fn banner(self) -> Style {
        match self {
            Self::Colours => Style::new().fg(Color::White).bg(Color::Red).add_modifier(Modifier::BOLD),
            Self::Plain => Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD),
        }
    }
}
