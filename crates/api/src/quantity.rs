//! Quantities: `100m`, `1.5Gi`, `12e6`. Held exactly, in billionths; written in canonical form, in which no precision
//! is lost, no fraction is written and the suffix is as large as possible.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

const NANO: i128 = 1_000_000_000;
/// The largest magnitude: 2^63-1. What is larger is capped to it.
const MAX: i128 = (i64::MAX as i128) * NANO;
/// How many digits can be read before a value is capped or vanishes below a billionth.
const MAX_DIGITS: usize = 64;

/// Which family of suffixes a quantity was written with, and is written with again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `n u m k M G T P E`
    #[default]
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`
    BinarySi,
    /// `e3`
    DecimalExponent,
}

/// Equality and order are those of the number: `1Gi` equals `1024Mi`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    pub const ZERO: Self = Self { nano: 0, format: Format::DecimalSi };

    pub fn from_value(value: i64, format: Format) -> Self {
        Self { nano: i128::from(value) * NANO, format }
    }

    pub fn from_milli(milli: i64, format: Format) -> Self {
        Self { nano: i128::from(milli) * (NANO / 1000), format }
    }

    /// The whole number, fractions rounded away from zero.
    pub fn value(&self) -> i64 {
        saturate(divide_up(self.nano, NANO))
    }

    /// In thousandths, rounded away from zero.
    pub fn milli_value(&self) -> i64 {
        saturate(divide_up(self.nano, NANO / 1000))
    }

    pub fn as_f64(&self) -> f64 {
        self.nano as f64 / NANO as f64
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    pub fn is_negative(&self) -> bool {
        self.nano < 0
    }

    /// Whether it is a whole number.
    pub fn is_whole(&self) -> bool {
        self.nano % NANO == 0
    }

    /// Rounded away from zero to thousandths, as resource amounts are when they are stored.
    #[must_use]
    pub fn round_to_milli(mut self) -> Self {
        self.nano = divide_up(self.nano, NANO / 1000) * (NANO / 1000);
        self
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl AddAssign for Quantity {
    /// Zero takes over the format of what is added to it.
    fn add_assign(&mut self, other: Self) {
        if self.is_zero() {
            self.format = other.format;
        }
        self.nano = (self.nano + other.nano).clamp(-MAX, MAX);
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self += Self { nano: -other.nano, format: other.format };
    }
}

impl Add for Quantity {
    type Output = Self;
    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl Sub for Quantity {
    type Output = Self;
    fn sub(mut self, other: Self) -> Self {
        self -= other;
        self
    }
}

impl FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (negative, rest) = match text.as_bytes().first() {
            None => return Err(Error::Format),
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
        };
        let digits_end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (whole, rest) = rest.split_at(digits_end);
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(after) => after.split_at(after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len())),
            None => ("", rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(Error::Format);
        }
        let scale = Scale::parse(suffix)?;
        let nano = scale.apply(whole, fraction);
        Ok(Self { nano: if negative { -nano } else { nano }, format: scale.format })
    }
}

impl TryFrom<&Text> for Quantity {
    type Error = Error;
    fn try_from(text: &Text) -> Result<Self, Error> {
        text.0.parse()
    }
}

impl From<Quantity> for Text {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.to_string())
    }
}

/// What a suffix multiplies by: `2^binary * 10^decimal`.
struct Scale {
    format: Format,
    binary: u32,
    decimal: i32,
}

impl Scale {
    fn parse(suffix: &str) -> Result<Self, Error> {
        let well_formed = {
            let letters = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
            let number = letters.strip_prefix(['-', '+']).unwrap_or(letters);
            number.bytes().all(|b| b.is_ascii_digit())
        };
        if !well_formed {
            return Err(Error::Format);
        }
        let decimal = |decimal| Ok(Self { format: Format::DecimalSi, binary: 0, decimal });
        let binary = |binary| Ok(Self { format: Format::BinarySi, binary, decimal: 0 });
        match suffix {
            "n" => decimal(-9),
            "u" => decimal(-6),
            "m" => decimal(-3),
            "" => decimal(0),
            "k" => decimal(3),
            "M" => decimal(6),
            "G" => decimal(9),
            "T" => decimal(12),
            "P" => decimal(15),
            "E" => decimal(18),
            "Ki" => binary(10),
            "Mi" => binary(20),
            "Gi" => binary(30),
            "Ti" => binary(40),
            "Pi" => binary(50),
            "Ei" => binary(60),
            _ => {
                let exponent = suffix.strip_prefix(['e', 'E']).ok_or(Error::Suffix)?;
                let decimal = exponent.parse().map_err(|_| Error::Suffix)?;
                Ok(Self { format: Format::DecimalExponent, binary: 0, decimal })
            }
        }
    }

    /// The magnitude in billionths, what lies below one rounded up, what lies above the maximum capped.
    fn apply(&self, whole: &str, fraction: &str) -> i128 {
        let digits: String = format!("{whole}{fraction}").trim_start_matches('0').chars().take(MAX_DIGITS).collect();
        if digits.is_empty() {
            return 0;
        }
        let written = whole.len() + fraction.len() - leading_zeros(whole, fraction);
        let dropped = i64::try_from(written.saturating_sub(MAX_DIGITS)).unwrap_or(i64::MAX);
        let places = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
        let exponent = i64::from(self.decimal) + 9 + dropped - places;
        scale_up(&digits, self.binary, exponent)
    }
}

fn leading_zeros(whole: &str, fraction: &str) -> usize {
    whole.bytes().chain(fraction.bytes()).take_while(|&b| b == b'0').count()
}

/// `digits * 2^binary * 10^exponent`, rounded up and capped.
fn scale_up(digits: &str, binary: u32, exponent: i64) -> i128 {
    // Long multiplication in base 10 on the digit string keeps it exact however long the input is.
    let mut number: Vec<u8> = digits.bytes().rev().map(|b| b - b'0').collect();
    for _ in 0..binary {
        double(&mut number);
    }
    let length = i64::try_from(number.len()).unwrap_or(i64::MAX);
    if exponent.saturating_add(length) > 40 {
        return MAX;
    }
    if exponent >= 0 {
        let shifted = number.iter().rev().fold(0i128, |acc, &d| acc.saturating_mul(10).saturating_add(i128::from(d)));
        let factor = 10i128.checked_pow(u32::try_from(exponent).unwrap_or(u32::MAX));
        return factor.map_or(MAX, |f| shifted.saturating_mul(f)).min(MAX);
    }
    let cut = usize::try_from(-exponent).unwrap_or(usize::MAX).min(number.len());
    let (below, above) = number.split_at(cut);
    let kept = above.iter().rev().fold(0i128, |acc, &d| acc.saturating_mul(10).saturating_add(i128::from(d)));
    let rest = below.iter().any(|&d| d != 0);
    kept.saturating_add(i128::from(rest)).min(MAX)
}

fn double(number: &mut Vec<u8>) {
    let mut carry = 0;
    for digit in number.iter_mut() {
        let doubled = *digit * 2 + carry;
        *digit = doubled % 10;
        carry = doubled / 10;
    }
    if carry > 0 {
        number.push(carry);
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Binary suffixes cannot carry fractions, and below 1024 there is none to write.
        let small = self.nano.abs() < 1024 * NANO;
        match self.format {
            Format::BinarySi if !small && self.is_whole() => binary_form(self.nano / NANO, f),
            Format::BinarySi | Format::DecimalSi => decimal_form(self.nano, false, f),
            Format::DecimalExponent => decimal_form(self.nano, true, f),
        }
    }
}

fn binary_form(mut value: i128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut suffixes = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].into_iter();
    let mut suffix = "";
    while value % 1024 == 0 && value != 0 {
        let Some(next) = suffixes.next() else { break };
        value /= 1024;
        suffix = next;
    }
    write!(f, "{value}{suffix}")
}

fn decimal_form(nano: i128, exponent_form: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    if nano == 0 {
        return f.write_str("0");
    }
    let (mut value, mut step) = (nano, 0);
    while value % 1000 == 0 && step < SUFFIXES.len() - 1 {
        value /= 1000;
        step += 1;
    }
    if exponent_form {
        let exponent = i32::try_from(step).unwrap_or_default() * 3 - 9;
        return if exponent == 0 { write!(f, "{value}") } else { write!(f, "{value}e{exponent}") };
    }
    write!(f, "{value}{}", SUFFIXES[step])
}

/// Division that rounds away from zero.
fn divide_up(value: i128, by: i128) -> i128 {
    let whole = value / by;
    if value % by == 0 { whole } else { whole + value.signum() }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Quantity {
        text.parse().expect("a quantity")
    }

    #[test]
    fn canonical_form() {
        let check = |text: &str, expected: &str| assert_eq!(parse(text).to_string(), expected, "{text}");
        check("0", "0");
        check("0Gi", "0");
        check("0.5", "500m");
        check("1000m", "1");
        check("1.5Gi", "1536Mi");
        check("1024Mi", "1Gi");
        check("1000Mi", "1000Mi");
        check("0.5Ki", "512");
        check("1023", "1023");
        check("1500", "1500");
        check("12000", "12k");
        check("12e6", "12e6");
        check("1e3", "1e3");
        check("1500e-3", "1500e-3");
        check("100u", "100u");
        check("0.1n", "1n");
        check("-0.1n", "-1n");
        check("+1", "1");
        check(".5", "500m");
        check("5.", "5");
        check("1.1Ki", "1126400m");
        check("9223372036854775807", "9223372036854775807");
        check("99999999999999999999", "9223372036854775807");
        check("8Ei", "9223372036854775807");
        check("7Ei", "7Ei");
        check("1e100", "9223372036854775807");
        check("000000000000000000000000000000000000000000000000000000000000000000000000001", "1");
    }

    #[test]
    fn values_round_away_from_zero() {
        let check = |text: &str, value, milli| {
            assert_eq!((parse(text).value(), parse(text).milli_value()), (value, milli), "{text}");
        };
        check("100m", 1, 100);
        check("-100m", -1, -100);
        check("1.0001", 2, 1001);
        check("1Gi", 1 << 30, 1000 << 30);
        check("8E", 8_000_000_000_000_000_000, i64::MAX);
    }

    #[test]
    fn refusals() {
        let check = |text: &str, error| assert_eq!(text.parse::<Quantity>(), Err(error), "{text}");
        check("", Error::Format);
        check("abc", Error::Format);
        check("1 Gi", Error::Format);
        check("1x", Error::Format);
        check("-", Error::Format);
        check("1Kii", Error::Suffix);
        check("1mm", Error::Suffix);
        check("1GiB", Error::Format);
        check("1K", Error::Suffix);
        check("1.2.3", Error::Format);
    }

    #[test]
    fn arithmetic_keeps_the_format_of_the_first_that_is_not_zero() {
        assert_eq!((Quantity::ZERO + parse("1Gi")).to_string(), "1Gi");
        assert_eq!((parse("1Gi") + parse("1Gi")).to_string(), "2Gi");
        assert_eq!((parse("500m") + parse("1.5")).to_string(), "2");
        assert_eq!((parse("1") - parse("250m")).to_string(), "750m");
        assert_eq!(parse("1Gi"), parse("1024Mi"));
        assert!(parse("1G") < parse("1Gi"));
    }
}
