//! What the library has to say, for Prosody's logger.
//!
//! The crates say it with the macros of [`tracing`], on whatever thread they are, but never on the path of every stanza. Here is
//! the one subscriber: it keeps lines until the main thread hands them to the function that Lua gave, with the next
//! commit, which is at least once a second. So Lua is never called from within an engine, nor from another thread.

use mlua::prelude::*;
use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber, span};

/// A line is cut here, in bytes.
const LONGEST_LINE: usize = 2000;
/// Within this time the same is said once, since a disk that fails does so at every ack ...
const PERIOD: Duration = Duration::from_secs(600);
/// ... and no more than so many lines. As many may wait.
const MOST_LINES: usize = 256;

/// Where Lua keeps the function, out of its modules' reach.
const SINK: &str = "enjamb.log";

#[derive(Debug)]
struct Line {
    level: &'static str,
    target: &'static str,
    message: String,
}

#[derive(Default)]
struct Lines {
    waiting: Vec<Line>,
    left_out: usize,
    /// Hashes of what was said in this period, and when, the oldest first.
    said: VecDeque<(u64, Instant)>,
}

static LINES: Mutex<Lines> = Mutex::new(Lines { waiting: Vec::new(), left_out: 0, said: VecDeque::new() });
/// Whether anything waits: nearly never, and asked at every ack.
static ANY: AtomicBool = AtomicBool::new(false);

fn lines() -> MutexGuard<'static, Lines> {
    // Nobody panics while holding it.
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lines {
    fn add(&mut self, line: Line, now: Instant) {
        let mut hasher = DefaultHasher::new();
        (line.level, line.target, &line.message).hash(&mut hasher);
        let hash = hasher.finish();
        while self.said.front().is_some_and(|(_, at)| now.saturating_duration_since(*at) >= PERIOD) {
            self.said.pop_front();
        }
        if self.said.iter().any(|(h, _)| *h == hash) {
            return;
        }
        let full = self.said.len().max(self.waiting.len()) >= MOST_LINES;
        match (full, self.left_out) {
            (true, 0) => {
                self.note("too much goes wrong at once: what more there is to say is left out".into())
            }
            (true, _) | (false, 0) => {}
            (false, n) => self.note(format!("{n} lines were left out")),
        }
        if full {
            self.left_out += 1;
            return;
        }
        self.left_out = 0;
        self.said.push_back((hash, now));
        self.waiting.push(line);
    }

    fn note(&mut self, message: String) {
        self.waiting.push(Line { level: "warn", target: "log", message });
    }

    fn take(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.waiting)
    }
}

/// As Prosody calls them.
fn level(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        _ => "debug",
    }
}

/// The crate, without what all have in common.
fn target(path: &'static str) -> &'static str {
    let name = path.split("::").next().unwrap_or(path);
    name.strip_prefix("enjamb_").unwrap_or(name)
}

/// Writes the message, and behind it other fields if there are any.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

struct ToProsody;

impl Subscriber for ToProsody {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG && metadata.is_event()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let mut message = text.0;
        let end = (0..=LONGEST_LINE).rev().find(|&end| message.is_char_boundary(end));
        message.truncate(end.unwrap_or(0));
        let metadata = event.metadata();
        let line = Line { level: level(metadata.level()), target: target(metadata.target()), message };
        lines().add(line, Instant::now());
        ANY.store(true, Ordering::Release);
    }

    // No spans are enabled.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// From now on all that is said comes here. Panics as well: of a server that has become a daemon nobody reads stderr.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // It fails only for whoever has set another one before, in a program that is no server.
        if tracing::subscriber::set_global_default(ToProsody).is_ok() {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                tracing::error!("This is a bug in Enjamb, please report it: {panic}");
                before(panic);
            }));
        }
    });
}

/// Gives Lua what waits. Nothing may be borrowed: whoever logs may do anything.
pub fn hand_over(lua: &Lua) {
    if !ANY.load(Ordering::Relaxed) {
        return;
    }
    // Without a function it waits on: modules are loaded one after the other.
    let Ok(Some(sink)) = lua.named_registry_value::<Option<LuaFunction>>(SINK) else { return };
    ANY.store(false, Ordering::Relaxed);
    let waiting = lines().take();
    for Line { level, target, message } in waiting {
        // A log that fails is told nobody; it must not hold up acks.
        let _ = sink.call::<()>((level, target, message));
    }
}

/// `log(sink)`: from now on `sink(level, crate, message)` is called for what the library has to say, from within the
/// functions that commit.
fn log(lua: &Lua, sink: LuaFunction) -> LuaResult<()> {
    lua.set_named_registry_value(SINK, sink)?;
    hand_over(lua);
    Ok(())
}

pub fn function(lua: &Lua) -> LuaResult<LuaFunction> {
    listen();
    lua.create_function(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: impl Into<String>) -> Line {
        Line { level: "error", target: "journal", message: message.into() }
    }

    #[test]
    fn what_is_said_again_soon_is_said_once() {
        let (mut lines, start) = (Lines::default(), Instant::now());
        for seconds in [0, 1, 599, 600, 601] {
            lines.add(line("the same"), start + Duration::from_secs(seconds));
            lines.add(line(format!("another {seconds}")), start + Duration::from_secs(seconds));
        }
        let said = lines.take().into_iter().filter(|l| l.message == "the same").count();
        assert_eq!(said, 2);
    }

    #[test]
    fn no_more_is_said_than_the_bound_taken_or_not() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let mut said = Vec::new();
        for n in 0..MOST_LINES + 7 {
            lines.add(line(n.to_string()), now);
            if n == 100 {
                said.extend(lines.take());
            }
        }
        said.extend(lines.take());
        assert_eq!(said.len(), MOST_LINES + 1);
        assert!(said.last().is_some_and(|l| l.message.starts_with("too much")));
        lines.add(line("later"), now + PERIOD);
        let said: Vec<_> = lines.take().into_iter().map(|l| l.message).collect();
        assert_eq!(said, ["7 lines were left out", "later"]);
        for n in 0..10 * MOST_LINES {
            lines.add(line(format!("again {n}")), now + PERIOD * (2 + n as u32));
        }
        assert!(lines.take().len() <= MOST_LINES + 1, "nobody took them");
    }

    #[test]
    fn a_target_is_a_crate() {
        assert_eq!(target("enjamb_journal::sync"), "journal");
        assert_eq!(target("enjamb::rooms"), "enjamb");
    }
}
