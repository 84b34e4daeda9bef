//! Numbers as Lua writes them, without asking Lua: that would make a string of it, and may collect garbage.
//!
//! Versions of Lua differ in it, and each library is for one.

use std::fmt::{self, Write};

/// Lua has integers, and marks floats that look like one. Below 5.3 all numbers are floats, and look as C's `%.14g` writes them.
pub const HAS_INTEGERS: bool = cfg!(any(feature = "lua53", feature = "lua54", feature = "lua55"));
/// Digits of a float, and how many it is given if those do not tell it from its neighbours.
const SIGNIFICANT: (usize, usize) = if cfg!(feature = "lua55") { (15, 17) } else { (14, 14) };
/// LuaJIT writes for itself: it knows one NaN, and of two neighbours that are as near as each other it takes the one that is further
/// from zero, not the even one.
const LUAJIT: bool = cfg!(feature = "luajit");

/// A number in Lua's decimal notation: of an integer all digits; of a float 14 significant ones, as C's `%.14g`
/// writes it, with `.0` behind what would look like an integer where Lua [has any](HAS_INTEGERS).
#[derive(Clone, Copy)]
pub struct Decimal {
    /// The longest is a float with its sign, 17 digits, a point, four zeros before them, or an exponent; and what is looked at
    /// in between, of 41 digits.
    text: [u8; 64],
    len: usize,
}

impl Decimal {
    const EMPTY: Decimal = Decimal { text: [0; 64], len: 0 };

    pub fn integer(n: i64) -> Decimal {
        Decimal::of(format_args!("{n}"))
    }

    pub fn float(x: f64) -> Decimal {
        let sign = if x.is_sign_negative() { "-" } else { "" };
        if x.is_nan() {
            return Decimal::of(format_args!("{}nan", if LUAJIT { "" } else { sign }));
        } else if x.is_infinite() {
            return Decimal::of(format_args!("{sign}inf"));
        }
        // d.ddddddddddddde[-]x
        let (mut significant, most) = SIGNIFICANT;
        let x =
            if LUAJIT && Decimal::is_halfway(x, significant) { f64::from_bits(x.to_bits() + 1) } else { x };
        let mut all = Decimal::of(format_args!("{:.*e}", significant - 1, x.abs()));
        if most > significant && all.parse() != Some(x.abs()) {
            significant = most;
            all = Decimal::of(format_args!("{:.*e}", significant - 1, x.abs()));
        }
        let text = std::str::from_utf8(all.as_bytes()).unwrap_or_default();
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or_default();
        let (first, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let rest = rest.trim_end_matches('0');
        if !(-4..significant as i32).contains(&exponent) {
            let point = if rest.is_empty() { "" } else { "." };
            let (minus, exponent) = if exponent < 0 { ('-', -exponent) } else { ('+', exponent) };
            return Decimal::of(format_args!("{sign}{first}{point}{rest}e{minus}{exponent:02}"));
        } else if exponent < 0 {
            let zeros = (-exponent - 1) as usize;
            return Decimal::of(format_args!("{sign}0.{:0<zeros$}{first}{rest}", ""));
        }
        let before = exponent as usize;
        let (whole, fraction) = rest.split_at(before.min(rest.len()));
        let point = if fraction.is_empty() && !HAS_INTEGERS { "" } else { "." };
        let fraction = if fraction.is_empty() && HAS_INTEGERS { "0" } else { fraction };
        Decimal::of(format_args!("{sign}{first}{whole:0<before$}{point}{fraction}"))
    }

    /// Whether it is as far from the number with so many digits that is below it as from the one that is above.
    fn is_halfway(x: f64, digits: usize) -> bool {
        let all = Decimal::of(format_args!("{:.40e}", x.abs()));
        // The point is one of these.
        let mut rest = all.as_bytes().iter().skip(digits + 1).take_while(|b| **b != b'e');
        rest.next() == Some(&b'5') && rest.all(|b| *b == b'0')
    }

    fn parse(&self) -> Option<f64> {
        std::str::from_utf8(self.as_bytes()).ok()?.parse().ok()
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or(b"")
    }

    fn of(arguments: fmt::Arguments) -> Decimal {
        let mut decimal = Decimal::EMPTY;
        // What does not fit is left out, and everything fits.
        let _ = decimal.write_fmt(arguments);
        decimal
    }
}

impl Write for Decimal {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let end = self.len + s.len();
        let Some(room) = self.text.get_mut(self.len..end) else { return Err(fmt::Error) };
        room.copy_from_slice(s.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Decimal;

    fn float(x: f64) -> String {
        String::from_utf8_lossy(Decimal::float(x).as_bytes()).into_owned()
    }

    /// More of them, and those of other versions, held against Lua itself, are in `spec/library`.
    #[cfg(any(feature = "lua53", feature = "lua54"))]
    #[test]
    fn as_lua_writes_them() {
        for (x, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (3.0, "3.0"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (0.1 + 0.2, "0.3"),
            (1e13, "10000000000000.0"),
            (1e14, "1e+14"),
            (99999999999999.5, "1e+14"),
            (1e100, "1e+100"),
            (1.25e-5, "1.25e-05"),
            (0.00012, "0.00012"),
            (f64::MAX, "1.7976931348623e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072e-308"),
            (-f64::from_bits(1), "-4.9406564584125e-324"),
            (-0.000123456789012345, "-0.00012345678901234"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN.copysign(1.0), "nan"),
            (f64::NAN.copysign(-1.0), "-nan"),
        ] {
            assert_eq!(float(x), text);
        }
        assert_eq!(Decimal::integer(i64::MIN).as_bytes(), b"-9223372036854775808");
    }
}
