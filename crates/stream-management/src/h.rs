//! The counter of handled stanzas.

use std::str::FromStr;

/// A count of stanzas modulo 2^32 (XEP-0198 §4: from 2^32-1 it goes back to zero).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct H(pub u32);

/// Not an `xs:unsignedInt` in its plain form: decimal digits only, at most 4294967295.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'h' must be a decimal number from 0 to 4294967295")]
pub struct MalformedH;

impl H {
    /// The count after `n` more stanzas.
    #[must_use]
    pub fn plus(self, n: usize) -> H {
        // Truncation is what counting modulo 2^32 means.
        H(self.0.wrapping_add(n as u32))
    }

    /// How many stanzas lie between `earlier` and this count, going upwards.
    pub fn since(self, earlier: H) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

impl FromStr for H {
    type Err = MalformedH;

    fn from_str(text: &str) -> Result<H, MalformedH> {
        // u32's own parser takes a leading '+', which a peer that counts never writes.
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(MalformedH);
        }
        text.parse().map(H).map_err(|_| MalformedH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_unsigned_decimals_only() {
        for (text, h) in [("0", 0), ("7", 7), ("007", 7), ("4294967295", u32::MAX)] {
            assert_eq!(text.parse(), Ok(H(h)), "{text}");
        }
        for text in [
            "",
            " ",
            "-1",
            "+1",
            "0x10",
            "1e3",
            "1.5",
            " 1",
            "1 ",
            "1\n",
            "4294967296",
            "99999999999999999999",
            "a",
            "١",
        ] {
            assert_eq!(text.parse::<H>(), Err(MalformedH), "{text:?}");
        }
    }

    #[test]
    fn wraps() {
        assert_eq!(H(u32::MAX).plus(1), H(0));
        assert_eq!(H(u32::MAX - 1).plus(5), H(3));
        assert_eq!(H(3).since(H(u32::MAX - 1)), 5);
    }
}
