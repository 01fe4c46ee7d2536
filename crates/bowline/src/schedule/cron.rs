//! Times of the day: cron patterns in a time zone (cargo feature `cron`).
//!
//! # When the clocks change
//!
//! A pattern has *fixed times* if it names up to twelve times of the day, in numbers, lists and ranges (`0 2 * * *`,
//! `0,30 2,14 * * *`), and *recurs* otherwise (`*/5 * * * *`).
//!
//! 1. A fixed time that does not exist, because the clocks are put forward over it, runs once, in the first moment that exists:
//!    at three o'clock for `30 2 * * *`.
//! 2. A fixed time that exists twice, because the clocks are put back, runs once, at the first.
//! 3. What recurs goes by the time that passes: it leaves out what does not exist and takes both of what exists twice.

#[cfg(feature = "cron")]
pub use with::CronError;
#[cfg(feature = "cron")]
pub(super) use with::Pattern;
#[cfg(not(feature = "cron"))]
pub(super) use without::Pattern;

#[cfg(feature = "cron")]
mod with {
    use std::fmt;
    use std::panic::Location;
    use std::str::FromStr as _;
    use std::time::{Duration, SystemTime};

    use chrono::DateTime;
    use chrono_tz::{TZ_VARIANTS, Tz};
    use croner::{Cron, JobType};

    use crate::schedule::job::{Job, When};

    /// How many times of the day a pattern may name for each to be looked up by itself, at a microsecond or two. More than that are
    /// less of a list than a rhythm.
    const MOST_TIMES: usize = 12;

    /// Bytes that croner takes for a pattern, about: each field has a table.
    const CRON_BYTES: usize = 6 * 1024;

    /// A cron pattern and the time zone it is read in.
    #[derive(Clone)]
    pub(in crate::schedule) struct Pattern {
        /// What recurs, or one for each fixed time: croner takes a list of them for something that recurs.
        crons: Vec<Cron>,
        zone: Tz,
        text: String,
    }

    impl Job {
        /// A job that runs at the times of the day that `pattern` names, in the time zone `zone`.
        ///
        /// `pattern` has the five fields of cron, `minute hour day-of-month month day-of-week`, or six with seconds in front, or is
        /// one of `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly`. `zone` is a name of the IANA database,
        /// `Europe/Berlin` or `UTC`; the rules of the zones are built in.
        ///
        /// A time that the clocks are put forward over runs once, in the first moment after; one that exists twice runs once, at the
        /// first. A pattern that recurs (`*/5 * * * *`, or more than twelve times a day) goes by the time that passes. The same
        /// holds when the wall clock
        /// is set back by up to three hours; by more, the clock was wrong before, and everything starts over.
        ///
        /// # Errors
        ///
        /// [`CronError`], which says which field is wrong and what it may be. Trying again cannot succeed.
        ///
        /// # Examples
        ///
        /// ```
        /// use bowline::{CronError, Job};
        ///
        /// let report = Job::cron("report", "0 2 * * MON-FRI", "Europe/Berlin")?;
        /// # assert_eq!(report.name(), "report");
        ///
        /// let wrong = Job::cron("report", "0 24 * * *", "Europe/Berlin").unwrap_err();
        /// assert_eq!(wrong.to_string(), "`24` cannot be the hour of `0 24 * * *`: it is 0 to 23, also in lists and steps (1-5, */2)");
        /// # Ok::<_, CronError>(())
        /// ```
        #[track_caller]
        pub fn cron(name: &'static str, pattern: &str, zone: &str) -> Result<Self, CronError> {
            let place = Location::caller();
            Ok(Self::new(name, place, When::At(Box::new(Pattern::parse(pattern, zone)?))))
        }
    }

    impl Pattern {
        pub(in crate::schedule) fn parse(pattern: &str, zone: &str) -> Result<Self, CronError> {
            let zone = Tz::from_str(zone)
                .map_err(|_| CronError::Zone { zone: zone.to_owned(), like: like(zone) })?;
            let fields: Vec<&str> = pattern.split_whitespace().collect();
            let is_nickname = pattern.trim_start().starts_with('@');
            if !is_nickname && !matches!(fields.len(), 5 | 6) {
                return Err(CronError::Fields { pattern: pattern.to_owned(), found: fields.len() });
            }
            let cron =
                Cron::from_str(pattern).map_err(|_| match wrong_field(&fields).filter(|_| !is_nickname) {
                    Some((field, text)) => {
                        CronError::Field { pattern: pattern.to_owned(), field, text: text.to_owned() }
                    }
                    None => CronError::Unreadable { pattern: pattern.to_owned() },
                })?;
            let crons = fixed_times(&fields).unwrap_or_else(|| vec![cron]);
            let pattern = Self { crons, zone, text: pattern.to_owned() };
            // The Gregorian calendar repeats after 400 years; a day of the week in a leap year takes 28 at most, but for 2100.
            if pattern.first_after(SystemTime::UNIX_EPOCH).is_none() {
                return Err(CronError::Never { pattern: pattern.text });
            }
            Ok(pattern)
        }

        /// The first time after `at`; none if there is none any more.
        pub(in crate::schedule) fn first_after(&self, at: SystemTime) -> Option<SystemTime> {
            // Before 1970 no clock was right.
            let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            // Whole seconds: what comes after this second comes after its fraction.
            let at =
                DateTime::from_timestamp(i64::try_from(since.as_secs()).ok()?, 0)?.with_timezone(&self.zone);
            let nexts = self.crons.iter().filter_map(|cron| cron.find_next_occurrence(&at, false).ok());
            let next = nexts.min()?;
            let since = u64::try_from(next.timestamp()).ok()?;
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(since))
        }

        /// Whether it names times of the day.
        pub(in crate::schedule) fn has_fixed_time(&self) -> bool {
            self.crons.iter().all(|cron| cron.determine_job_type() == JobType::FixedTime)
        }

        /// Bytes that it takes in memory, about.
        pub(in crate::schedule) fn bytes(&self) -> usize {
            self.crons.len() * CRON_BYTES
        }
    }

    impl fmt::Display for Pattern {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{} ({})", self.text, self.zone)
        }
    }

    /// One pattern for each time of the day that these fields name, if they are not too many.
    fn fixed_times(fields: &[&str]) -> Option<Vec<Cron>> {
        let (time, days) = fields.split_at(fields.len().checked_sub(3)?);
        let mut times = vec![String::new()];
        for field in time {
            let numbers = numbers(field)?;
            if times.len() * numbers.len() > MOST_TIMES {
                return None;
            }
            let longer = |time: &String| numbers.iter().map(|n| format!("{time}{n} ")).collect::<Vec<_>>();
            times = times.iter().flat_map(longer).collect();
        }
        times.iter().map(|time| Cron::from_str(&format!("{time}{}", days.join(" "))).ok()).collect()
    }

    /// The numbers of a field that is a list of numbers and ranges.
    fn numbers(field: &str) -> Option<Vec<u32>> {
        let mut numbers = Vec::new();
        for part in field.split(',') {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            numbers.extend(from.parse::<u32>().ok()?..=to.parse().ok()?);
        }
        Some(numbers)
    }

    const FIELDS: [&str; 6] = ["second", "minute", "hour", "day of the month", "month", "day of the week"];

    /// What the field of this name may be.
    fn allowed(field: &str) -> &'static str {
        match field {
            "hour" => "0 to 23",
            "day of the month" => "1 to 31, or L for the last",
            "month" => "1 to 12, or JAN to DEC",
            "day of the week" => {
                "0 to 7, where 0 and 7 are Sunday, or SUN to SAT, or 5#2 for the second Friday, 5L for the last"
            }
            _ => "0 to 59",
        }
    }

    /// The first field that is wrong by itself, with its name: each is read among stars.
    fn wrong_field<'p>(fields: &[&'p str]) -> Option<(&'static str, &'p str)> {
        let names = FIELDS.iter().skip(FIELDS.len().checked_sub(fields.len())?);
        let is_wrong = |at: usize| {
            let mut alone = vec!["*"; fields.len()];
            alone[at] = fields[at];
            Cron::from_str(&alone.join(" ")).is_err()
        };
        names.zip(fields).enumerate().find(|(at, _)| is_wrong(*at)).map(|(_, (name, field))| (*name, *field))
    }

    /// A zone that may have been meant.
    fn like(zone: &str) -> Option<&'static str> {
        let zone = zone.trim().to_lowercase().replace(' ', "_");
        let is_city = |known: &str| known.rsplit('/').next() == Some(&*zone);
        let mut names = TZ_VARIANTS.iter().map(|known| known.name());
        names.find(|known| known.to_lowercase() == zone || is_city(&known.to_lowercase()))
    }

    /// A pattern or a time zone that cannot be used.
    #[derive(Clone, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum CronError {
        /// There are too few fields or too many.
        Fields {
            /// The whole pattern.
            pattern: String,
            /// How many fields it has.
            found: usize,
        },
        /// One field is wrong.
        Field {
            /// The whole pattern.
            pattern: String,
            /// The name of the field.
            field: &'static str,
            /// What it says.
            text: String,
        },
        /// The pattern is wrong as a whole: a nickname that there is not, for example.
        Unreadable {
            /// The whole pattern.
            pattern: String,
        },
        /// There is no such time: the 30th of February.
        Never {
            /// The whole pattern.
            pattern: String,
        },
        /// There is no time zone of that name.
        Zone {
            /// The name that was given.
            zone: String,
            /// A name that may have been meant.
            like: Option<&'static str>,
        },
    }

    impl fmt::Display for CronError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Fields { pattern, found } => write!(
                    f,
                    "`{pattern}` has {found} field(s): it takes 5, minute, hour, day of the month, month and day of the week, or 6 \
                     with the second in front"
                ),
                Self::Field { pattern, field, text } => write!(
                    f,
                    "`{text}` cannot be the {field} of `{pattern}`: it is {}, also in lists and steps (1-5, */2)",
                    allowed(field)
                ),
                Self::Unreadable { pattern } => write!(
                    f,
                    "`{pattern}` is no pattern: it takes five fields, as in `0 2 * * *`, or @hourly, @daily, @weekly, @monthly or \
                     @yearly"
                ),
                Self::Never { pattern } => {
                    write!(f, "`{pattern}` never comes: look at the day of the month together with the month")
                }
                Self::Zone { zone, like } => {
                    write!(f, "there is no time zone `{zone}`: use a name of the IANA database")?;
                    match like {
                        Some(like) => write!(f, ", `{like}` perhaps"),
                        None => f.write_str(", as `Europe/Berlin` or `UTC`"),
                    }
                }
            }
        }
    }

    impl std::error::Error for CronError {}
}

/// Without the feature nobody can make a pattern.
#[cfg(not(feature = "cron"))]
mod without {
    use std::fmt;
    use std::time::SystemTime;

    #[derive(Clone)]
    pub(in crate::schedule) enum Pattern {}

    impl Pattern {
        pub(in crate::schedule) fn first_after(&self, _at: SystemTime) -> Option<SystemTime> {
            match *self {}
        }

        pub(in crate::schedule) fn has_fixed_time(&self) -> bool {
            match *self {}
        }
    }

    impl fmt::Display for Pattern {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            match *self {}
        }
    }
}
