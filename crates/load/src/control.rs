//! How whoever drives a scenario and the scenario talk: a JSON object per line on standard output (`event` says what
//! it is, the last one is `result`), and words on standard input.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin, stdin};

/// Tells the driver.
pub fn tell(event: &str, mut what: Value) {
    what["event"] = json!(event);
    println!("{what}");
}

/// What the driver says.
pub struct Driver {
    lines: Lines<BufReader<Stdin>>,
}

impl Driver {
    /// There is one standard input: one of these.
    pub fn new() -> Driver {
        Driver { lines: BufReader::new(stdin()).lines() }
    }

    /// Waits for a line that begins with `word` and returns the rest of it. When the driver is gone, so is its
    /// word: `None`.
    pub async fn wait_for(&mut self, word: &str) -> Option<String> {
        loop {
            let line = self.lines.next_line().await.ok()??;
            if let Some(rest) = line.trim().strip_prefix(word) {
                return Some(rest.trim().to_owned());
            }
        }
    }
}
